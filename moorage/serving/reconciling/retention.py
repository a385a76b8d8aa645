"""Letting go of what is over, now and then: a bounded part of it at a time, by the one reconciler that acts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from moorage.errors import ConflictError
from moorage.serving.log import Log
from moorage.serving.reconciling.leadership import LEASE
from moorage.serving.store.contract import Lease, Store

__all__ = ["Retention"]

EVERY_S = 60.0
"""Between two looks for what may go, when the last one left nothing; less where things are kept for less."""


class Retention:
    """For one thread."""

    def __init__(
        self,
        store: Store,
        keep_deleted_s: float | None,
        clock: Callable[[], float],
        steady: Callable[[], float],
        log: Log,
    ) -> None:
        """`keep_deleted_s`: how long a model is kept that is DELETED; None: for ever. `clock`: Unix seconds. `steady`:
        seconds that never jump."""
        self._store = store
        self._keep_deleted_s = keep_deleted_s
        self._clock = clock
        self._steady = steady
        self._log = log
        self._every_s = EVERY_S if keep_deleted_s is None else min(EVERY_S, max(keep_deleted_s, 1.0))
        self._due: float | None = None
        self._complaint = ""

    def look(self, lease: Lease) -> None:
        """When it is time, a part of it. Raises ConflictError `lease_lost`; any other fault is logged, once as long as
        it stays the same: models are served meanwhile."""
        if self._due is not None and self._steady() < self._due:
            return
        self._due = self._steady() + self._every_s
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            gone = self._store.purge(now, self._keep_deleted_s, lease, LEASE)
        except ConflictError:
            raise
        except Exception as fault:
            complaint = f"{type(fault).__name__} {getattr(fault, 'code', '')}"
            if complaint != self._complaint:
                self._log.fault(fault, during="letting go of what is over")
            self._complaint = complaint
            return
        self._complaint = ""
        if gone.has_more:
            self._due = None
        if gone.models or gone.answers:
            self._log.info("purged", models=gone.models, idempotency_keys=gone.answers)
