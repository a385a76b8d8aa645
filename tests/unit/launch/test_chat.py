"""The wire of a chat completion, against a real server that answers as it is told."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import FailedError, MoorageError, NotReadyError, PreflightError, TryAgainError, UsageError
from moorage.launch.chat import LONGEST_TIMEOUT_S, ChatClient, Reply

EVENTS = "text/event-stream; charset=utf-8"


class Server:
    """Answers one request after the other with what `answers` holds; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, list[bytes]]] = []
        self.bodies: list[bytes] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                left = server.answers
                status, kind, pieces = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()

            def log_message(self, *_words: object) -> None:
                """Nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1/chat/completions"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def send(server: Server, *answers: tuple[int, str, list[bytes]], **options: Any) -> tuple[Reply, list[str]]:
    """(the reply, the deltas) of one request; time passes as fast as it is waited for."""
    server.answers, server.bodies = list(answers), []
    clock = [0.0]
    deltas: list[str] = []
    client = ChatClient(
        entry={"job_id": "me"},
        url=server.url,
        timeout_s=options.pop("timeout_s", 30),
        wait_s=options.pop("wait_s", 0),
        report=lambda *_words, **_numbers: None,
        is_dead=lambda: options.get("dead", False),
        now_s=lambda: clock[0],
        pause=lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 0.01)),
    )
    return client.send(b"{}", streams=True, on_delta=deltas.append), deltas


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]}


def event(body: object) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(max_size=5), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_a_stream_is_the_same_however_it_is_cut(
    server: Server, texts: list[str], cuts: list[int], newline: bytes
) -> None:
    chunks = [chunk(role="assistant"), *(chunk(content=text) for text in texts)]
    finish = {**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}}
    whole = b": a comment\n\n" + b"".join(event(one) for one in [*chunks, finish]) + DONE
    whole = whole.replace(b"\n", newline)
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    pieces = [whole[start:end] for start, end in itertools.pairwise(places)]
    reply, deltas = send(server, (200, EVENTS, pieces))
    assert "".join(deltas) == "".join(texts)
    assert reply.content == ("".join(texts) if texts else None)
    choice = reply.response["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert reply.response["usage"] == {"total_tokens": 3}
    assert reply.response["object"] == "chat.completion"


def test_tool_calls_are_put_together(server: Server) -> None:
    calls = [
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    reply, deltas = send(server, (200, EVENTS, [*(event(chunk(tool_calls=[call])) for call in calls), DONE]))
    assert (reply.content, deltas) == (None, [])
    assert reply.response["choices"][0]["message"]["tool_calls"] == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]


@pytest.mark.parametrize(
    ("pieces", "kind", "code"),
    [
        ([event(chunk(content="a"))], TryAgainError, "stream_cut"),
        ([], TryAgainError, "stream_cut"),
        ([event({"error": {"message": "no memory", "type": "internal"}})], FailedError, "server_error"),
        ([DONE], FailedError, "bad_reply"),
        ([b"data: nonsense\n\n", DONE], FailedError, "bad_reply"),
    ],
)
def test_a_stream_that_goes_wrong(server: Server, pieces: list[bytes], kind: type[MoorageError], code: str) -> None:
    with pytest.raises(kind) as caught:
        send(server, (200, EVENTS, pieces), wait_s=60)
    assert caught.value.code == code
    assert len(server.bodies) == 1  # what was begun is not asked twice


def answer(status: int, kind: str, message: str = "why") -> tuple[int, str, list[bytes]]:
    return status, "application/json", [json.dumps({"error": {"type": kind, "message": message}}).encode()]


GOOD = (200, "application/json", [b'{"choices": [{"message": {"content": "yes"}}]}'])


@pytest.mark.parametrize("first", [answer(202, "server_initializing"), answer(503, "model_not_ready"), answer(502, "")])
def test_what_passes_is_waited_for(server: Server, first: tuple[int, str, list[bytes]]) -> None:
    reply, deltas = send(server, first, first, GOOD, wait_s=60)
    assert (reply.content, deltas, len(server.bodies)) == ("yes", ["yes"], 3)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (202, "model_loading", NotReadyError),
        (503, "model_not_ready", NotReadyError),
        (503, "model_load_error", FailedError),
        (503, "", TryAgainError),
        (400, "invalid_request", UsageError),
        (422, "", UsageError),
        (403, "", PreflightError),
        (500, "internal_error", FailedError),
        (301, "", FailedError),
    ],
)
def test_statuses(server: Server, status: int, kind: str, error: type[MoorageError]) -> None:
    with pytest.raises(error) as caught:
        send(server, answer(status, kind, "the server's words"))
    assert type(caught.value) is error
    assert "the server's words" in caught.value.message
    assert caught.value.data["status"] == status


@pytest.mark.parametrize(
    "body", [b'{"detail": "d"}', b'{"message": "d"}', b'{"error": "d"}', b'{"error": {"message": "d"}}', b"d", b" d\n"]
)
def test_whatever_the_server_says_is_passed_on(server: Server, body: bytes) -> None:
    with pytest.raises(UsageError, match="answered 400: d"):
        send(server, (400, "text/plain", [body]))


def test_the_longest_timeout_is_one_that_the_system_takes(server: Server) -> None:
    assert send(server, GOOD, timeout_s=LONGEST_TIMEOUT_S * 1000)[0].content == "yes"


@pytest.mark.parametrize(("dead", "error"), [(True, FailedError), (False, TryAgainError)])
def test_nobody_there(dead: bool, error: type[MoorageError]) -> None:
    gone = Server()
    gone.close()
    with pytest.raises(error):
        send(gone, GOOD, dead=dead)
