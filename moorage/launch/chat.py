"""The wire of a chat completion: sending, waiting while the server loads, streaming, and what each answer means."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moorage.errors import FailedError, MoorageError, NotReadyError, PreflightError, TryAgainError, UsageError
from moorage.launch.entry import Entry
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms.base import Report
from moorage.launch.readiness import reason_of

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 5.0
LONGEST_TIMEOUT_S = 2_000_000.0
"""poll(2) counts milliseconds in 31 bits."""
PAUSE_S = 1.0
LOADING_TYPES = frozenset({"model_not_ready", "model_loading", "server_initializing", "model_not_loaded"})
FATAL_TYPES = frozenset({"model_load_error", "initialization_error", "model_load_failed", "initialization_failed"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A chat completion as it came."""

    content: str | None
    """Text of the first choice; None when it holds only tool calls."""
    response: dict[str, Any]
    """The server's JSON; put together from the chunks when it was streamed."""


@dataclass(slots=True)
class ChatClient:
    """One request to one service. `wait_s` bounds how long a loading server is asked again."""

    entry: Entry
    url: str
    timeout_s: float
    wait_s: float
    report: Report
    is_dead: Callable[[], bool]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the service wants besides: its key."""
    now_s: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _told: set[str] = field(default_factory=set)

    def send(self, body: bytes, *, streams: bool, on_delta: Callable[[str], None] | None) -> Reply:
        """Send `body` until it is taken. Raises NotReadyError, FailedError, TryAgainError, UsageError."""
        deadline = self.now_s() + self.wait_s
        while True:
            raise_if_interrupted()
            try:
                return self._once(body, streams=streams, on_delta=on_delta)
            except (NotReadyError, TryAgainError) as fault:
                left = deadline - self.now_s()
                if left <= 0 or fault.code in ("timeout", "stream_cut"):
                    raise
                if fault.message not in self._told:
                    self._told.add(fault.message)
                    self.report("wait", fault.message)
            self.pause(min(PAUSE_S, max(0.0, left)))

    def _once(self, body: bytes, *, streams: bool, on_delta: Callable[[str], None] | None) -> Reply:
        import requests

        with requests.Session() as session:
            session.trust_env = False
            try:
                with session.post(
                    self.url,
                    data=body,
                    headers={**self.headers, "Content-Type": "application/json"},
                    timeout=(CONNECT_TIMEOUT_S, min(self.timeout_s, LONGEST_TIMEOUT_S)),
                    allow_redirects=False,
                    stream=streams,
                ) as answer:
                    return self._read(answer, on_delta)
            except requests.Timeout as fault:
                if isinstance(fault, requests.ConnectTimeout):
                    raise self._no_connection() from fault
                raise TryAgainError(
                    f"no answer from {self.entry['job_id']} within {self.timeout_s:g} s",
                    code="timeout",
                    hint="give it longer with --timeout",
                    next=[f"moor status {self.entry['job_id']}", f"moor logs {self.entry['job_id']}"],
                ) from fault
            except requests.RequestException as fault:
                raise self._no_connection() from fault

    def _read(self, answer: requests.Response, on_delta: Callable[[str], None] | None) -> Reply:
        if answer.status_code != 200:
            raise self._refused(answer.status_code, answer.content)
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return self._read_stream(answer, on_delta)
        reply = self._completion(answer.content)
        if on_delta is not None and reply.content:
            on_delta(reply.content)
        return reply

    def _completion(self, data: bytes) -> Reply:
        body = _parse(data)
        try:
            message = body["choices"][0]["message"]
            content = message.get("content")
            good = isinstance(message, dict) and (content is None or isinstance(content, str))
        except (KeyError, IndexError, TypeError, AttributeError):
            good, content = False, None
        if not good or not isinstance(body, dict):
            raise FailedError(
                f"{self.entry['job_id']} answered 200 with something that is no chat completion",
                code="bad_reply",
                hint="another program may answer on this port",
                next=[f"moor status {self.entry['job_id']}"],
                data={"response": body if body is not None else data[:500].decode("utf-8", "replace")},
            )
        return Reply(content, body)

    def _read_stream(self, answer: requests.Response, on_delta: Callable[[str], None] | None) -> Reply:
        """Read server-sent events (WHATWG HTML, section 9.2) up to `[DONE]`."""
        assembled = _Assembled()
        for event in _events(answer):
            if event == "[DONE]":
                return self._completion(json.dumps(assembled.response).encode())
            chunk = _parse(event.encode())
            if isinstance(chunk, dict) and "error" in chunk:
                raise self._refused(500, event.encode())
            text = assembled.add(chunk)
            if text and on_delta is not None:
                on_delta(text)
        raise TryAgainError(
            f"the stream from {self.entry['job_id']} ended in the middle",
            code="stream_cut",
            next=[f"moor status {self.entry['job_id']}"],
        )

    def _refused(self, status: int, data: bytes) -> MoorageError:
        body = _parse(data)
        kind, said = reason_of(body), _message_of(body) or data[:500].decode("utf-8", "replace").strip()
        job_id = self.entry["job_id"]
        logs, details = [f"moor logs {job_id}"], {"status": status, "response": body}
        what = f"{job_id} answered {status}{f' {kind}' if kind else ''}: {said}"
        if status == 503 and kind in FATAL_TYPES:
            return FailedError(what, code=kind, hint="its logs say why", next=logs, data=details)
        if status == 202 or (status == 503 and kind in LOADING_TYPES):
            return NotReadyError(
                what, hint="it is still loading: add --wait 300", next=[f"moor wait {job_id}"], data=details
            )
        if status in (401, 403):
            return PreflightError(what, code="refused", hint="the server wants a key", data=details)
        if status in (408, 429, 502, 503, 504):
            return TryAgainError(what, next=[f"moor status {job_id}"], data=details)
        if 400 <= status < 500:
            return UsageError(what, code="bad_request", hint="the server says what is wrong with it", data=details)
        return FailedError(what, code="server_error", hint="its logs say why", next=logs, data=details)

    def _no_connection(self) -> MoorageError:
        job_id = self.entry["job_id"]
        if self.is_dead():
            return FailedError(
                f"the service {job_id} is dead",
                code="service_dead",
                hint="its logs say why; then stop it and start a new one",
                next=[f"moor logs {job_id}", f"moor stop {job_id}"],
            )
        return TryAgainError(
            f"{self.url} does not answer",
            code="no_connection",
            hint="it may still be starting: add --wait 300",
            next=[f"moor wait {job_id}", f"moor status {job_id}"],
        )


class _Assembled:
    """A completion put together from its chunks: the shape it has when it is not streamed."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = {}
        self._text: list[str] = []

    def add(self, chunk: Any) -> str:
        """Take one chunk in; the text it adds."""
        if not isinstance(chunk, dict):
            return ""
        kept = {key: value for key, value in chunk.items() if key != "choices" and value is not None}
        self.response = {"choices": [{"index": 0, "message": {}}], **self.response, **kept, "object": "chat.completion"}
        message, added = self.response["choices"][0], ""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            _merge(message["message"], delta)
            added += delta.get("content") or ""
            if choice.get("finish_reason"):
                message["finish_reason"] = choice["finish_reason"]
        return added


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to a message: text is joined, tool calls are joined by their index, the rest is taken once."""
    for key, value in delta.items():
        if isinstance(value, str) and key not in ("role", "id", "type", "name"):
            message[key] = message.get(key, "") + value
        elif isinstance(value, list) and key == "tool_calls":
            calls = message.setdefault(key, [])
            for call in value:
                while len(calls) <= call.get("index", 0):
                    calls.append({})
                part = {name: content for name, content in call.items() if name != "function" and content is not None}
                calls[call.get("index", 0)].update(part)
                _merge(calls[call.get("index", 0)].setdefault("function", {}), call.get("function") or {})
        elif value is not None:
            message.setdefault(key, value)


def _events(answer: requests.Response) -> Iterator[str]:
    """The data of each event; comments and other fields are passed over."""
    data: list[str] = []
    for raw in answer.iter_lines(chunk_size=None, delimiter=None):
        line = raw.decode("utf-8", "replace")
        if not line and data:
            yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    if data:
        yield "\n".join(data)


def _message_of(body: Any) -> str | None:
    """The server's own words: OpenAI's `error.message`, TAO's `error`, FastAPI's `detail`."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body.get("message", body.get("detail")))
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else None


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
