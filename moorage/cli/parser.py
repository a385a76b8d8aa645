"""Reading the command line: argparse that raises our errors, and the flags that several verbs share."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterable, Sequence

from moorage.errors import UsageError
from moorage.launch.platforms import require_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

EXITS = (
    "exit: 0 ok, 2 usage, 3 not found, 4 ambiguous, 5 preflight or auth, 6 conflict, 7 not ready in time, "
    "8 failed for good, 9 try again, 130 interrupted"
)
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Parser(argparse.ArgumentParser):
    """The parser of one verb. Abbreviated flags are refused: they would change meaning with the next release."""

    def __init__(self, verb: str, summary: str) -> None:
        super().__init__(
            prog=f"moor {verb}", description=summary, epilog=EXITS, allow_abbrev=False, formatter_class=_help_formatter
        )
        self._verb = verb
        self._words: list[str] = []
        self.add_argument("--json", action="store_true", help="one JSON object on stdout, talk on stderr")

    def error(self, message: str) -> NoReturn:
        """What argparse calls on a wrong command line. It misses a flag before it sees that one was misspelt."""
        flags = self._option_string_actions
        unknown = [word for word in self._words if word.startswith("--") and word.partition("=")[0] not in flags]
        if unknown:
            raise self._unknown(unknown[0])
        dashed = "a value that begins with - is written --flag=-value; " if "expected one argument" in message else ""
        raise UsageError(message, hint=f"{dashed}moor {self._verb} --help")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments. Raises UsageError, with the nearest flag for an unknown one."""
        self._words = list(words)
        args, unknown = self.parse_known_args(words)
        if unknown:
            raise self._unknown(unknown[0])
        return args

    def _unknown(self, word: str) -> UsageError:
        near = nearest(word.partition("=")[0], self._option_string_actions)
        return UsageError(f"unknown argument {word!r}", hint=near or f"moor {self._verb} --help")


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """Told its width: argparse would import shutil to find it, at every start of every command."""
    return argparse.HelpFormatter(prog, width=_columns())


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 20 else 100


def split_extra(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(ours, what stands after the first `--`)."""
    words = list(words)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else ""


def one_of(flag: str, value: str, known: Sequence[str]) -> str:
    """`value`, if it is one of them. Raises UsageError listing them."""
    if value in known:
        return value
    raise UsageError(f"{flag} {value!r}: it is one of {', '.join(known)}", code="bad_value", hint=nearest(value, known))


def duration_s(text: str) -> float:
    """Seconds of `90`, `10s`, `5m` or `2h`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text.strip())
    value = float(match[1]) * UNITS_S[match[2]] if match else math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 90, 10s, 5m or 2h")
    return value


def positive_duration_s(text: str) -> float:
    """A duration above zero."""
    value = duration_s(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: more than zero")
    return value


def add_target(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """The flags that name a service."""
    if positional:
        parser.add_argument("positional_id", nargs="?", metavar="JOB_ID", help="the same as --job-id")
    parser.add_argument("--job-id", metavar="ID", help="the service with this id")
    parser.add_argument("--network-arch", metavar="ARCH", help="the only service of this arch")
    add_platform(parser, "only among the services of this platform")


def add_platform(parser: argparse.ArgumentParser, meaning: str) -> None:
    """`--platform`, where it narrows a choice; an unknown one is refused rather than found to have no services."""
    parser.add_argument("--platform", metavar="X", type=require_platform, help=meaning)


def target_of(args: argparse.Namespace) -> dict[str, Any]:
    """`{job_id, network_arch}` as they were given. Raises UsageError when two ids disagree."""
    positional = getattr(args, "positional_id", None)
    if positional and args.job_id and positional != args.job_id:
        raise UsageError(f"two ids: {positional} and --job-id {args.job_id}", hint="give one")
    return {"job_id": positional or args.job_id, "network_arch": args.network_arch}
