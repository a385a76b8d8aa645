"""Replies that cannot be captured: nothing of them is recorded, and nothing is made up."""

from __future__ import annotations

from moorage.errors import FailedError

__all__ = ["AbortedByEngine", "EngineGaveNoIds", "EngineReported", "ShortLogprobs", "UnreadableReply"]


class EngineGaveNoIds(FailedError):
    """The reply lacks token ids of the prompt or of a completion, or has fewer than it says it sampled."""

    code = "engine_gives_no_token_ids"


class ShortLogprobs(FailedError):
    """There is not exactly one log probability for each sampled token."""

    code = "short_logprobs"


class AbortedByEngine(FailedError):
    """The engine stopped on its own: the finish reason is `abort` or `error`, or there is none."""

    code = "engine_aborted"


class UnreadableReply(FailedError):
    """The reply is not JSON of the expected shape."""

    code = "engine_reply_unreadable"


class EngineReported(FailedError):
    """The engine reported an error in the middle of a stream."""

    code = "engine_error"
