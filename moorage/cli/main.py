"""`moor VERB …`: find the verb, run it, show the result or the error once.

Exit: 0 ok · 2 usage · 3 not found · 4 ambiguous · 5 preflight or auth · 6 conflict · 7 not ready in time ·
8 failed for good · 9 try again · 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from moorage.cli.output import Output
from moorage.cli.parser import Parser, nearest, split_extra
from moorage.errors import InterruptedStart, MoorageError, PreflightError, UsageError
from moorage.launch.interrupts import ignore_signals, terminate_like_ctrl_c
from moorage.launch.plane import Plane

VERBS = {
    "start": "start a service and wait until it is ready",
    "list": "what is running, as it is now",
    "status": "one service, as it is now",
    "wait": "wait until a service is ready",
    "logs": "what a service wrote",
    "request": "send a chat completion to the right service",
    "stop": "stop a service and verify that it is gone",
    "recover": "rebuild the registry from what the platforms know",
    "prune": "forget dead services and remove what is left of them",
    "doctor": "check what a platform needs",
    "validate": "check the reference files of a checkout",
    "archs": "what can be launched",
    "image": "the container image of an arch",
    "gateway": "one address in front of engines, which records every token",
    "serve": "the serving control plane: its API",
    "models": "models declared to a serving API: apply, list, get, scale, roll back, delete, watch",
    "trace": "what a gateway recorded: look at it, verify it, replay it",
    "pool": "look at a pool, follow it, write it to a file, let old ones go",
    "rewards": "reward functions that a gateway can offer",
    "engine": "the Python environment of an engine",
    "template": "what a model's chat template does to sessions",
    "quickstart": "start a tiny model, ask it something, stop it",
}

SUBVERBS = frozenset(
    {"gateway keys", "serve api", "serve down", "serve status", "serve token", "serve up", "serve user"}
)
"""Two words that are a verb of their own, in a file of that name."""

PLATFORMLESS = frozenset(
    (
        "validate",
        "archs",
        "image",
        "engine",
        "gateway",
        "models",
        "pool",
        "rewards",
        "serve",
        "trace",
        "quickstart",
        "template",
    )
)
"""Verbs that have no platform."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. It is the end of the program: what it tells, no later signal changes."""
    words = list(sys.argv[1:] if argv is None else argv)
    out = Output(as_json="--json" in split_extra(words)[0])
    try:
        return _run(words, out)
    except BrokenPipeError:
        out.abandon()  # the reader went away: nobody is left to tell
        return 0
    except (Exception, KeyboardInterrupt) as fault:
        ignore_signals()
        if isinstance(fault, KeyboardInterrupt):
            exec("", {})  # noqa: S102 - CPython remembers one that left an exec, and would end as if nobody caught it
        if os.environ.get("MOORAGE_DEBUG") and not isinstance(fault, MoorageError | KeyboardInterrupt):
            raise
        return out.failure(_as_error(fault))


def main_on_platform(platform: str, words: Sequence[str]) -> int:
    """The same with `--platform` fixed, for verbs that take one; naming another is a wrong command line."""
    if not words or words[0] not in VERBS or words[0] in PLATFORMLESS:
        return main(words)
    verb, (ours, extra) = words[0], split_extra(words[1:])
    if any(word == "--platform" or word.startswith("--platform=") for word in ours):
        fault = UsageError(f"the platform is fixed to {platform}: leave --platform away")
        return Output(as_json="--json" in ours).failure(fault)
    return main([verb, "--platform", platform, *ours, *(["--", *extra] if extra else [])])


def _run(words: list[str], out: Output) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        out.help(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from moorage import __version__

        out.help(f"moor {__version__}")
        return 0
    verb, (words, extra) = words[0], split_extra(words[1:])
    if words and f"{verb} {words[0]}" in SUBVERBS:
        verb, words = f"{verb} {words[0]}", words[1:]
    module = _verb_module(verb)
    parser = Parser(verb, module.SUMMARY)
    module.add_arguments(parser)
    if {"-h", "--help"} & set(words):
        out.help(parser.format_help())
        return 0
    args = parser.parse(words)
    args.extra = tuple(extra)
    if extra and verb != "start":
        raise UsageError(f"moor {verb} takes nothing after --", hint=f"moor {verb} --help")
    terminate_like_ctrl_c()
    data = module.run(args, Plane(os.environ), out)
    ignore_signals()
    out.success(data, module.show)
    return 0


def _verb_module(verb: str) -> ModuleType:
    if verb not in VERBS and verb not in SUBVERBS:
        raise UsageError(
            f"unknown verb {verb!r}: the verbs are {', '.join(VERBS)}",
            code="unknown_verb",
            hint=nearest(verb, VERBS) or "moor --help",
        )
    return importlib.import_module(f"moorage.cli.verbs.{verb.replace(' ', '_')}")


def _overview() -> str:
    rows = "\n".join(f"  {verb:<11} {summary}" for verb, summary in VERBS.items())
    tail = (__doc__ or "").partition("\n\n")[2].strip()
    return f"usage: moor VERB [--json] …      moor VERB --help says more\n\n{rows}\n\n{tail}"


def _as_error(fault: BaseException) -> MoorageError:
    if isinstance(fault, MoorageError):
        return fault
    if isinstance(fault, KeyboardInterrupt):
        return InterruptedStart("interrupted")
    return _missing_package(fault) if isinstance(fault, ModuleNotFoundError) else _bug(fault)


def _missing_package(fault: ModuleNotFoundError) -> MoorageError:
    return PreflightError(
        f"the Python package {fault.name!r} is not installed for {sys.executable}",
        code="package_missing",
        hint="scripts/quickstart makes an environment in .venv; or install this checkout",
        next=["pip install -e ."],
    )


def _bug(fault: BaseException) -> MoorageError:
    """An exception nobody expected, told as an error; MOORAGE_DEBUG=1 shows where it came from."""
    error = MoorageError(
        f"unexpected {type(fault).__name__}: {fault}",
        code="internal",
        hint="this is a bug in moor: run it again with MOORAGE_DEBUG=1 and report what it prints",
    )
    error.__cause__ = fault
    return error


if __name__ == "__main__":
    sys.exit(main())
