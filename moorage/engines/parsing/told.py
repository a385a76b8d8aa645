"""What a client has been told of a reply while it came, and how that meets what the whole reply turned out to be.

The whole one decides. What was told is its beginning, or equal to it but for outer white space and the spacing of JSON
(then the record has it as it was told), or the two disagree, and the client is told so.

Held back until more comes: white space at the end of a text, which parsers may drop, and what may be the beginning of
a special token, of a text that ends the reply, or of a mark of thoughts in the content. What follows the latter two is
told with the whole reply, which may have it otherwise or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moorage.errors import FailedError

__all__ = ["Disagrees", "Hidden", "Told"]

TEXTS = ("reasoning", "content")


class Disagrees(FailedError):
    """What was streamed is not what the whole reply says."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the {what} that was streamed is not what the whole reply says: the reply is recorded, read it again",
            code="stream_disagrees",
            hint="ask without stream, or with another tool_parser or reasoning_parser",
        )


class Hidden:
    """A tokenizer's special tokens, which no text shows."""

    def __init__(self, texts: Mapping[str, Any] | list[str]) -> None:
        longest_first = sorted(filter(None, texts), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._begins = {text[:length] for text in longest_first for length in range(1, len(text))}
        self._longest = max(map(len, longest_first), default=0)

    def out_of(self, text: str) -> str:
        """The text without them."""
        return self._pattern.sub("", text) if self._pattern is not None else text

    def first_in(self, text: str) -> int | None:
        """Where the first of them begins; None: there is none."""
        found = self._pattern.search(text) if self._pattern is not None else None
        return None if found is None else found.start()

    def begun(self, text: str) -> int:
        """How many characters at its end may be the beginning of one."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._begins:
                return length
        return 0


class Told:
    """One choice."""

    def __init__(
        self, hidden: Hidden, *, new_id: Callable[[], str], single_call: bool = False, stop_texts: Sequence[str] = ()
    ) -> None:
        """`single_call`: `parallel_tool_calls` is false; further calls are left out. `stop_texts` end the reply."""
        self._hidden, self._new_id, self._single = hidden, new_id, single_call
        self._ends = {name: Hidden(list(stop_texts)) for name in TEXTS}
        self._stop_texts = list(stop_texts)
        self._waiting: set[str] = set()
        """Texts of which nothing more is told before the whole reply is there."""
        self._told = {"reasoning": "", "content": ""}
        self._held = {"reasoning": "", "content": ""}
        self._calls: dict[Any, dict[str, Any]] = {}

    def add(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """OpenAI's delta for what a parser found (`ParsedStream.feed`); empty: nothing to tell yet."""
        if said.get("marks"):
            self._ends["content"] = Hidden([*self._stop_texts, *said["marks"]])
        texts = {name: self._text(name, said[name]) for name in TEXTS if said.get(name)}
        delta: dict[str, Any] = {name: text for name, text in texts.items() if text}
        calls = said.get("tool_calls")
        parts = calls.items() if isinstance(calls, dict) else ()
        found = [one for index, part in parts if (one := self._call(index, part)) is not None]
        return {**delta, "tool_calls": found} if found else delta

    def settle(self, message: dict[str, Any], *, cut: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the message to record, what is still to be told of it), from the whole reply's message.

        `cut`: the engine ended the reply before the model did. A call that was begun then stays as far as it came,
        where the whole reply has text in its place. Raises Disagrees.
        """
        told = [call for call in self._calls.values() if call["name"]]
        whole = message.get("tool_calls") or []
        if len(told) > len(whole):
            if not cut:
                raise Disagrees("tool call")
            return self._as_told(told), {}
        settled = dict(message)
        delta: dict[str, Any] = {}
        for name in TEXTS:
            text, more = self._settled_text(name, message.get(name) or "")
            if text or name in message:
                settled[name] = text or None
            if more:
                delta[name] = more
        pairs = [_settled_call(told[at] if at < len(told) else None, call, at) for at, call in enumerate(whole)]
        if pairs:
            settled["tool_calls"] = [call for call, _ in pairs]
        parts = [part for _, part in pairs if part is not None]
        return settled, {**delta, "tool_calls": parts} if parts else delta

    def _text(self, name: str, more: str) -> str:
        if name in self._waiting:
            return ""
        text = self._hidden.out_of(self._held[name] + more)
        end = self._ends[name].first_in(text)
        if end is not None:
            self._waiting.add(name)
        else:
            end = len(text) - self._ends[name].begun(text)
        end = len(text[: min(end, len(text) - self._hidden.begun(text))].rstrip())
        self._held[name] = text[end:]
        self._told[name] += text[:end]
        return text[:end]

    def _call(self, index: Any, part: Mapping[str, Any]) -> dict[str, Any] | None:
        call = self._calls.setdefault(index, {"name": None, "id": None, "arguments": ""})
        place = list(self._calls).index(index)
        if self._single and place:
            del self._calls[index]
            return None
        begun = call["name"] is not None
        call["id"] = call["id"] or part.get("id")
        call["name"] = call["name"] or part.get("name")
        more = part.get("arguments") or ""
        call["arguments"] += more
        if begun:
            return {"index": place, "function": {"arguments": more}} if more else None
        if call["name"] is None:
            return None
        call["id"] = call["id"] or f"call-{self._new_id()}"
        return {"index": place, **_whole_call(call)}

    def _as_told(self, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._told["content"] or None}
        if self._told["reasoning"]:
            message["reasoning"] = self._told["reasoning"]
        return {**message, "tool_calls": [_whole_call(call) for call in calls]}

    def _settled_text(self, name: str, whole: str) -> tuple[str, str]:
        told = self._told[name]
        if whole.startswith(told):
            return whole, whole[len(told) :]
        bare_told, bare = told.lstrip(), whole.lstrip()
        if not bare.startswith(bare_told.rstrip()):
            raise Disagrees(name)
        rest = bare[len(bare_told) :] if bare.startswith(bare_told) else ""
        return told + rest, rest


def _whole_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def _settled_call(
    told: dict[str, Any] | None, whole: dict[str, Any], index: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if told is None:
        return whole, {"index": index, **whole}
    function = whole["function"]
    if told["name"] != function["name"]:
        raise Disagrees("tool call")
    rest = _beyond(told["arguments"], function["arguments"])
    settled = _whole_call({**told, "arguments": told["arguments"] + rest})
    return settled, {"index": index, "function": {"arguments": rest}} if rest else None


def _beyond(told: str, whole: str) -> str:
    """What `whole` has after `told`, where the two are the same JSON but for white space. Raises Disagrees."""
    if whole.startswith(told):
        return whole[len(told) :]
    if _same_json(told, whole):
        return ""
    place, quoted, escaped = 0, False, False
    for character in told:
        while not quoted and place < len(whole) and whole[place].isspace() and character != whole[place]:
            place += 1
        if place < len(whole) and whole[place] == character:
            place += 1
        elif quoted or not character.isspace():
            raise Disagrees("tool call")
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif character == "\\":
            escaped = quoted
    return whole[place:]


def _same_json(told: str, whole: str) -> bool:
    try:
        return bool(json.loads(told) == json.loads(whole))
    except (ValueError, RecursionError):
        return False
