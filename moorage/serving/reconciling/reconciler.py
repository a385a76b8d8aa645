"""The one thread that keeps what runs as it is declared: observe → plan → record → apply, again and again.

A pass starts from what is stored and what the backend shows, never from what an earlier pass meant to do, so it may be
cut off anywhere: the next one goes on. What must be known first is recorded first (an application goes only after its
model is on record as failed, moved on or deleted), and the backend is told only where it differs from what should run.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from moorage.errors import ConflictError
from moorage.serving.backends.contract import NO_ANSWER, Backend, BackendUnreachable, Seen, Wanted
from moorage.serving.log import Log
from moorage.serving.model import Model
from moorage.serving.plan.outage import outage
from moorage.serving.plan.plan import Plan, difference, plan
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.refusal import refusals
from moorage.serving.plan.sight import Digest, application
from moorage.serving.reconciling.applying import apply
from moorage.serving.reconciling.failing import failing, with_logs
from moorage.serving.reconciling.holder import holder_name
from moorage.serving.reconciling.known_models import KnownModels
from moorage.serving.reconciling.leadership import LEASE, Leadership
from moorage.serving.reconciling.retention import Retention
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.contract import Change, Lease, Store

__all__ = ["Reconciler"]

TICK_S = 1.0
"""Between passes when nothing moves."""
QUICK_S = 0.25
"""Between passes soon after something changed."""
QUICK_FOR_S = 10.0
TROUBLE_S = 1.0
"""After a first fault; it doubles with every further one."""
TROUBLE_MAX_S = 30.0
LEASE_S = 8.0
STEP_S = 2.0
"""The clock was set, when it and the steady one disagree by more between two passes."""
STOP_S = 10.0
"""How long `stop` waits for a pass to end."""


class Reconciler:
    """Keeps the models of a store served by a backend, as long as it holds the store's lease."""

    def __init__(
        self,
        store: Store,
        backend: Backend,
        policy: Policy,
        clock: Callable[[], float] = time.time,
        *,
        steady: Callable[[], float] = time.monotonic,
        holder: str | None = None,
        log: Log | None = None,
        keep_deleted_s: float | None = None,
    ) -> None:
        """`clock`: Unix seconds. `steady`: seconds that never jump. `holder`: None makes a name that no other has.
        `keep_deleted_s`: how long a model is kept that is DELETED; None: for ever."""
        self._store = store
        self._backend = backend
        self._policy = policy
        self._clock = clock
        self._steady = steady
        self._log = log or Log()
        name = holder or holder_name(socket.gethostname(), uuid.uuid4().hex[:8])
        self._leadership = Leadership(store, name, clock, steady, LEASE_S)
        self._models = KnownModels(store)
        self._retention = Retention(store, keep_deleted_s, clock, steady, self._log)
        self._steps = _Steps(clock, steady)
        self._rest: _Rest | None = None
        self._changed_at: float | None = None
        self._faults = 0
        self._complaint = ""
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with passes in a thread of its own; again while it runs does nothing."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was declared: look soon. From any thread, and never waits."""
        self._woken.set()

    def stop(self) -> None:
        """End after the pass that runs, and let another reconciler take over at once. What runs goes on."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None if not self._thread.is_alive() else self._thread

    def run_once(self) -> float:
        """One pass; in how many seconds the next is due. Faults are logged, once as long as they stay the same, and
        come to nothing worse than a longer pause."""
        try:
            wait_s = self._pass()
        except Exception as fault:
            return self._trouble(fault)
        if self._complaint:
            self._log.info("reconciler_goes_on", after_faults=self._faults)
        self._faults, self._complaint = 0, ""
        return wait_s

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            began = self._steady()
            wait_s = self.run_once()
            # However often it is woken, the API gets as much of the machine as the passes do.
            self._stopping.wait(min(max(self._steady() - began, 0.01), wait_s))
            self._woken.wait(wait_s)
        try:
            self._leadership.give_back()
        except Exception as fault:
            self._log.fault(fault, during="giving the lease back")

    def _pass(self) -> float:
        self._steps.look()
        lease = self._leadership.held()
        if lease is None:
            self._rest = None
            self._steps.forget()
            return TICK_S
        self._retention.look(lease)
        models = self._models.read()
        seen = self._observe(lease)
        now = self._clock()
        if self._rest is not None and self._rest.lasts(self._models.version, seen, now, self._steps.total_s):
            return self._wait(self._rest.wake_at)
        digest = _Digests(self._backend.digest)
        made = plan(models, seen, now, self._policy, digest=digest, stepped_s=self._steps.total_s)
        if made.changes:
            complete = self._record(self._with_logs(made, models, seen), lease)
            self._steps.forget()
            if not complete:
                return 0.0  # somebody changed a model meanwhile, so the plan is of yesterday
        acted = self._act(made, seen, digest)
        calm = not made.changes and not acted
        self._rest = _Rest(self._models.version, seen, made.wake_at) if calm else None
        if not calm:
            self._changed_at = self._steady()
        return self._wait(made.wake_at)

    def _with_logs(self, made: Plan, models: Sequence[Model], seen: Mapping[str, Seen]) -> Sequence[Change]:
        """What builds wrote that failed is recorded with their failure, before they are taken away."""
        failed = failing(models, made.changes, made.wanted, seen)
        if not failed:
            return made.changes
        now = datetime.fromtimestamp(self._clock(), UTC)
        return with_logs(
            made.changes, failed, self._backend.logs, now, before_each=self._leadership.sure, steady=self._steady
        )

    def _observe(self, lease: Lease) -> Mapping[str, Seen]:
        try:
            return self._backend.observe()
        except Exception as fault:
            self._unknown(fault, lease)
            raise

    def _act(self, made: Plan, seen: Mapping[str, Seen], digest: Digest) -> bool:
        """Whether there was something to do."""
        gap = difference(made.wanted, seen, digest)
        if not gap:
            return False
        self._changed_at = self._steady()
        held = _Held(self._store, seen, digest)
        try:
            refused = apply(self._backend, made.wanted, gap, held=held, before_each=self._leadership.sure)
        except BackendUnreachable as fault:
            self._unknown(fault, self._leadership.sure())
            raise
        if refused:
            self._refuse(refused, seen, digest)
        return True

    def _refuse(self, refused: Mapping[str, str], seen: Mapping[str, Seen], digest: Digest) -> None:
        changes = refusals(self._models.read(), seen, refused, self._clock(), self._policy, digest=digest)
        if changes:
            self._record(changes, self._leadership.sure())

    def _unknown(self, fault: Exception, lease: Lease) -> None:
        """The backend did not answer, or nobody knows what it means: note that of what was waiting for it."""
        told = fault.told if isinstance(fault, BackendUnreachable) else NO_ANSWER
        made = outage(self._models.read(), told, self._clock(), self._policy)
        if made.changes:
            self._record(made.changes, lease)

    def _record(self, changes: Sequence[Change], lease: Lease) -> bool:
        """Whether all of them were written: none was dropped for what a user did meanwhile."""
        when = datetime.fromtimestamp(self._clock(), UTC)
        return self._store.record(changes, when, lease, LEASE) == len(changes)

    def _wait(self, wake_at: float | None) -> float:
        since = None if self._changed_at is None else self._steady() - self._changed_at
        wait_s = QUICK_S if since is not None and since < QUICK_FOR_S else TICK_S
        left_s = None if wake_at is None else wake_at - self._clock()
        return wait_s if left_s is None or left_s <= 0 else min(wait_s, left_s)

    def _trouble(self, fault: Exception) -> float:
        """Everything is read anew after a fault: what was written before it is not known for certain."""
        self._rest = None
        self._models.forget()
        if isinstance(fault, ConflictError):
            self._leadership.forget()
        self._faults += 1
        complaint = f"{type(fault).__name__} {getattr(fault, 'code', '')}"
        if complaint != self._complaint:
            self._log.fault(fault, during="a pass of the reconciler")
        self._complaint = complaint
        return min(TROUBLE_S * 2.0 ** min(self._faults - 1, 16), TROUBLE_MAX_S)


class _Rest:
    """A pass that found nothing to do: until something changes, the next one need not think."""

    def __init__(self, version: int, seen: Mapping[str, Seen], wake_at: float | None) -> None:
        self._version = version
        self._seen = seen
        self.wake_at = wake_at

    def lasts(self, version: int, seen: Mapping[str, Seen], now: float, stepped_s: float) -> bool:
        in_time = self.wake_at is None or now < self.wake_at
        return in_time and stepped_s == 0 and version == self._version and seen == self._seen


class _Steps:
    """How far the clock was set, by somebody or by a machine that slept, since the times on record were written."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._apart = clock() - steady()
        self.total_s = 0.0

    def look(self) -> None:
        apart = self._clock() - self._steady()
        if abs(apart - self._apart) > STEP_S:
            self.total_s += apart - self._apart
        self._apart = apart

    def forget(self) -> None:
        """The times were written anew."""
        self.total_s = 0.0


class _Digests:
    """The backend's digests, each made once a pass. One that cannot be made is equal to none, so it is applied, and
    the backend says then what is wrong with it."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._made: dict[tuple[str, int], tuple[ServingSpec, str]] = {}

    def __call__(self, wanted: Wanted) -> str:
        key = (wanted.app, id(wanted.spec))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = (wanted.spec, self._make(wanted))
        return found[1]

    def _make(self, wanted: Wanted) -> str:
        try:
            return self._digest(wanted)
        except Exception:
            return "cannot be made"


class _Held:
    """What the backend has in the place of an application that should be changed: an earlier revision of its model."""

    def __init__(self, store: Store, seen: Mapping[str, Seen], digest: Digest) -> None:
        self._store = store
        self._seen = seen
        self._digest = digest

    def __call__(self, wanted: Wanted) -> Wanted | None:
        model = self._store.model(wanted.model_key)
        has = self._seen[wanted.app].digest
        for revision in reversed(self._store.revisions(wanted.model_key)):
            earlier = application(model, revision.spec)
            if earlier.app == wanted.app and self._digest(earlier) == has:
                return earlier
        return None
