"""What every request passes between its route and its handler."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.paths import Route
    from moorage.gateway.http.request import Request

__all__ = ["Capability", "Door"]


class Capability(NamedTuple):
    """A session's own key."""

    key: str
    """For the reply that makes the session, and nowhere else."""
    digest: str
    """For the session's options: hexadecimal."""


class Door(Protocol):
    """Lets requests in."""

    async def open(self) -> None:
        """Begin. Raises PreflightError when nobody could ever come in, and the store's faults."""

    async def close(self) -> None:
        """End what runs beside the requests."""

    def admit(self, route: Route, request: Request, connection: Connection) -> Awaitable[None] | None:
        """Raises a Fault of 401, 403 or 429 when the request may not use the route; what to await: not yet known."""

    def trusts(self, request: Request) -> bool:
        """Whether an open route may tell this caller what it tells trainers."""

    def capability(self, uid: str) -> Capability | None:
        """A key for a session that is being made; None: none is needed here."""
