"""What a managed server stands on: a recorded session, in this process or behind a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Server", "Session", "SessionOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """As `/sessions/create` has them."""

    tokenizer: Any = None
    """A tokenizer of transformers, a folder, or a public name; None: the model's. A gateway uses its own."""
    tool_parser: str = "hermes"
    reasoning_parser: str | None = None
    track_tree: bool = False
    preserve_think_blocks: bool = True
    mode: Literal["exact", "passthrough"] | None = None
    """None: exact where a tokenizer is at hand."""
    base_url: str | None = None
    """The server that the session stays on; None: any."""


class Session(Protocol):
    """Bodies are JSON as OpenAI's API has them, without a model; replies are decoded JSON."""

    @property
    def url(self) -> str | None:
        """Where OpenAI clients reach it; None: nowhere."""

    @property
    def api_key(self) -> str | None:
        """Its own key; None: none is needed."""

    async def open(self) -> None:
        """Make it, if it is not there."""

    async def chat(self, content: bytes, *, lane: str, timeout_s: float | None) -> dict[str, Any]: ...

    async def completion(self, content: bytes, *, lane: str, timeout_s: float | None) -> dict[str, Any]: ...

    async def logprobs(self, content: bytes, *, lane: str) -> dict[str, Any]: ...

    async def nodes(self) -> list[dict[str, Any]]: ...

    def nodes_now(self) -> list[dict[str, Any]]:
        """The same at once. Behind a gateway this blocks."""

    def reset(self) -> None:
        """Nothing is recorded from now on but what comes."""

    async def close(self) -> None: ...


class Server(Protocol):
    """What sessions are made on."""

    def session(self, options: SessionOptions) -> Session: ...
