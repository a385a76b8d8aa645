"""Which sessions are open, and when each was used last: of this worker, and of what the others tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from moorage.pool.contract import Store

__all__ = ["OpenSessions"]


class OpenSessions:
    """Every worker knows of all open sessions; when others were used it is told only by those that ask (`use`)."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._used_at: dict[str, float] = {}
        self._told: dict[str, bool] | None = None
        """What was said of sessions while the store is being read: open or not; None: it is not being read."""
        self.on_opened: Callable[[str], object] = str
        """Called with each session that is opened here; set by whoever wants to know."""
        self.on_ended: Callable[[str], object] = str
        """Called with each session that is ended here."""

    def __len__(self) -> int:
        return len(self._used_at)

    async def learn(self) -> None:
        """Read which are open; those not known before count as used now."""
        self._told = {}
        try:
            open_now = {row.uid for row in await self._store.sessions("session") if row.state == "open"}
            for uid, is_open in self._told.items():
                (open_now.add if is_open else open_now.discard)(uid)
        finally:
            self._told = None
        now = self._clock()
        self._used_at = {uid: self._used_at.get(uid, now) for uid in open_now}

    def open(self, uid: str) -> None:
        """A session was opened here."""
        self.heard_opened(uid)
        self.on_opened(uid)

    def end(self, uid: str) -> None:
        """A session was ended here."""
        self.heard_ended(uid)
        self.on_ended(uid)

    def heard_opened(self, uid: str) -> None:
        """A session was opened, by whomever."""
        self._used_at[uid] = self._clock()
        if self._told is not None:
            self._told[uid] = True

    def heard_ended(self, uid: str) -> None:
        """A session was ended, by whomever."""
        self._used_at.pop(uid, None)
        if self._told is not None:
            self._told[uid] = False

    def use(self, uid: str, at: float | None = None) -> None:
        """A session that is open was used, now or then."""
        self._used_at[uid] = max(self._used_at.get(uid, 0.0), self._clock() if at is None else at)

    def used_at(self, uid: str) -> float | None:
        """Unix seconds; None for one that is not open."""
        return self._used_at.get(uid)

    def used(self, uids: Iterable[str]) -> dict[str, float]:
        """When those that are open were used last."""
        return {uid: at for uid in uids if (at := self._used_at.get(uid)) is not None}

    def idle_since(self, since: float) -> list[str]:
        """Those not used since."""
        return [uid for uid, used_at in self._used_at.items() if used_at < since]
