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
from moorage.errors import MoorageError, PreflightError, UsageError
from moorage.launch.interrupts import terminate_like_ctrl_c
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
    "engine": "the Python environment of an engine",
    "quickstart": "start a tiny model, ask it something, stop it",
}

PLATFORMLESS = frozenset({"validate", "archs", "image", "engine", "quickstart"})
"""Verbs that have no platform."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    out = Output(as_json="--json" in split_extra(words)[0])
    try:
        return _run(words, out)
    except MoorageError as fault:
        out.failure(fault)
        return fault.exit_status
    except KeyboardInterrupt:
        out.interrupted()
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nobody is left to tell
        return 0
    except ModuleNotFoundError as fault:
        out.failure(_missing_package(fault))
        return PreflightError.exit_status
    except Exception as fault:
        if os.environ.get("MOORAGE_DEBUG"):
            raise
        out.failure(_bug(fault))
        return 8


def main_on_platform(platform: str, words: Sequence[str]) -> int:
    """The same with `--platform` fixed, for verbs that take one; naming another is a wrong command line."""
    if not words or words[0] not in VERBS or words[0] in PLATFORMLESS:
        return main(words)
    verb, (ours, extra) = words[0], split_extra(words[1:])
    if any(word == "--platform" or word.startswith("--platform=") for word in ours):
        Output(as_json="--json" in ours).failure(
            UsageError(f"the platform is fixed to {platform}: leave --platform away")
        )
        return UsageError.exit_status
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
    module = _verb_module(verb)
    parser = Parser(verb, module.SUMMARY)
    module.add_arguments(parser)
    args = parser.parse(words)
    args.extra = tuple(extra)
    if extra and verb != "start":
        raise UsageError(f"moor {verb} takes nothing after --", hint=f"moor {verb} --help")
    terminate_like_ctrl_c()
    data = module.run(args, Plane(os.environ), out)
    out.success(data, module.show)
    return 0


def _verb_module(verb: str) -> ModuleType:
    if verb not in VERBS:
        raise UsageError(
            f"unknown verb {verb!r}: the verbs are {', '.join(VERBS)}",
            code="unknown_verb",
            hint=nearest(verb, VERBS) or "moor --help",
        )
    return importlib.import_module(f"moorage.cli.verbs.{verb}")


def _overview() -> str:
    rows = "\n".join(f"  {verb:<11} {summary}" for verb, summary in VERBS.items())
    tail = (__doc__ or "").partition("\n\n")[2].strip()
    return f"usage: moor VERB [--json] …      moor VERB --help says more\n\n{rows}\n\n{tail}"


def _missing_package(fault: ModuleNotFoundError) -> MoorageError:
    return PreflightError(
        f"the Python package {fault.name!r} is not installed for {sys.executable}",
        code="package_missing",
        hint="scripts/quickstart makes an environment in .venv; or install this checkout",
        next=["pip install -e ."],
    )


def _bug(fault: Exception) -> MoorageError:
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
