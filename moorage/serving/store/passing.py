"""Which faults of a database may pass by themselves. Pure."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

__all__ = ["may_pass"]

_BUSY = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED."""
_PASSING = ("08", "40", "53300", "55P03", "57014", "57P01", "57P02", "57P03")
"""SQLSTATEs, or how they begin: connections, transactions in each other's way, too many connections, a lock that was
not to be had, a statement that took too long, a server that ends, crashed or starts."""


def may_pass(fault: DBAPIError) -> bool:
    """Whether the same may work in a moment, with nobody doing anything about it."""
    origin = fault.orig
    of_sqlite = getattr(origin, "sqlite_errorcode", None)
    if of_sqlite is not None:
        return of_sqlite & 0xFF in _BUSY
    state = getattr(origin, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING)
    # A server that cannot be reached says nothing: it may be about to start again.
    return fault.connection_invalidated or type(origin).__name__ in ("OperationalError", "ConnectionTimeout")
