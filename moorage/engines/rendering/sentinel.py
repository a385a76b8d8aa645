"""Marks that stand for what a model sampled, so that one render shows what the template writes around it.

The tokens of a sampled turn are known; only the text around them is wanted. So the turn's content is replaced by a
mark, the conversation is rendered once, and the text is cut at the mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from moorage.engines.rendering.template import ChatTemplate, TemplateFault

__all__ = ["Scene", "call_mark", "content_mark", "mark_of"]

CONTINUE = "MoorageContinuesHere"
"""Put after a last message that the model is to go on with."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of the template, apart from the messages."""

    tools: Sequence[Any] | None = None
    add_generation_prompt: bool = True
    continue_final: bool = False
    """The last message is one that the assistant has begun."""
    extra: Mapping[str, Any] | None = None
    now: datetime | None = None

    def render(self, template: ChatTemplate, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt's text. Raises TemplateFault."""
        if self.continue_final:
            return self._render_prefill(template, messages)
        return template.render(
            messages,
            tools=self.tools,
            add_generation_prompt=self.add_generation_prompt,
            extra=self.extra,
            now=self.now,
        )

    def _render_prefill(self, template: ChatTemplate, messages: Sequence[Mapping[str, Any]]) -> str:
        """Up to the end of the last message's content, as transformers and vLLM cut it.

        A template that trims content takes the mark's space too; then the content's own outer space goes as well.
        """
        text = template.render(
            [*messages[:-1], _with_suffix(messages[-1], CONTINUE + " ")],
            tools=self.tools,
            add_generation_prompt=False,
            extra=self.extra,
            now=self.now,
        )
        if CONTINUE not in text:
            raise TemplateFault("the chat template leaves out the message that is to be continued")
        at = text.rindex(CONTINUE)
        keeps_space = text.startswith(" ", at + len(CONTINUE))
        return text[:at] if keeps_space else text[:at].rstrip()


def mark_of(key: bytes, place: int) -> str:
    """The mark of message `place`. `key` is a digest of the conversation, so no message can contain its own mark."""
    return f"Zq{key.hex()[:16]}x{place}xqZ"


def content_mark(mark: str) -> dict[str, Any]:
    """An assistant's message that says only the mark."""
    return {"role": "assistant", "content": mark}


def call_mark(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The message with the mark as the only argument of its last call; without its reasoning."""
    *others, last = message["tool_calls"]
    function = {**last["function"], "arguments": {"value": mark}}
    return {
        "role": "assistant",
        "content": message.get("content"),
        "tool_calls": [*others, {**last, "function": function}],
    }


def _with_suffix(message: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        for place in range(len(content) - 1, -1, -1):
            part = content[place]
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                parts = [*content]
                parts[place] = {**part, "text": part["text"] + suffix}
                return {**message, "content": parts}
        raise TemplateFault("the message that is to be continued has no text")
    return {**message, "content": (content or "") + suffix}
