"""What a build that failed wrote last: read right before it is taken away, since nobody can read it after that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from moorage.serving.backends.contract import AppState, Seen, Wanted
from moorage.serving.model import FailureLog, Model, State
from moorage.serving.plan.sight import application
from moorage.serving.replica_lines import LONGEST_LINE, by_replica, last_of_each
from moorage.serving.store.contract import Change

__all__ = ["LINES", "failing", "last_lines", "with_logs"]

LINES = 200
"""Of a build, over all of its replicas."""
MOST_CHARACTERS = 1 << 17
"""Of all of them together; the first lines go when there are more."""
READ_WITHIN_S = 3.0
"""Spent on reading in one pass; what fails beside that goes without. A pass must not outlast its lease."""
_LEAVING = (State.DELETING, State.DELETED)

Logs = Callable[[str, int], Iterator[str]]
"""`Backend.logs`."""


def with_logs(
    changes: Sequence[Change],
    failed: Mapping[str, str],
    logs: Logs,
    now: datetime,
    *,
    before_each: Callable[[], object],
    steady: Callable[[], float] = time.monotonic,
) -> list[Change]:
    """The changes, each with what its build of `failed` (model key → application) wrote last.

    What cannot be read is left out: a build is given up whether or not it can be told why. `before_each` is called
    before every reading, and raises to stop.
    """
    until = steady() + READ_WITHIN_S
    made = []
    for change in changes:
        app = failed.get(change.model_key)
        if app is not None and steady() < until:
            before_each()
            lines = _read(logs, app)
            if lines:
                change = replace(change, failure_log=FailureLog(app=app, failed_at=now, lines=lines))
        made.append(change)
    return made


def failing(
    models: Iterable[Model], changes: Iterable[Change], wanted: Iterable[Wanted], seen: Mapping[str, Seen]
) -> dict[str, str]:
    """Model key → the application of its newest revision, where that is there, and goes because it failed."""
    going = {change.model_key for change in changes if change.state not in _LEAVING}
    stays = {one.app for one in wanted}
    found = {}
    for model in models:
        if model.model_key not in going:
            continue
        app = application(model, model.spec).app
        one = seen.get(app)
        if one is not None and one.state is not AppState.REMOVING and app not in stays:
            found[model.model_key] = app
    return found


def last_lines(lines: Iterable[str]) -> tuple[str, ...]:
    """At most `LINES` of them, as many of each replica, in their order."""
    told = list(map(_plain, lines))
    share = max(1, LINES // max(1, len(by_replica(told))))
    kept: list[str] = []
    room = MOST_CHARACTERS
    for line in reversed(last_of_each(told, share)[:LINES]):
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return tuple(reversed(kept))


def _read(logs: Logs, app: str) -> tuple[str, ...]:
    with suppress(Exception):  # whatever a backend does, its model has failed, and the others must go on
        return last_lines(logs(app, LINES))
    return ()


def _plain(line: str) -> str:
    """Text that every store and every reply can hold."""
    return line[:LONGEST_LINE].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
