"""The fields of vLLM's replies that are read. Chat, completions and generate share a shape; unknown fields pass by."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["NULL", "ChoiceSaid", "LogprobsSaid", "ReplySaid", "TopsReply", "VersionSaid"]

NULL = msgspec.Raw(b"null")


class EntrySaid(msgspec.Struct, gc=False):
    """One sampled token of a chat or generate reply."""

    logprob: float | None = None


class LogprobsSaid(msgspec.Struct):
    """`content` in chat and generate, `token_logprobs` in completions."""

    content: list[EntrySaid] | None = None
    token_logprobs: list[float | None] | None = None


class VersionSaid(msgspec.Struct):
    """The weights that sampled tokens [start, end)."""

    version: str
    start: int
    end: int


class ChoiceSaid(msgspec.Struct):
    """One choice, whole or (with `delta`) a piece of one."""

    index: int = 0
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    text: str | None = None
    logprobs: LogprobsSaid | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    weight_versions: list[VersionSaid] | None = None
    routed_experts: msgspec.Raw = NULL


class ReplySaid(msgspec.Struct):
    """A reply, or one event of a stream."""

    choices: list[ChoiceSaid] = []
    model: str | None = None
    usage: dict[str, Any] | None = None
    prompt_token_ids: list[int] | None = None
    error: msgspec.Raw = NULL


class TopsLogprobs(msgspec.Struct):
    content: msgspec.Raw = NULL
    top_logprobs: msgspec.Raw = NULL


class TopsChoice(msgspec.Struct):
    index: int = 0
    logprobs: TopsLogprobs | None = None

    def rows(self) -> bytes:
        """The alternatives' JSON, a list with one item a token: chat's entries, or completions' dictionaries."""
        for said in () if self.logprobs is None else (self.logprobs.content, self.logprobs.top_logprobs):
            if bytes(said) != b"null":
                return bytes(said)
        return b"[]"


class TopsReply(msgspec.Struct):
    """The same reply, read for the alternatives alone."""

    choices: list[TopsChoice] = []
