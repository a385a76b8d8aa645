"""Being the one reconciler that acts: the store's lease, taken, prolonged and given back."""

from __future__ import annotations

from collections.abc import Callable

from moorage.errors import ConflictError
from moorage.serving.reconciling.holder import is_gone
from moorage.serving.store.contract import Lease, Store

__all__ = ["LEASE", "Leadership"]

LEASE = "reconciler"
"""Its name in the store."""


class Leadership:
    """The lease of one reconciler. For one thread."""

    def __init__(
        self, store: Store, holder: str, clock: Callable[[], float], steady: Callable[[], float], length_s: float
    ) -> None:
        """`holder`: unlike any other reconciler's. `clock`: Unix seconds. `steady`: seconds that never jump."""
        self._store = store
        self._holder = holder
        self._clock = clock
        self._steady = steady
        self._length_s = length_s
        self._lease: Lease | None = None
        self._taken_at = 0.0

    def held(self) -> Lease | None:
        """The lease, with half of it at least to run; None: another reconciler has it."""
        if self._lease is None or self._steady() - self._taken_at >= self._length_s / 2:
            self._take()
        return self._lease

    def sure(self) -> Lease:
        """The lease, with all of it to run: what a pass asks for right before it acts, for it may have been held up.

        Raises ConflictError `lease_lost`.
        """
        before = self._lease
        self._take()
        if self._lease is None or before is None or self._lease.fence != before.fence:
            self._lease = None
            raise ConflictError("another reconciler took over", code="lease_lost")
        return self._lease

    def forget(self) -> None:
        """It was lost, or may have been."""
        self._lease = None

    def give_back(self) -> None:
        """Let another one take over at once."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._store.give_lease_back(lease, LEASE)

    def _take(self) -> None:
        taken_at = self._steady()
        self._lease = self._store.take_lease(LEASE, self._holder, self._clock(), self._length_s, is_gone)
        self._taken_at = taken_at
