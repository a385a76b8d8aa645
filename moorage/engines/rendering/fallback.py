"""Tools for templates that know none: what they offer is written into the system's words, calls and results as text.

    fallback_renderer(renderer, "hermes")

| family | a call | a result | the parser |
| --- | --- | --- | --- |
| hermes | `<tool_call>` around JSON, each its own | `<tool_response>`, as the user | hermes |
| llama3_json | JSON with `parameters`, joined by `; ` | JSON with `output`, as the user | llama3_json |
| pythonic | `[look(place="here")]` | JSON with `output`, as the user | pythonic |

The template itself is rendered as ever, with messages that it knows: everything else of the renderer is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from moorage.engines.rendering.fallback_families import FAMILIES, Family
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.template import ChatTemplate, TemplateFault

__all__ = ["FAMILIES", "fallback_renderer"]

PROBE = "MoorageSystemProbe"


def fallback_renderer(renderer: Renderer, family: str) -> Renderer:
    """A renderer of the same model whose template writes tools as `family` does. Takes as long as loading one."""
    template = _FallbackTemplate(renderer.template, FAMILIES[family], renderer.tokenizer.named)
    return Renderer(renderer.tokenizer, template)


class _FallbackTemplate(ChatTemplate):
    """The model's template, given messages without tools, calls and results."""

    def __init__(self, base: ChatTemplate, family: Family, named: Mapping[str, str]) -> None:
        self._family = family
        self._takes_system = self._takes_two = True
        super().__init__(base.source, named)
        self._takes_system = self._writes({"role": "system", "content": PROBE}, {"role": "user", "content": "a"})
        self._takes_two = self._writes({"role": "user", "content": "a"}, {"role": "user", "content": PROBE})

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> str:
        """As the template would render these messages, were they said in text."""
        said = _with_preamble(_as_text(messages, self._family), self._family.preamble(tools or ()), self._takes_system)
        if not self._takes_two:
            said = _alternating(said)
        return super().render(said, add_generation_prompt=add_generation_prompt, extra=extra, now=now)

    def prepare_told(self) -> bool:
        """Texts are put together here, where no note is taken of it."""
        return False

    def _writes(self, *messages: dict[str, Any]) -> bool:
        """Some templates refuse a system's message, or two of a user's, or leave one out."""
        try:
            return PROBE in super().render(messages, now=datetime(2026, 1, 1))
        except TemplateFault:
            return False


def _as_text(messages: Sequence[Mapping[str, Any]], family: Family) -> list[dict[str, Any]]:
    """Calls become the assistant's words; results become the user's, those in a row one message."""
    said: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    results: list[str] = []
    for message in messages:
        if message.get("role") == "tool":
            call_id = message.get("tool_call_id")
            name = message.get("name") or names.get(call_id if isinstance(call_id, str) else "", "")
            results.append(family.result(name, text_of(message.get("content"))))
            continue
        _put_results(said, results, family)
        calls = message.get("tool_calls") if message.get("role") == "assistant" else None
        if not isinstance(calls, list) or not calls:
            said.append({name: value for name, value in message.items() if name != "tool_calls"})
            continue
        made = [_read_call(call) for call in calls]
        names |= {call_id: name for call_id, name, _ in made if call_id is not None}
        written = family.calls([(name, arguments) for _, name, arguments in made])
        content = text_of(message.get("content"))
        kept = {name: value for name, value in message.items() if name != "tool_calls"}
        said.append({**kept, "content": f"{content}\n{written}" if content else written})
    _put_results(said, results, family)
    return said


def _alternating(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a user says after a result becomes one message with it."""
    joined: list[dict[str, Any]] = []
    for message in said:
        if joined and message.get("role") == joined[-1].get("role") == "user":
            before, after = text_of(joined[-1].get("content")), text_of(message.get("content"))
            joined[-1] = {**joined[-1], "content": f"{before}\n\n{after}"}
        else:
            joined.append(message)
    return joined


def _put_results(said: list[dict[str, Any]], results: list[str], family: Family) -> None:
    if results:
        said.append({"role": "user", "content": family.between.join(results)})
        results.clear()


def _read_call(call: Any) -> tuple[str | None, str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise TemplateFault("a tool call is no function's")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = {}
    call_id = call.get("id")
    return call_id if isinstance(call_id, str) else None, str(function.get("name")), arguments or {}


def _with_preamble(said: list[dict[str, Any]], preamble: str, takes_system: bool) -> list[dict[str, Any]]:
    if not preamble or not said:
        return said
    if said[0].get("role") in ("system", "developer"):
        content = text_of(said[0].get("content"))
        first = {**said[0], "content": f"{content}\n\n{preamble}" if content else preamble}
        return [first, *said[1:]]
    if takes_system:
        return [{"role": "system", "content": preamble}, *said]
    first = {**said[0], "content": f"{preamble}\n\n{text_of(said[0].get('content'))}"}
    return [first, *said[1:]]


def text_of(content: Any) -> str:
    """A message's content as one text."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
