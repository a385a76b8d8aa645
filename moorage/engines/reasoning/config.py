"""How much thinking is asked for, as Atropos configures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from moorage.errors import UsageError

__all__ = ["EFFORTS", "EFFORT_TOKENS", "Effort", "InvalidReasoning", "ReasoningConfig"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
EFFORTS: tuple[str, ...] = get_args(Effort)
EFFORT_TOKENS = {"none": 1024, "minimal": 3200, "low": 6400, "medium": 16000, "high": 25600, "xhigh": 30400}
"""What an effort is worth where only a budget can be said: shares of 32,000 tokens, never under 1,024."""


class InvalidReasoning(UsageError, ValueError):
    """An effort or a budget that is none. A ValueError too: scripts written for Atropos catch that."""

    code = "bad_reasoning"


@dataclass(frozen=True)
class ReasoningConfig:
    """What is asked of every chat request. An effort or a budget asks for thinking by itself.

    With both, the effort counts. Raises InvalidReasoning.
    """

    enabled: bool = False
    effort: str | None = None
    """None: the provider's own, which is `medium` where one must be said."""
    max_tokens: int | None = None
    """At most so many tokens of thinking; None: not limited here."""
    as_tokens: bool = False
    """An effort is said as its budget, where a provider takes budgets: for models that know nothing of efforts."""

    @classmethod
    def from_env_config(cls, config: object) -> ReasoningConfig:
        """Of an environment's configuration, a mapping or an object like Atropos' `BaseEnvConfig`, with any of
        `thinking_mode`, `reasoning_effort`, `max_reasoning_tokens`. Raises InvalidReasoning."""

        def field(name: str) -> Any:
            return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)

        enabled = field("thinking_mode")
        if not isinstance(enabled, bool | None):
            raise InvalidReasoning(f"thinking_mode is {enabled!r}: true or false")
        return cls(bool(enabled), field("reasoning_effort"), field("max_reasoning_tokens"))

    def __post_init__(self) -> None:
        if self.effort is not None and self.effort not in EFFORTS:
            raise InvalidReasoning(f"Invalid reasoning_effort: {self.effort!r}. It is one of {', '.join(EFFORTS)}")
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 1):
            raise InvalidReasoning(f"max_reasoning_tokens is {self.max_tokens!r}: a whole number of at least 1")
        if self.effort is not None or self.max_tokens is not None:
            object.__setattr__(self, "enabled", True)

    @property
    def budget_tokens(self) -> int | None:
        """The effort as a budget, else the budget itself; None: neither was given."""
        return EFFORT_TOKENS[self.effort] if self.effort is not None else self.max_tokens
