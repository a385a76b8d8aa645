"""What a reply is split into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Asked", "Parsed"]


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a model wrote, split."""

    content: str | None
    """None: nothing but calls or reasoning."""
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] = []
    """As OpenAI writes them, arguments as a JSON string."""
    error: str | None = None
    """Why nothing was parsed: then `content` is the whole text."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request its parser is told."""

    tool_parser: str | None = None
    reasoning_parser: str | None = None
    tools: Sequence[Any] | None = None
    """OpenAI's; without them the tool parser has nothing to look for."""
    tool_choice: str | Mapping[str, Any] | None = None
    """None: auto."""
    parallel_tool_calls: bool | None = None
    template_kwargs: Mapping[str, Any] | None = None

    @property
    def wants_parser(self) -> bool:
        """Whether there is anything to split."""
        return self.reasoning_parser is not None or (self.tool_parser is not None and bool(self.tools))

    def as_line(self) -> dict[str, Any]:
        """What the program is sent of it."""
        line: dict[str, Any] = {"tool_parser": self.tool_parser, "reasoning_parser": self.reasoning_parser}
        line["tools"] = list(self.tools or ())
        line["template_kwargs"] = dict(self.template_kwargs or {})
        if self.tool_choice is not None:
            line["tool_choice"] = self.tool_choice
        if self.parallel_tool_calls is not None:
            line["parallel_tool_calls"] = self.parallel_tool_calls
        return line
