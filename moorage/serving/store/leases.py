"""The right to act, of one reconciler at a time, inside a transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import insert, select, update

from moorage.errors import ConflictError
from moorage.serving.store.contract import Lease
from moorage.serving.store.database import Writing
from moorage.serving.store.schema import LEASES

__all__ = ["demand", "give_back", "take"]

_SECOND = 1_000_000


def take(
    writing: Writing, name: str, holder: str, now: float, length_s: float, gone: Callable[[str], bool] | None
) -> Lease | None:
    """None: another's still runs. `gone`: whether that other one will never act again; None: nobody can tell."""
    until = now + length_s
    of_name = LEASES.c.name == name
    # Nobody else can be here: all who write locked the same row first.
    found = writing.db.execute(select(LEASES).where(of_name)).first()
    if found is None:
        writing.db.execute(insert(LEASES).values(name=name, holder=holder, fence=1, until=round(until * _SECOND)))
        return Lease(holder=holder, fence=1, until=until)
    # One that ends further ahead than any is taken for is of a time before the clock was set back.
    runs = now * _SECOND < found.until <= (now + 2 * length_s) * _SECOND
    if found.holder != holder and runs and not (gone is not None and gone(found.holder)):
        return None
    fence = found.fence if found.holder == holder else found.fence + 1
    values = {"holder": holder, "fence": fence, "until": round(until * _SECOND)}
    writing.db.execute(update(LEASES).where(of_name).values(values))
    return Lease(holder=holder, fence=fence, until=until)


def give_back(writing: Writing, lease: Lease, name: str) -> None:
    """Nothing, when it is somebody else's meanwhile."""
    held = (LEASES.c.name == name, LEASES.c.holder == lease.holder, LEASES.c.fence == lease.fence)
    writing.db.execute(update(LEASES).where(*held).values(holder="", until=0))


def demand(writing: Writing, lease: Lease, name: str) -> None:
    """Raises ConflictError `lease_lost`. One that ran out and that nobody else took is good enough: nobody acted."""
    found = writing.db.execute(select(LEASES).where(LEASES.c.name == name)).first()
    if found is None or (found.holder, found.fence) != (lease.holder, lease.fence):
        raise ConflictError(
            f"the lease {name!r} of {lease.holder!r} was lost",
            code="lease_lost",
            hint="another reconciler acts now; nothing of this pass was recorded",
        )
