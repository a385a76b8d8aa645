"""Which sessions nobody uses any more, as all who may have used them say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["idle_sessions"]


async def idle_sessions(gateway: Gateway, since: float) -> list[str]:
    """Those that were not used since, for this worker to end: Unix seconds.

    What this process knows is asked first, then the other workers, then the store: a call that was committed by a
    gateway of another machine is a use. Raises StoreFault.
    """
    idle = gateway.sessions.idle_since(since)
    if idle and gateway.company is not None:
        idle = await gateway.company.idle(idle, since)
    found = []
    for uid in idle:
        used_at = await _used_in_store(gateway, uid)
        if used_at is not None and used_at >= since:
            gateway.sessions.opened.use(uid, used_at)
        elif (gateway.sessions.used_at(uid) or since) < since:
            found.append(uid)
    return found


async def _used_in_store(gateway: Gateway, uid: str) -> float | None:
    """When its last call was committed; None: never, or by this worker, which knows without reading."""
    if await gateway.sessions.current(uid) is not None:
        return None
    calls = await gateway.store.calls(uid)
    return calls[-1].record.created_at if calls else None
