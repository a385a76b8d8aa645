"""How many tokens a reply took, read from what the engine says of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from moorage.engines.vllm.events import Events, payload

__all__ = ["Meter"]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None

    @property
    def tokens(self) -> int:
        if self.total_tokens is not None:
            return self.total_tokens
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class _Reply(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] = []
    usage: _Usage | None = None


class _Asked(msgspec.Struct):
    stream_options: dict[str, msgspec.Raw] | None = None


class Meter:
    """Of one request; `count` is told once, or never when the engine says nothing of it."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count
        self._ours = False
        """The usage in the stream is there because it was asked for here."""

    def whole(self, body: bytes) -> None:
        """A whole reply."""
        try:
            usage = msgspec.json.decode(body, type=_Reply).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if usage is not None:
            self._count(usage.tokens)

    def asking(self, body: bytes) -> bytes:
        """The body of a request for a stream, with its usage asked for."""
        options = msgspec.json.decode(body, type=_Asked).stream_options or {}
        if bytes(options.get("include_usage", b"false")) == b"true":
            return body
        self._ours = True
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
        return msgspec.json.encode(fields)

    async def stream(self, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The same frames without what only we asked for.

        Of a stream that ends before its usage came, each of its events counts as a token.
        """
        events, seen = Events(), 0
        told: int | None = None
        try:
            async with aclosing(frames) as pieces:
                async for piece in pieces:
                    for event in events.feed(piece):
                        said = _read(event)
                        seen += bool(said and said.choices)
                        if said is not None and said.usage is not None:
                            told = said.usage.tokens
                            if self._ours and not said.choices:
                                continue
                        yield event
            if events.rest():
                yield events.rest()
        finally:
            self._count(seen if told is None else told)


def _read(event: bytes) -> _Event | None:
    data = payload(event)
    if not data or not data.startswith(b"{"):
        return None
    try:
        return msgspec.json.decode(data, type=_Event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
