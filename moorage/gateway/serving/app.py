"""Answering as every gateway does, and noting when a user's request is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway.http.app import App

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.request import Request
    from moorage.gateway.serving.accounts import Accounts

__all__ = ["ServedApp"]


class ServedApp(App):
    """What connections hand their requests to, in front of declared models."""

    def __init__(self, gateway: Gateway, accounts: Accounts) -> None:
        super().__init__(gateway)
        self._accounts = accounts

    async def answer(self, request: Request, connection: Connection) -> None:
        try:
            await super().answer(request, connection)
        finally:
            self._accounts.over(request)
