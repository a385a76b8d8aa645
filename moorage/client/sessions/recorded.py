"""One recorded session, wherever it is recorded: made by its first call, ended when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from moorage.client.gateway.asks import sessions
from moorage.client.gateway.asks.body import given
from moorage.client.gateway.values import Session as Created
from moorage.client.http.ask import Ask
from moorage.client.sessions.session import SessionOptions
from moorage.errors import MoorageError

__all__ = ["RecordedSession", "Sending"]

T = TypeVar("T")


class Sending(Protocol):
    """What answers requests: a gateway, or its code in this process."""

    @property
    def url(self) -> str | None:
        """Where a gateway is; None: in this process."""

    async def send(self, ask: Ask[T]) -> T: ...

    def nodes_now(self, uuid: str, *, track_tree: bool) -> list[dict[str, Any]]: ...


class RecordedSession:
    """See `moorage.client.sessions.session.Session`. `connect` gives what answers; it is called once."""

    def __init__(self, connect: Callable[[], Awaitable[Sending]], options: SessionOptions) -> None:
        self._connect = connect
        self._track_tree = options.track_tree
        self._body = given(
            tool_parser=options.tool_parser,
            reasoning_parser=options.reasoning_parser,
            track_tree=options.track_tree,
            preserve_think_blocks=options.preserve_think_blocks,
            mode=options.mode,
            base_url=options.base_url,
        )
        self._to: Sending | None = None
        self._created: Created | None = None
        self._opening: asyncio.Task[tuple[Sending, Created]] | None = None
        self._old: list[str] = []
        """Sessions that were reset, still to be ended."""

    @property
    def url(self) -> str | None:
        if self._created is None or self._to is None or self._to.url is None:
            return None
        return f"{self._to.url}/{self._created.uuid}/v1"

    @property
    def api_key(self) -> str | None:
        return None if self._created is None else self._created.api_key

    async def open(self) -> None:
        await self._ready()

    async def chat(self, content: bytes, *, lane: str, timeout_s: float | None) -> dict[str, Any]:
        return await self._call("chat/completions", content, lane, timeout_s)

    async def completion(self, content: bytes, *, lane: str, timeout_s: float | None) -> dict[str, Any]:
        return await self._call("completions", content, lane, timeout_s)

    async def logprobs(self, content: bytes, *, lane: str) -> dict[str, Any]:
        to, created = await self._ready()
        return await to.send(sessions.logprobs(created.uuid, content, lane=lane))

    async def nodes(self) -> list[dict[str, Any]]:
        if self._to is None or self._created is None:
            return []
        return await self._to.send(sessions.nodes(self._created.uuid))

    def nodes_now(self) -> list[dict[str, Any]]:
        """Asked for each time: an agent may have sampled at the session's URL."""
        if self._to is None or self._created is None:
            return []
        return self._to.nodes_now(self._created.uuid, track_tree=self._track_tree)

    def reset(self) -> None:
        if self._created is not None:
            self._old.append(self._created.uuid)
        self._created = None

    async def close(self) -> None:
        """Where nobody answers any more, nobody is there to be told."""
        opening, self._opening = self._opening, None
        if opening is not None:
            with contextlib.suppress(MoorageError):
                self._to, self._created = await opening
        self.reset()
        await self._end_old()

    async def _call(self, route: str, content: bytes, lane: str, timeout_s: float | None) -> dict[str, Any]:
        to, created = await self._ready()
        key = uuid.uuid4().hex
        return await to.send(sessions.call(created.uuid, route, content, key, lane=lane, timeout_s=timeout_s))

    async def _ready(self) -> tuple[Sending, Created]:
        if self._to is not None and self._created is not None:
            return self._to, self._created
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._make())
        opening = self._opening
        try:
            made = await asyncio.shield(opening)
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None
        if self._created is None:
            self._to, self._created = made
            await self._end_old()
        return made

    async def _make(self) -> tuple[Sending, Created]:
        to = self._to or await self._connect()
        return to, await to.send(sessions.create(self._body))

    async def _end_old(self) -> None:
        while self._old and self._to is not None:
            with contextlib.suppress(MoorageError):
                await self._to.send(sessions.delete(self._old.pop(), once=True))
