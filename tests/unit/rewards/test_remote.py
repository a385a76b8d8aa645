"""A reward model behind HTTP: retries, its deadline, what it may answer, and where its key goes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from moorage.errors import MoorageError, PreflightError, UsageError
from moorage.rewards.functions.remote import Remote
from moorage.rewards.sample import Sample

SAMPLE = Sample(response="two", messages=[{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "two"}])
Answer = tuple[int, bytes, dict[str, str]]


class Model:
    """A reward model that answers what it is told to, the last answer again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = []
        self.seen: list[tuple[dict[str, str], Any]] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                model.seen.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
                answer = model.answers.pop(0) if len(model.answers) > 1 else model.answers[0]
                if callable(answer):
                    answer(self)
                    return
                status, content, headers = answer
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/judge"


@pytest.fixture
def model() -> Iterator[Model]:
    one = Model()
    yield one
    one.server.shutdown()
    one.server.server_close()


def good(reward: Any, **more: Any) -> Answer:
    return 200, json.dumps({"reward": reward, **more}).encode(), {}


def judge(there: Model, *answers: Any, **options: Any) -> Any:
    there.answers = list(answers)
    return Remote(url=there.url, **options)(SAMPLE)


def code_of(there: Model, *answers: Any, **options: Any) -> str:
    with pytest.raises(MoorageError) as told:
        judge(there, *answers, **options)
    assert "127.0.0.1" not in told.value.message
    return told.value.code


def test_it_is_sent_the_sample_and_its_key(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "canary-0123")
    score = judge(model, good(0.5, reward_extra_info={"why": "so"}), key_env="JUDGE_KEY")
    assert (score.reward, score.info) == (0.5, {"attempts": 1, "why": "so"})
    [(headers, body)] = model.seen
    assert headers["authorization"] == "Bearer canary-0123"
    assert (body["response"], body["messages"]) == ("two", SAMPLE.messages)
    assert "canary" not in repr(Remote(url=model.url, key_env="JUDGE_KEY"))


def test_classifiers_and_embedders(model: Model) -> None:
    reply = 200, b'{"data": [{"probs": [0.25, 0.75]}]}', {}
    options: dict[str, Any] = {"send": "input", "model": "rm", "reward_at": "data.0.probs.1"}
    assert judge(model, reply, **options).reward == 0.75
    assert model.seen[0][1] == {"model": "rm", "input": "user: 1+1\nassistant: two"}
    assert judge(model, (200, b"0.5", {})).reward == 0.5
    assert code_of(model, (200, b'{"data": []}', {}), **options) == "reward_model_reply"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(model: Model, status: int) -> None:
    score = judge(model, (status, b"busy", {}), good(1))
    assert (score.reward, score.info["attempts"], len(model.seen)) == (1.0, 2, 2)


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 422])
def test_what_does_not_pass_is_asked_once(model: Model, status: int) -> None:
    answer = status, b"canary", {"location": model.url + "/elsewhere"}
    assert code_of(model, answer, attempts=9) == "reward_model_refused"
    assert len(model.seen) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no json", b"{}", b'{"reward": "1"}', b'{"reward": true}', b'{"reward": NaN}', b"[1]", b"null"]
)
def test_what_is_no_reward(model: Model, content: bytes) -> None:
    assert code_of(model, (200, content, {})) == "reward_model_reply"
    assert len(model.seen) == 1


def test_attempts_have_an_end(model: Model) -> None:
    assert code_of(model, (503, b"", {}), attempts=2) == "reward_model_gone"
    assert len(model.seen) == 2


def test_so_has_the_time(model: Model) -> None:
    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    began = time.monotonic()
    assert code_of(model, (503, b"", {"retry-after": "3600"}), timeout_s=1) == "reward_model_late"
    assert code_of(model, drips, timeout_s=1) == "reward_model_late"
    assert time.monotonic() - began < 10


def test_a_reply_without_end_is_not_read(model: Model) -> None:
    assert code_of(model, (200, b" " * (2 << 20) + b"1", {})) == "reward_model_reply"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(MoorageError) as told:
        Remote(url=f"http://127.0.0.1:{port}/", attempts=2)(SAMPLE)
    assert told.value.code == "reward_model_gone"
    assert "refused" in told.value.message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:1",
        "ftp://h/",
        "http://",
        "http://me:canary@h/",
        "http://h/?key=canary",
        "http://h/#canary",
        "http://h:99999/",
        "http://h\u00e4/",
    ],
)
def test_secrets_have_no_place_in_a_url(url: str) -> None:
    with pytest.raises(UsageError) as told:
        Remote(url=url)
    assert "canary" not in f"{told.value.message} {told.value.hint}"


def test_its_variable_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(PreflightError, match="JUDGE_KEY"):
        Remote(url="http://h/", key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "canary\n0123")
    with pytest.raises(PreflightError) as told:
        Remote(url="http://h/", key_env="JUDGE_KEY")
    assert "canary" not in told.value.message
