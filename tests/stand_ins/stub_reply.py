"""What the stub answers, and how an engine's reply is spoiled on purpose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class StubReply:
    """A body, or with `chunks` a stream of them."""

    status: int = 200
    body: bytes = b""
    chunks: Sequence[bytes] = ()
    """Server-sent events, each with its blank line."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    ready: bytes | None = None
    """The encoded whole, when it was made before."""

    def head(self) -> bytes:
        lines = [b"HTTP/1.1 %d %s" % (self.status, REASONS.get(self.status, "Error").encode())]
        lines += [b"%s: %s" % pair for pair in self.headers]
        if self.chunks:
            lines += [b"content-type: text/event-stream; charset=utf-8", b"transfer-encoding: chunked"]
        else:
            lines += [b"content-type: application/json", b"content-length: %d" % len(self.body)]
        return b"\r\n".join([*lines, b"", b""])

    def encoded(self) -> bytes:
        if self.ready is not None:
            return self.ready
        if not self.chunks:
            return self.head() + self.body
        return self.head() + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in self.chunks) + b"0\r\n\r\n"

    def spoiled(self, kind: str) -> StubReply:
        """Without ids, with a log probability too few, or aborted."""
        if self.chunks:
            return StubReply(self.status, chunks=[_spoil_event(chunk, kind) for chunk in self.chunks])
        return StubReply(self.status, json.dumps(_spoil(json.loads(self.body), kind)).encode())


def _spoil_event(event: bytes, kind: str) -> bytes:
    data = event.removeprefix(b"data: ").strip()
    if not data.startswith(b"{"):
        return event
    return b"data: " + json.dumps(_spoil(json.loads(data), kind)).encode() + b"\n\n"


def _spoil(reply: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "no_ids":
        reply.pop("prompt_token_ids", None)
    for choice in reply.get("choices", []):
        logprobs = choice.get("logprobs") or {}
        if kind == "no_ids":
            choice.pop("token_ids", None)
            choice.pop("prompt_token_ids", None)
        elif kind == "short_logprobs":
            for key in ("content", "token_logprobs", "tokens"):
                if logprobs.get(key):
                    logprobs[key].pop()
        elif kind == "abort" and choice.get("finish_reason"):
            choice["finish_reason"] = "abort"
    return reply
