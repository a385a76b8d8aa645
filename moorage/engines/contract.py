"""What engines are asked and what they gave, whatever their dialect.

Replies are read in one form, vLLM's: token ids, log probabilities and the text in its fields. An engine that speaks
otherwise has its replies retold in that form, so that what may be recorded is decided in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from moorage.capture.call import Span

if TYPE_CHECKING:
    from moorage.engines.vllm.asked import Asked
    from moorage.engines.vllm.known import Known

__all__ = ["Dialect", "Directed", "Generation", "PromptScores", "Retelling", "Sampled", "Scoring", "Telling", "Wanted"]


class Directed(NamedTuple):
    """A request for a path of its own, in place of the one that the caller named."""

    target: str
    body: bytes


class Wanted(NamedTuple):
    """What a reply in another engine's words is retold with."""

    request: bytes
    """The client's chat or completion body; its messages or prompt may be missing."""
    chat: bool
    """Whether a chat's reply is to be made, or a text completion's."""
    model: str
    """What the reply says of the model where the engine says nothing."""
    prompt: Known | None = None
    """The ids that were sent; None: the engine made them."""
    max_tokens: int | None = None
    """The limit where the request names none; None: there was none."""
    decode: Callable[[Sequence[int]], str] | None = None
    """Text of sampled ids without special tokens; None: there is no tokenizer."""
    ends: Collection[int] = ()
    """Ids that end a text; empty: not known."""


class Telling(Protocol):
    """One streamed reply, retold as it comes."""

    def feed(self, data: bytes) -> bytes:
        """Events for what came; empty while there is nothing to say. Raises faults of `moorage.engines.vllm.faults`."""

    def end(self) -> bytes:
        """The events that are left when the engine's reply is complete."""


class Retelling(Protocol):
    """Replies in another engine's words as vLLM would give them."""

    def whole(self, reply: bytes, wanted: Wanted) -> bytes:
        """A whole reply of status 200. Raises EngineGaveNoIds, ShortLogprobs, UnreadableReply and FailedError."""

    def events(self, wanted: Wanted) -> Telling:
        """A streamed one, which the engine may also give whole."""


class PromptScores(NamedTuple):
    """How likely a prompt's tokens are, row by row: nothing is said of the first, nothing precedes it."""

    logprobs: list[float | None]
    """[P] of the prompt's own tokens; the first is None."""
    tops: list[list[tuple[int, float]]]
    """[P] (id, log probability) of the likeliest, in the engine's order; the first row is empty."""


class Scoring(Protocol):
    """How likely a prompt is, asked of an engine that can say it."""

    def ask(self, prompt: Known, top_k: int, model: str | None) -> Directed:
        """The request, for `top_k` of the likeliest a token."""

    def read(self, reply: bytes, prompt: Known) -> PromptScores | None:
        """Its reply; None: it says nothing of the prompt.

        Raises UnreadableReply, and FailedError `prompt_changed_by_engine`.
        """


class Dialect(Protocol):
    """How one kind of engine is asked so that token ids come back."""

    @property
    def gives_ids(self) -> bool:
        """Whether engines of this kind give token ids and log probabilities."""

    @property
    def has_openai_routes(self) -> bool:
        """Whether it takes chats and completions on the paths that OpenAI has."""

    @property
    def retelling(self) -> Retelling | None:
        """None: its replies are vLLM's."""

    @property
    def scoring(self) -> Scoring | None:
        """None: it cannot say how likely a prompt is."""

    def captured(self, raw: bytes, asked: Asked, model: str | None) -> bytes | Directed:
        """The client's chat or completion body with what capture needs; bytes go to the path that the client named.

        Raises EngineGaveNoIds for what this engine gives no ids for.
        """

    def from_tokens(
        self, raw: bytes, prompt: bytes | Known, *, model: str | None, n: int = 1, max_tokens: int | None = None
    ) -> bytes | Directed:
        """A request that samples from token ids ([P] uint32) as the client's body `raw` asks to; bytes go to
        `/v1/completions`. `max_tokens`: where the client names none. Raises EngineGaveNoIds."""


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """One choice as the engine sampled it."""

    index: int
    ids: bytes
    """[C] uint32, end-of-turn token included."""
    logprobs: bytes
    """[C] float64, one per id."""
    finish_reason: str
    stop_reason: int | str | None = None
    """The stop string, or the stop token's id; None: the end-of-sequence token, or it did not stop."""
    text: str | None = None
    """The engine's text, stop string and special tokens left out; None: it gave none."""
    top_logprobs: msgspec.Raw | None = None
    """As the engine gave them; None: not asked for."""
    spans: tuple[Span, ...] = ()
    message: dict[str, Any] | None = None
    """The assistant's message of a chat reply, as the client gets it; None for other replies."""
    routed_experts: msgspec.Raw | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One reply of an engine, read."""

    prompt: bytes
    """[P] uint32: what the engine says it was given."""
    choices: tuple[Sampled, ...]
    model: str
    usage: dict[str, Any] | None = None
