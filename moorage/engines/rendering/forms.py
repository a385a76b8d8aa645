"""What of a conversation's messages is structure, and what are texts that a template may only be writing out.

Two conversations of one form differ in those texts alone: contents, the ids, names and arguments of calls, thoughts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from moorage.capture.messages import reasoning_of

__all__ = ["form_of", "told_message"]

ROLES = frozenset({"assistant", "system", "tool", "user"})
CALL_FIELDS = frozenset({"function", "id", "type"})
FUNCTION_FIELDS = frozenset({"arguments", "name"})

Form = Any
"""The role alone for a message that has a text and nothing else; a tuple for any other."""


def form_of(message: Mapping[str, Any], texts: list[Any]) -> Form | None:
    """The message's form; its texts go to `texts`, none of them empty. None: it has parts that are not known here."""
    role, content = message.get("role"), message.get("content")
    if type(role) is not str or role not in ROLES:
        return None
    says = type(content) is str and content != ""
    if says:
        texts.append(content)
    elif content is not None and content != "":
        return None
    if len(message) == 2 and says:
        return role
    return _long_form(message, role, says, texts)


def told_message(message: Mapping[str, Any], texts: Iterator[Any], seal: Callable[[Any], Any]) -> dict[str, Any]:
    """The message with other texts, in the order of `form_of`; `seal` makes of a text the arguments of a call."""
    role, content = message["role"], message.get("content")
    told: dict[str, Any] = {"role": role, "content": next(texts) if content else content}
    if isinstance(message.get("name"), str):
        told["name"] = message["name"]
    if role == "tool" and message.get("tool_call_id") is not None:
        told["tool_call_id"] = next(texts)
    if role == "assistant":
        if _has_list(message):
            told["tool_calls"] = [_told_call(call, texts, seal) for call in message["tool_calls"]]
        if reasoning_of(message) is not None:
            told["reasoning"] = next(texts)
    return told


def _long_form(message: Mapping[str, Any], role: str, says: bool, texts: list[Any]) -> Form | None:
    name = message.get("name")
    form: list[Any] = [role, says, name if isinstance(name, str) else None]
    if role == "tool":
        given = message.get("tool_call_id")
        if given is not None and not _take(given, texts):
            return None
        form.append(given is not None)
    elif role == "assistant":
        if _has_list(message):
            calls = _calls_form(message["tool_calls"], texts)
            if calls is None:
                return None
            form.append(calls)
        thought = reasoning_of(message)
        if thought is not None:
            texts.append(thought)
            form.append("thinks")
    return tuple(form)


def _has_list(message: Mapping[str, Any]) -> bool:
    calls = message.get("tool_calls")
    return isinstance(calls, list) and bool(calls)


def _calls_form(calls: Sequence[Any], texts: list[Any]) -> Form | None:
    forms = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not call.keys() <= CALL_FIELDS or function.keys() != FUNCTION_FIELDS:
            return None
        kind = call.get("type")
        if not (kind is None or type(kind) is str) or ("id" in call and not _take(call["id"], texts)):
            return None
        if not _take(function["name"], texts):
            return None
        texts.append(function["arguments"])
        forms.append((tuple(call), kind, tuple(function)))
    return tuple(forms)


def _take(text: Any, texts: list[Any]) -> bool:
    if type(text) is not str or not text:
        return False
    texts.append(text)
    return True


def _told_call(call: Mapping[str, Any], texts: Iterator[Any], seal: Callable[[Any], Any]) -> dict[str, Any]:
    told = dict(call)
    if "id" in call:
        told["id"] = next(texts)
    function = dict(call["function"])
    function["name"] = next(texts)
    function["arguments"] = seal(next(texts))
    told["function"] = function
    return told
