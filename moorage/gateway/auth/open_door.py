"""The door of a gateway without keys: everybody comes in but pages of others, through their reader's browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway.auth.origins import foreign_host, foreign_origin
from moorage.gateway.auth.refusals import page_foreign
from moorage.gateway.auth.rules import rule_of

if TYPE_CHECKING:
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.paths import Route
    from moorage.gateway.http.request import Request

__all__ = ["OpenDoor"]


class OpenDoor:
    """`moorage.gateway.auth.door.Door` without keys."""

    def __init__(self, *, loopback: bool) -> None:
        """`loopback`: what is listened on nobody else can reach."""
        self._loopback = loopback

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    def admit(self, route: Route, request: Request, connection: Connection) -> None:
        del connection
        if not request.from_page and request.method == "POST":
            return  # nearly all: what is left is seldom, and read by people
        foreign = self._foreign(request)
        if foreign is not None and rule_of(request.method, route.name) != "open":
            raise page_foreign(foreign)

    def trusts(self, request: Request) -> bool:
        return self._foreign(request) is None

    def capability(self, uid: str) -> None:
        del uid

    def _foreign(self, request: Request) -> str | None:
        if request.from_page:
            return foreign_origin(request.headers, loopback=self._loopback)
        return foreign_host(request.headers) if self._loopback else None
