"""A chat stream as OpenAI's typed events, numbered one after another."""

from __future__ import annotations

from typing import Any

from moorage.capture.messages import reasoning_of
from moorage.gateway.dialects.dialect import Fields, event
from moorage.gateway.dialects.responses.reply import call_item, ended, message_item, reasoning_item, skeleton, status_of

__all__ = ["ResponsesWriter"]


class ResponsesWriter:
    """Events of one response. Of several choices only the first is told: the protocol knows one."""

    def __init__(self, asked: Fields) -> None:
        self._asked = asked
        self._numbered = 0
        self._response: Fields | None = None
        """None: nothing came yet."""
        self._open: Fields | None = None
        """The item that is being said, as far as it is."""
        self._of = -1
        """Which call the open item is."""
        self._calls = 0
        self._end: Fields = {}
        self._usage: Any = None

    def feed(self, chunk: Fields) -> list[bytes]:
        """The events of one chat chunk."""
        events = self._begin(chunk)
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
        events = self._begin({}) + self._close()
        response = ended(self._whole(), self._end, self._usage)
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def fault(self, message: str, code: str) -> list[bytes]:
        """The response has failed."""
        events = self._begin({})
        failed = {**self._whole(), "status": "failed", "error": {"code": code, "message": message}}
        return [*events, self._event("response.failed", response=failed)]

    def _begin(self, chunk: Fields) -> list[bytes]:
        if self._response is not None:
            return []
        self._response = skeleton(chunk, self._asked)
        return [
            self._event("response.created", response=self._response),
            self._event("response.in_progress", response=self._response),
        ]

    def _delta(self, delta: Fields) -> list[bytes]:
        events: list[bytes] = []
        thought = reasoning_of(delta)
        if thought:
            events += self._within("reasoning", reasoning_item(self._key, ""))
            events.append(self._piece("response.reasoning_text.delta", thought))
        if delta.get("content"):
            events += self._within("message", message_item(self._key, "", "in_progress"))
            events.append(self._piece("response.output_text.delta", delta["content"], logprobs=[]))
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def _call(self, call: Fields) -> list[bytes]:
        function, number = call.get("function") or {}, call.get("index") or 0
        name, call_id = function.get("name") or "", call.get("id") or ""
        item = call_item(self._key, self._calls, call_id, name, "", "in_progress")
        events = self._within("function_call", item, number)
        if function.get("arguments"):
            assert self._open is not None
            self._open["arguments"] += function["arguments"]
            place = {"item_id": self._open["id"], "output_index": self._place}
            arguments = self._event("response.function_call_arguments.delta", **place, delta=function["arguments"])
            events.append(arguments)
        return events

    def _within(self, kind: str, item: Fields, number: int = -1) -> list[bytes]:
        """Open the item that the next piece belongs to, unless it is open."""
        if self._open is not None and self._open["type"] == kind and self._of == number:
            return []
        events = self._close()
        self._open, self._of = item, number
        if kind == "function_call":
            self._calls += 1
        bare = item if kind == "function_call" else {**item, "content": []}
        events.append(self._event("response.output_item.added", output_index=self._place, item=bare))
        if kind != "function_call":
            events.append(self._part("response.content_part.added"))
        return events

    def _piece(self, name: str, text: str, **more: Any) -> bytes:
        assert self._open is not None
        self._open["content"][0]["text"] += text
        return self._event(name, **self._at, delta=text, **more)

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        item, place = self._open, {"item_id": self._open["id"], "output_index": self._place}
        if item["type"] == "function_call":
            arguments = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._event("response.function_call_arguments.done", **place, **arguments)]
        else:
            text = item["content"][0]["text"]
            said = item["type"] == "message"
            name = "output_text" if said else "reasoning_text"
            more: Fields = {"logprobs": []} if said else {}
            events = [self._event(f"response.{name}.done", **self._at, text=text, **more)]
            events.append(self._part("response.content_part.done"))
        if "status" in item:
            item["status"] = status_of(self._end)
        events.append(self._event("response.output_item.done", output_index=self._place, item=item))
        self._whole()["output"].append(item)
        self._open = None
        return events

    def _part(self, name: str) -> bytes:
        assert self._open is not None
        return self._event(name, **self._at, part=self._open["content"][0])

    @property
    def _at(self) -> Fields:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": self._place, "content_index": 0}

    @property
    def _place(self) -> int:
        return len(self._whole()["output"])

    @property
    def _key(self) -> str:
        return str(self._whole()["id"]).removeprefix("resp_")

    def _whole(self) -> Fields:
        assert self._response is not None
        return self._response

    def _event(self, name: str, /, **fields: Any) -> bytes:
        number, self._numbered = self._numbered, self._numbered + 1
        return event(name, {"type": name, "sequence_number": number, **fields})
