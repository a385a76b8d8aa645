"""What is checked: a tokenizer with its template, and the settings under which both are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from moorage.capture.messages import read_conversation
from moorage.engines.rendering.ask import PromptAsk
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.sentinel import Scene
from moorage.engines.rendering.tail import tail_ids
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.rendering.traits import Traits

__all__ = ["ASKED", "ASKED_AGAIN", "MARK", "SYSTEM", "Messages", "Subject", "answer", "call", "result"]

Messages = Sequence[Mapping[str, Any]]

MARK = "zqmarkqz"
"""Lower case letters: what folds case leaves it as it is."""
ASKED = {"role": "user", "content": "What is one and one?"}
ASKED_AGAIN = {"role": "user", "content": "And two and two?"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL_ID = "call00000"
"""Nine letters and digits: some templates insist on that."""
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}},
    },
}


class Subject:
    """One template under check. Renders as a session would: with the same `chat_template_kwargs` each time."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        kwargs: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        now: datetime,
    ) -> None:
        self.tokenizer, self.template, self.now = tokenizer, template, now
        self.kwargs = dict(kwargs or {})
        self.tools = list(tools or [TOOL])
        self.renderer = Renderer(tokenizer, template)

    @property
    def tool_name(self) -> str:
        """The first tool's."""
        function = self.tools[0].get("function") if isinstance(self.tools[0], dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        return name if isinstance(name, str) and name else "look_up"

    def scene(self, *, tools: bool = False, generate: bool = True, extra: Mapping[str, Any] | None = None) -> Scene:
        """What a request asks of the template, apart from its messages."""
        given = {**self.kwargs, **(extra or {})}
        return Scene(
            tools=self.tools if tools else None, add_generation_prompt=generate, extra=given or None, now=self.now
        )

    def text(
        self, messages: Messages, *, tools: bool = False, generate: bool = True, extra: Mapping[str, Any] | None = None
    ) -> str:
        """The rendered text. Raises TemplateFault."""
        return self.scene(tools=tools, generate=generate, extra=extra).render(self.template, messages)

    def tried(
        self, messages: Messages, *, tools: bool = False, generate: bool = True, extra: Mapping[str, Any] | None = None
    ) -> str | None:
        """The same; None: the template refuses."""
        try:
            return self.text(messages, tools=tools, generate=generate, extra=extra)
        except TemplateFault:
            return None

    def refusal(self, messages: Messages, *, tools: bool = False) -> str | None:
        """Why the template refuses these messages, in its own words; None: it takes them."""
        try:
            self.text(messages, tools=tools)
        except TemplateFault as fault:
            return fault.message.removeprefix("the chat template refuses these messages: ")
        return None

    def around(
        self, messages: Messages, mark: str = MARK, *, tools: bool = False, extra: Mapping[str, Any] | None = None
    ) -> tuple[str, str] | None:
        """The text before and after the mark in `messages`; None: refused, or the mark is not there once."""
        text = self.tried(messages, tools=tools, extra=extra)
        if text is None or text.count(mark) != 1:
            return None
        before, _, after = text.partition(mark)
        return before, after

    def tail(self, messages: Messages, at: int, *, tools: bool = False) -> list[int] | None:
        """[D] what stands after the assistant's message `at`; None: refused, or its beginning is not proven."""
        ends = self.traits(tools=tools).end_ids
        scene = self.scene(tools=tools)
        try:
            return tail_ids(self.template, self.tokenizer, scene, messages, at, mark=MARK, end_ids=ends)
        except TemplateFault:
            return None

    def traits(self, *, tools: bool = False, system: bool = False) -> Traits:
        """What the renderer's own probes found."""
        messages = [SYSTEM, ASKED] if system else [ASKED]
        conversation = read_conversation(messages)
        ask = PromptAsk(messages=messages, conversation=conversation, tools=self.tools if tools else None)
        return self.renderer.traits(ask)


def answer(content: str | None, **fields: Any) -> dict[str, Any]:
    """An assistant's message."""
    return {"role": "assistant", "content": content, **fields}


def call(name: str, *arguments: Any, content: str | None = None, first_id: int = 0) -> dict[str, Any]:
    """An assistant's message that calls a tool once for each of `arguments` (JSON, or an object)."""
    calls = [
        {"id": f"call{first_id + place:05d}", "type": "function", "function": {"name": name, "arguments": one}}
        for place, one in enumerate(arguments)
    ]
    return answer(content, tool_calls=calls)


def result(name: str, content: str = "Sunny.", number: int = 0) -> dict[str, Any]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": f"call{number:05d}", "name": name, "content": content}
