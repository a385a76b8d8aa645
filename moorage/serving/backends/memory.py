"""Applications that exist in this process alone: for trying the API, and for tests. Nothing is served by them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from moorage.errors import NotFoundError
from moorage.serving.backends.contract import AppState, Seen, Wanted
from moorage.serving.model import ModelEndpoint
from moorage.serving.reasons import Reason

__all__ = ["FAILING", "MemoryBackend"]

FAILING = "memfail-"
"""A model whose suffix begins so fails whenever it is started."""
START_S = 0.2
STOP_S = 0.1
MOST_LINES = 1000
"""Of the log of an application."""


@dataclass(frozen=True, slots=True)
class _App:
    wanted: Wanted
    digest: str
    started_at: float
    old: int
    """So many replicas were there before the last change."""
    changed_at: float
    waits: bool = True
    """For replicas that were asked for then."""
    removed_at: float | None = None
    lines: tuple[str, ...] = ()
    """What became of it, a line for everything that did."""


class MemoryBackend:
    """A Backend whose applications follow the clock alone, so the same calls at the same times give the same states.

    A replica answers `start_s` after it was asked for, and an application is gone `stop_s` after it was taken away.
    `base_url`: the endpoint of every application that runs, for a server that somebody else runs; None: there is none.
    Threads may share it.
    """

    name = "memory"
    has_lora = True
    has_autoscaling = True

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        start_s: float = START_S,
        stop_s: float = STOP_S,
        base_url: str | None = None,
    ) -> None:
        """`clock`: seconds since whenever."""
        self._clock = clock
        self._start_s = start_s
        self._stop_s = stop_s
        self._base_url = base_url
        self._apps: dict[str, _App] = {}
        self._told: dict[str, Seen] = {}
        self._moving: set[str] = set()
        """Those that time alone will change."""
        self._lock = threading.Lock()

    def digest(self, wanted: Wanted) -> str:
        told = wanted.spec.to_dict() | {"app": wanted.app, "model": wanted.model_id}
        del told["ttl_s"]  # the control plane's own
        return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def observe(self) -> Mapping[str, Seen]:
        now = self._clock()
        with self._lock:
            self._advance(now)
            return dict(self._told)

    def apply(self, wanted: Sequence[Wanted]) -> None:
        now = self._clock()
        with self._lock:
            self._advance(now)
            kept = {one.app for one in wanted}
            for name, app in list(self._apps.items()):
                if name not in kept and app.removed_at is None:
                    self._put(replace(app, removed_at=now))
            for one in wanted:
                self._have(one, now)

    def logs(self, app: str, lines: int) -> Iterator[str]:
        now = self._clock()
        with self._lock:
            self._advance(now)
            found = self._apps.get(app)
            if found is None:
                raise NotFoundError(f"the backend has no application {app!r}", code="app_not_found")
        count = max(1, _replicas(found.wanted))
        return iter([f"{app}#{number} {line}" for number in range(count) for line in found.lines[-lines:] if lines > 0])

    def summary(self) -> dict[str, Any]:
        seen = self.observe()
        return {"applications": {name: one.state.value for name, one in seen.items()}}

    def close(self) -> None:
        """Nothing is held."""

    def _advance(self, now: float) -> None:
        """What has come up stays up, and what has gone stays away, however the clock is set afterwards."""
        for name in list(self._moving):
            app = self._apps[name]
            if app.removed_at is not None:
                if _past(now, app.removed_at, self._stop_s):
                    del self._apps[name], self._told[name]
                    self._moving.discard(name)
            elif _past(now, app.changed_at, self._start_s):
                self._put(replace(app, waits=False))

    def _have(self, wanted: Wanted, now: float) -> None:
        app, digest = self._apps.get(wanted.app), self.digest(wanted)
        if app is None or app.removed_at is not None:
            self._put(_App(wanted, digest, now, 0, now, lines=(f"started {wanted.model_id}",)))
        elif app.digest != digest:
            self._put(replace(app, wanted=wanted, digest=digest, old=_ready(app), changed_at=now, waits=True))

    def _put(self, app: _App) -> None:
        name, seen = app.wanted.app, self._seen(app)
        said = f"{seen.state}: {seen.message or 'nothing to say'}"
        self._apps[name] = app if app.lines[-1] == said else replace(app, lines=(*app.lines, said)[-MOST_LINES:])
        self._told[name] = seen
        if app.waits or app.removed_at is not None:
            self._moving.add(name)
        else:
            self._moving.discard(name)

    def _seen(self, app: _App) -> Seen:
        ready = _ready(app)
        state, reason, message = _state(app, ready)
        answers = state is AppState.RUNNING and self._base_url is not None
        adapters = tuple(adapter.name for adapter in app.wanted.spec.lora)
        return Seen(
            app=app.wanted.app,
            state=state,
            digest=app.digest,
            reason=reason,
            message=message,
            replicas_ready=ready if state is AppState.RUNNING else 0,
            endpoints=(ModelEndpoint(base_url=self._base_url or "", model=app.wanted.model_id, adapters=adapters),)
            if answers
            else (),
            details={"replicas": _replicas(app.wanted), "started_at": app.started_at},
        )


def _state(app: _App, ready: int) -> tuple[AppState, Reason, str]:
    if app.removed_at is not None:
        return AppState.REMOVING, Reason.DELETING, ""
    if not app.waits and app.wanted.spec.model_id.startswith(FAILING):
        message = f"a model of the memory backend whose name begins with {FAILING} always fails"
        return AppState.FAILED, Reason.DEPLOY_FAILED, message
    if ready == 0 and _replicas(app.wanted) > 0:
        return AppState.DEPLOYING, Reason.STARTING, ""
    return AppState.RUNNING, Reason.SERVING, ""


def _ready(app: _App) -> int:
    """Those that were there and are still wanted, and the new ones once they have started."""
    count = _replicas(app.wanted)
    return min(app.old, count) if app.waits else count


def _replicas(wanted: Wanted) -> int:
    """There is no load to follow: it stays where it starts."""
    return wanted.spec.replicas.start


def _past(now: float, since: float, seconds: float) -> bool:
    """Also when the clock was set back to before it began."""
    return now >= since + seconds or now < since
