"""What the client's own request asks to see: the rest of what the gateway asks for is taken out of the reply again."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Asked", "is_chat", "wants_ids", "wants_logprobs"]


class Asked(Protocol):
    """A decoded chat or completion request; `messages` are what tells a chat."""

    @property
    def model(self) -> str | None: ...

    @property
    def stream(self) -> bool | None: ...

    @property
    def stream_options(self) -> Any | None: ...

    @property
    def n(self) -> int | None: ...

    @property
    def return_token_ids(self) -> bool | None: ...

    @property
    def logprobs(self) -> bool | int | None:
        """Chat: yes or no. Completions: how many alternatives; 0 is a yes."""

    @property
    def wants_usage(self) -> bool:
        """Whether the stream's usage is asked for."""


def is_chat(asked: Asked) -> bool:
    """Whether it is a chat request."""
    return hasattr(asked, "messages")


def wants_ids(asked: Asked) -> bool:
    """Whether the client itself asks for token ids."""
    return asked.return_token_ids is True


def wants_logprobs(asked: Asked) -> bool:
    """Whether the client itself asks for log probabilities. In a completion request 0 asks for them."""
    return asked.logprobs is not None and asked.logprobs is not False
