"""What went wrong with an application's replicas lately, and how long it is left alone for that: pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moorage.errors import MoorageError
from moorage.serving.backends.launch.deciding import backoff_s
from moorage.serving.backends.launch.jobs import Deed, Done
from moorage.serving.reasons import Reason

__all__ = ["Trouble", "after", "last_words", "no_room"]

HOLD_S = 300.0
"""After so long without a failure the next one counts as the first."""
NO_ROOM = frozenset({"no_capacity", "ports_exhausted"})
LONGEST_WHY = 300
TAKEN_PORT = "address already in use"
_CAUSE = re.compile(r"\b[A-Za-z_.]*(?:Error|Exception)\b: \S")
_WRAPPER = "Engine core initialization failed"
"""vLLM's last word is this, and the cause stands above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The failures of one application. Times are seconds of a clock that is never set."""

    at: float
    """The latest."""
    failures: int = 1
    """In a row."""
    message: str = ""
    reason: Reason = Reason.DEPLOY_FAILED
    passing: bool = False
    """It may go away by itself: no room, a platform that does not answer, a port that was taken meanwhile."""
    refused: bool = False
    """An engine that runs will not have the adapters: waiting does not help."""
    tail: tuple[str, ...] = ()
    """The last lines of the replica that ended last, each with its name in front, and that it ended."""

    @property
    def not_before(self) -> float:
        """When the next replica may be started."""
        return self.at + backoff_s(self.failures)


def after(before: Trouble | None, done: Done, now: float) -> Trouble | None:
    """The trouble after a job has ended; the same as before when it was none."""
    if done.fault is None and not done.detail:
        return before
    if done.deed is Deed.NOTE or (done.deed is Deed.ADAPT and (done.fault is None or done.fault.retryable)):
        return before
    failures = before.failures + 1 if before is not None and now - before.at < HOLD_S else 1
    name = f"replica-{done.slot}"
    if done.fault is not None:
        tail = tuple(str(line) for line in (done.fault.data or {}).get("log_tail", []))
        return Trouble(
            at=now,
            failures=failures,
            message=_with_hint(done.fault),
            reason=Reason.NO_CAPACITY if done.fault.code in NO_ROOM else Reason.DEPLOY_FAILED,
            passing=done.fault.retryable or done.fault.code in NO_ROOM or done.deed is Deed.END,
            refused=done.deed is Deed.ADAPT,
            tail=_ended(name, tail, done.fault.message) or (before.tail if before is not None else ()),
        )
    words = last_words(done.tail)
    return Trouble(
        at=now,
        failures=failures,
        message=f"{name} ended ({done.detail})" + (f": {words}" if words else ""),
        passing=any(TAKEN_PORT in line.lower() for line in done.tail),
        tail=_ended(name, done.tail, done.detail),
    )


def no_room(before: Trouble | None, message: str, now: float) -> Trouble:
    """There is nothing free to start a replica with."""
    failures = before.failures + 1 if before is not None and now - before.at < HOLD_S else 1
    return Trouble(at=now, failures=failures, message=message, reason=Reason.NO_CAPACITY, passing=True)


def last_words(lines: Sequence[str]) -> str:
    """The line that says why: the last one that names an error, but for an engine's own wrapper of it."""
    causes = [line for line in lines if _CAUSE.search(line) and _WRAPPER not in line]
    spoken = causes or [line for line in lines if line.strip()]
    return spoken[-1].strip()[-500:] if spoken else ""


def _with_hint(fault: MoorageError) -> str:
    return f"{fault.message}; {fault.hint}" if fault.hint else fault.message


def _ended(name: str, lines: Sequence[str], why: str) -> tuple[str, ...]:
    """The lines as they were shown while it lived, so that nobody who follows them is told them twice."""
    if not lines:
        return ()
    first = next(iter(why.splitlines()), "")
    return (*(f"[{name}] {line}" for line in lines), f"[{name}] -- it ended: {first[:LONGEST_WHY]} --")
