"""Users, two reconcilers, a store, a cluster and two clocks, and what may be done to them between any two calls."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from moorage.errors import FailedError, MoorageError
from moorage.serving.backends.contract import AppState, BackendUnreachable, Wanted
from moorage.serving.log import Log
from moorage.serving.model import Model, State
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import application
from moorage.serving.reconciling.reconciler import Reconciler
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.contract import Store
from tests.unit.serving.reconcile.cluster import Cluster

__all__ = ["POLICY", "Crash", "World", "app_of"]

POLICY = Policy(deadline_s=60.0, attempts=3, drain_s=10.0, backoff_s=0.5, backoff_max_s=20.0)
START = 1_800_000_000.0


class Crash(BaseException):
    """The process is gone, in the middle of whatever it did."""


class World:
    def __init__(self, store: Store, policy: Policy = POLICY, *, keep_deleted_s: float | None = None) -> None:
        self.store = store
        self.policy = policy
        self.keep_deleted_s = keep_deleted_s
        self.cluster = Cluster()
        self.cluster.before_apply = self.judge
        self.wall = START
        self.steady = 0.0
        self.log = io.StringIO()
        self.calls: list[str] = []
        """Those of the pass that runs, as `before record` and `after record`."""
        self.interruption: tuple[int | str, Callable[[str], None]] | None = None
        self.broken: list[str] = []
        """Laws that were broken."""
        self.reasons: set[str] = set()
        self.events: set[str] = set()
        self._made = 0
        self.reconcilers = [self._reconciler(), self._reconciler()]

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def tick(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds
        self.cluster.tick(seconds)

    def run(self, which: int = 0, interruption: tuple[int | str, Callable[[str], None]] | None = None) -> float:
        """One pass of a reconciler; when it crashed, another takes its place. In how many seconds the next is due.

        `interruption`: a call by its number or its name, as `before apply`, and what happens there.
        """
        self.calls, self.interruption = [], interruption
        try:
            return self.reconcilers[which].run_once()
        except Crash:
            self.restart(which)
            return 0.0
        finally:
            self.interruption = None
            assert not self.broken

    def restart(self, which: int) -> None:
        self.reconcilers[which] = self._reconciler()

    def take_over(self, which: int) -> None:
        """The other one acts in the middle of this one's pass, when the lease has run out."""
        self.tick(9.0)
        calls, interruption = self.calls, self.interruption
        self.calls, self.interruption = [], None
        self.reconcilers[1 - which].run_once()
        self.calls, self.interruption = calls, interruption

    def until(self, done: Callable[[], bool], passes: int = 500, which: int = 0) -> None:
        for _ in range(passes):
            if done():
                return
            self.tick(max(self.run(which), 0.05))
        raise AssertionError(f"not so after {passes} passes: {self.told()}")

    def settle(self) -> None:
        """Until nothing is left to do: no model on its way, no change, no call, nothing that only time will change."""

        def settled() -> bool:
            before = self.store.version(), self.cluster.asked
            looked = False
            for which in (0, 1):
                self.run(which)
                looked = looked or "after observe" in self.calls
            return (
                looked  # one of them has the lease
                and before == (self.store.version(), self.cluster.asked)
                and all(app.going_s is None and app.left_s == 0 for app in self.cluster.apps.values())
                and all(
                    one.state in (State.RUNNING, State.FAILED)
                    and one.progress.draining is None
                    and one.progress.serving_not_before is None
                    for one in self.store.live()
                )
            )

        self.until(settled)

    def declare(self, suffix: str = "m", user: str = "ann", **spec: Any) -> Model:
        made = ServingSpec(**{"model_id": suffix, "model_source": "org/tiny", **spec})
        return self.store.declare(user, made, self.now).model

    def amend(self, model: Model, **spec: Any) -> None:
        now = self.store.model(model.model_key)
        self.store.amend(now.model_key, replace(now.spec, **spec), self.now, generation=now.generation)

    def model(self, model: Model) -> Model:
        return self.store.model(model.model_key)

    def condition(self, model: Model, name: str) -> tuple[bool | None, str]:
        found = next(one for one in self.model(model).conditions if one.type == name)
        return found.status, found.reason

    def told(self) -> object:
        models = [
            (one.model_key, one.generation, one.state, one.spec.engine_kwargs, one.conditions, one.progress)
            for one in self.store.live()
        ]
        return models, {name: (app.state, app.kind) for name, app in self.cluster.apps.items()}

    def judge(self, cluster: Cluster, wanted: Sequence[Wanted]) -> None:
        """The laws of every list that the backend accepts. What breaks one is noted: a reconciler survives faults."""
        has = {name: app.digest for name, app in cluster.apps.items() if app.going_s is None}
        new = {one.app: cluster.digest(one) for one in wanted}
        if len(new) != len(wanted):
            self.broken.append("an application stands twice in a list")
        if has == new and not cluster.lost_unseen:
            self.broken.append(f"told twice: {sorted(new)}")
        models = {one.model_key: one for one in self.store.live()}
        for name in has.keys() - new.keys():
            app = cluster.apps[name]
            model = models.get(app.wanted.model_key)
            if model is None or model.state is State.DELETING or app.state is not AppState.RUNNING:
                continue
            if model.progress.serving is not None and name == app_of(model, model.progress.serving):
                self.broken.append(f"{name} serves, and was taken away")
            failed = model.state is State.FAILED or model.progress.not_before is not None
            if not failed and name == app_of(model, model.spec):
                self.broken.append(f"{name} is declared, and was taken away")

    def _reconciler(self) -> Reconciler:
        self._made += 1
        return Reconciler(
            _Watched(self.store, self._at),  # type: ignore[arg-type]
            _Watched(self.cluster, self._at),  # type: ignore[arg-type]
            self.policy,
            lambda: self.wall,
            steady=lambda: self.steady,
            holder=f"r{self._made}",
            log=Log(self.log),
            keep_deleted_s=self.keep_deleted_s,
        )

    def _at(self, call: str) -> None:
        self.calls.append(call)
        self._note()
        if self.interruption is not None and self.interruption[0] in (len(self.calls), call):
            act = self.interruption[1]
            self.interruption = None
            act(call)

    def _note(self) -> None:
        if self.calls[-1] == "after record":
            self.reasons |= {condition.reason for model in self.store.live() for condition in model.conditions}


class _Watched:
    """Calls go through, and are told of before and after."""

    def __init__(self, inner: Any, at: Callable[[str], None]) -> None:
        self._inner = inner
        self._at = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("observe", "apply", "record", "take_lease", "live", "changed_since", "purge"):
            return found

        def call(*values: Any) -> Any:
            self._at(f"before {name}")
            answer = found(*values)
            self._at(f"after {name}")
            return answer

        return call


def app_of(model: Model, spec: ServingSpec) -> str:
    return application(model, spec).app


def fail(call: str) -> None:
    """What the thing that was called says when it breaks: before it did anything, or after it did it all."""
    if call.endswith(("observe", "apply")):
        raise BackendUnreachable("the line went dead")
    raise FailedError("the disk is gone", code="store_failed")


def forgive(act: Callable[[], object]) -> None:
    """What users do may come too late."""
    try:
        act()
    except MoorageError:
        return
