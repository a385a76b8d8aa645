"""A backend that can be hurt in every way that a real one is, and that notices what must never be done to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorage.errors import FailedError
from moorage.serving.backends.contract import AppState, BackendUnreachable, Seen, Wanted
from moorage.serving.model import ModelEndpoint
from moorage.serving.reasons import Reason

__all__ = ["Cluster", "Running"]

START_S = 2.0
STOP_S = 0.5


@dataclass
class Running:
    """One application. What it does is written in its spec, under `engine_kwargs.is`: good when nothing is."""

    wanted: Wanted
    digest: str
    left_s: float = START_S
    """Until its new replicas answer."""
    had: int = 0
    state: AppState = AppState.DEPLOYING
    going_s: float | None = None

    @property
    def kind(self) -> str:
        return str(self.wanted.spec.engine_kwargs.get("is", "good"))


@dataclass
class Cluster:
    """A Backend."""

    name = "cluster"
    has_lora = True
    has_autoscaling = True
    unreachable: bool = False
    refuses: set[str] = field(default_factory=set)
    """Keys of models that are refused, as well as those whose kind is `refused`."""
    apps: dict[str, Running] = field(default_factory=dict)
    told: list[tuple[Wanted, ...]] = field(default_factory=list)
    """Every list that was accepted."""
    started: int = 0
    """So many applications were made."""
    asked: int = 0
    """How often `apply` was called."""
    lost_unseen: bool = False
    """An application was lost since anybody looked."""
    before_apply: Callable[[Cluster, Sequence[Wanted]], None] | None = None
    """Judges a list that is about to be accepted."""

    def tick(self, seconds: float) -> None:
        """Time passes, whatever clocks say."""
        for name, app in list(self.apps.items()):
            if app.going_s is not None:
                app.going_s -= seconds
                if app.going_s <= 0:
                    del self.apps[name]
                continue
            app.left_s = max(0.0, app.left_s - seconds)
            if app.left_s == 0 and app.state is AppState.DEPLOYING and app.kind != "never":
                app.state = AppState.FAILED if app.kind == "fails" else AppState.RUNNING

    def kill(self, name: str) -> None:
        self.apps[name].state = AppState.FAILED

    def silence(self, name: str) -> None:
        if self.apps[name].state is AppState.RUNNING:
            self.apps[name].state = AppState.DEGRADED

    def lose(self, name: str) -> None:
        del self.apps[name]
        self.lost_unseen = True

    def digest(self, wanted: Wanted) -> str:
        told = wanted.spec.to_dict()
        del told["ttl_s"]
        return json.dumps([wanted.app, told], sort_keys=True)

    def observe(self) -> Mapping[str, Seen]:
        self._answer()
        self.lost_unseen = False
        return {name: self._seen(app) for name, app in self.apps.items()}

    def apply(self, wanted: Sequence[Wanted]) -> None:
        self.asked += 1
        self._answer()
        for one in wanted:
            if one.model_key in self.refuses or one.spec.engine_kwargs.get("is") == "refused":
                raise FailedError(f"{one.app} is refused", code="refused")
        if self.before_apply is not None:
            self.before_apply(self, wanted)
        self.told.append(tuple(wanted))
        names = {one.app for one in wanted}
        for name, app in self.apps.items():
            if name not in names and app.going_s is None:
                app.going_s, app.state = STOP_S, AppState.REMOVING
        for one in wanted:
            self._have(one)

    def logs(self, app: str, lines: int) -> Iterator[str]:
        return iter(())

    def summary(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...

    def _answer(self) -> None:
        if self.unreachable:
            raise BackendUnreachable("nobody answers")

    def _have(self, wanted: Wanted) -> None:
        app, digest = self.apps.get(wanted.app), self.digest(wanted)
        if app is None or app.going_s is not None:
            self.apps[wanted.app] = Running(wanted, digest)
            self.started += 1
        elif app.digest != digest:
            had = _ready(app)
            state = AppState.DEPLOYING if app.state is AppState.FAILED else app.state
            self.apps[wanted.app] = replace(app, wanted=wanted, digest=digest, had=had, left_s=START_S, state=state)

    def _seen(self, app: Running) -> Seen:
        ready = _ready(app)
        answers = app.state is AppState.RUNNING
        return Seen(
            app=app.wanted.app,
            state=app.state,
            digest=app.digest,
            reason=Reason.SERVING if answers else _REASONS[app.state],
            message="" if answers else f"it is {app.state}",
            replicas_ready=ready,
            endpoints=(ModelEndpoint(base_url=f"http://{app.wanted.app}/v1", model=app.wanted.model_id),) * answers,
        )


_REASONS = {
    AppState.DEPLOYING: Reason.STARTING,
    AppState.DEGRADED: Reason.DEGRADED,
    AppState.FAILED: Reason.DEPLOY_FAILED,
    AppState.REMOVING: Reason.DELETING,
}


def _ready(app: Running) -> int:
    if app.state is not AppState.RUNNING:
        return 0
    count = app.wanted.spec.num_replicas
    return count if app.left_s == 0 else min(count, app.had or 1)
