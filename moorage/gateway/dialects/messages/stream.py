"""A chat stream as Anthropic's events: message_start, blocks one after another, message_delta, message_stop."""

from __future__ import annotations

from typing import Any

from moorage.capture.messages import reasoning_of
from moorage.gateway.dialects.dialect import Fields, event
from moorage.gateway.dialects.messages.reply import message_id, stop_of, usage_of

__all__ = ["MessagesWriter"]


class MessagesWriter:
    """Events of one message. Of several choices only the first is told: the protocol knows one."""

    def __init__(self, asked: Fields) -> None:
        self._asked = asked
        self._begun = False
        self._blocks = 0
        self._open: tuple[str, int] | None = None
        """The block that is open: its kind, and which tool call it is."""
        self._end: Fields = {}
        """The last choice with an end."""
        self._usage: Any = None

    def feed(self, chunk: Fields) -> list[bytes]:
        """The events of one chat chunk."""
        events = [] if self._begun else [self._start(chunk)]
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            events += self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                self._end = choice
        return events

    def end(self) -> list[bytes]:
        """The events after the last chunk."""
        events = [] if self._begun else [self._start({})]
        events += self._close()
        stop_reason, stop_sequence = stop_of(self._end)
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        events.append(event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage_of(self._usage)}))
        events.append(event("message_stop", {"type": "message_stop"}))
        return events

    def fault(self, message: str, code: str) -> list[bytes]:
        """The protocol's own error event."""
        del code
        return [event("error", {"type": "error", "error": {"type": "api_error", "message": message}})]

    def _start(self, chunk: Fields) -> bytes:
        self._begun = True
        message: Fields = {
            "id": message_id(chunk),
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or self._asked.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(chunk.get("usage")),
        }
        return event("message_start", {"type": "message_start", "message": message})

    def _delta(self, delta: Fields) -> list[bytes]:
        events: list[bytes] = []
        thought = reasoning_of(delta)
        if thought:
            events += self._within("thinking", 0, {"type": "thinking", "thinking": "", "signature": ""})
            events.append(self._piece({"type": "thinking_delta", "thinking": thought}))
        if delta.get("content"):
            events += self._within("text", 0, {"type": "text", "text": ""})
            events.append(self._piece({"type": "text_delta", "text": delta["content"]}))
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def _call(self, call: Fields) -> list[bytes]:
        function = call.get("function") or {}
        block: Fields = {
            "type": "tool_use",
            "id": call.get("id") or "",
            "name": function.get("name") or "",
            "input": {},
        }
        events = self._within("tool_use", call.get("index") or 0, block)
        if function.get("arguments"):
            events.append(self._piece({"type": "input_json_delta", "partial_json": function["arguments"]}))
        return events

    def _within(self, kind: str, number: int, block: Fields) -> list[bytes]:
        """Open the block that the next piece belongs to, unless it is open."""
        if self._open == (kind, number):
            return []
        events = self._close()
        self._open = (kind, number)
        start = {"type": "content_block_start", "index": self._blocks, "content_block": block}
        return [*events, event("content_block_start", start)]

    def _piece(self, delta: Fields) -> bytes:
        piece = {"type": "content_block_delta", "index": self._blocks, "delta": delta}
        return event("content_block_delta", piece)

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        events = []
        if self._open[0] == "thinking":
            events.append(self._piece({"type": "signature_delta", "signature": ""}))
        events.append(event("content_block_stop", {"type": "content_block_stop", "index": self._blocks}))
        self._open = None
        self._blocks += 1
        return events
