"""The pieces of one choice's message, put together again as the client's own library does."""

from __future__ import annotations

from typing import Any

__all__ = ["MessagePieces"]


class MessagePieces:
    """Deltas of a chat stream; strings of one name are joined, tool calls by their index."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {}
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, delta: dict[str, Any]) -> None:
        """One delta. What is null says nothing."""
        for name, value in delta.items():
            if name == "tool_calls":
                for call in value or ():
                    self._add_call(call)
            elif name == "role" or (value is not None and not isinstance(value, str)):
                self._others[name] = value
            elif value is not None:
                self._texts.setdefault(name, []).append(value)

    def message(self) -> dict[str, Any]:
        """The message as an unstreamed reply has it: content is null when nothing was said and calls were made."""
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        calls = [self._whole(self._calls[index]) for index in sorted(self._calls)]
        content = texts.pop("content", "")
        message: dict[str, Any] = {"role": self._others.get("role", "assistant"), "content": content or None}
        if not content and not calls and not texts:
            message["content"] = ""
        message |= {name: value for name, value in self._others.items() if name != "role"} | texts
        if calls:
            message["tool_calls"] = calls
        return message

    def _add_call(self, piece: dict[str, Any]) -> None:
        call = self._calls.setdefault(piece.get("index", 0), {"name": None, "arguments": []})
        for name, value in piece.items():
            if name == "function":
                call["name"] = call["name"] or value.get("name")
                call["arguments"].append(value.get("arguments") or "")
            elif name != "index" and value is not None:
                call["said"] = call.get("said", {}) | {name: value}

    @staticmethod
    def _whole(call: dict[str, Any]) -> dict[str, Any]:
        function = {"name": call["name"], "arguments": "".join(call["arguments"])}
        return {**call.get("said", {}), "function": function}
