"""Users' tokens and what each may use up, in front of declared models: one process, and several that share it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.gateway_calls import check_openai
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until
from tests.contract.gateway_workers import pids, ways
from tests.contract.serving_feed import FeedServer, digest, fed, following
from tests.stand_ins.engine_stub import Fault

DATED = "alice-202601061235-q"
BODY = {"model": "alice/q", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
USED = 18
"""Tokens of each reply of the stub."""
WORKERS = 3


def shown(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Scene:
    """A gateway whose feed requires tokens; each test has users of its own, so that nobody's minute is another's."""

    def __init__(self, gateway: GatewayProcess, feed: FeedServer, engine: StubThread) -> None:
        self.gateway, self.feed, self.engine = gateway, feed, engine

    def allow(self, *tokens: str, **limits: int) -> None:
        """Tokens of one new user, and everybody's limits."""
        self.feed.change(auth="required", users=[digest(token, tokens[0]) for token in tokens], limits=limits)
        wait_until(lambda: self.gateway.get("/v1/models", headers=shown(tokens[-1])).status_code == 200)

    def chat(self, token: str | None, **fields: Any) -> requests.Response:
        return self.gateway.post(CHAT, {**BODY, **fields}, headers=shown(token) if token else {})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    engine = StubThread(models=(DATED,))
    feed = FeedServer(fed("q", engine.url), auth="required")
    with following(tmp_path_factory.mktemp("users"), feed, engine) as gateway:
        yield Scene(gateway, feed, engine)
    engine.close()


def test_requests_a_minute(scene: Scene) -> None:
    scene.allow("amy", "amys-other", requests_per_minute=3)
    assert [scene.chat(token).status_code for token in ("amy", "amys-other", "amy")] == [200] * 3
    reply = scene.chat("amys-other")  # a user's tokens share what the user may use up
    error = check_openai(reply, 429, "rate_limit_exceeded")
    assert (error["limit"], error["allowed"]) == ("requests_per_minute", 3)
    assert 50 <= int(reply.headers["retry-after"]) <= 60
    told = scene.gateway.post("/v1/messages", {**BODY, "max_tokens": 5}, headers={"x-api-key": "amy"})
    assert (told.status_code, told.json()["error"]["type"]) == (429, "rate_limit_error")
    assert told.headers["retry-after"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, BODY),
        (CHAT, {**BODY, "stream": True}),
        (CHAT, {**BODY, "stream": True, "stream_options": {"include_usage": True}}),
        ("/v1/completions", {"model": "alice/q", "prompt": [1, 2, 3], "stream": True}),
        ("/v1/responses", {"model": "alice/q", "input": "hi"}),
        ("/v1/responses", {"model": "alice/q", "input": "hi", "stream": True}),
        ("/v1/messages", {**BODY, "max_tokens": 5}),
        ("/v1/messages", {**BODY, "max_tokens": 5, "stream": True}),
    ],
)
def test_tokens_a_minute_on_every_route(scene: Scene, path: str, body: dict[str, Any]) -> None:
    token = f"user{abs(hash(path + str(body)))}"
    scene.allow(token, tokens_per_minute=2)
    first = scene.gateway.post(path, body, headers=shown(token))
    assert first.status_code == 200
    if body.get("stream") and path == CHAT:
        assert ('"usage":{' in first.text) == ("stream_options" in body)
    reply = scene.gateway.post(path, body, headers=shown(token))
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 50
    assert scene.gateway.get("/v1/models", headers=shown(token)).status_code == 200


def test_tokens_are_counted_by_what_the_engine_says(scene: Scene) -> None:
    scene.allow("tess", tokens_per_minute=2 * USED + 1)
    assert [scene.chat("tess").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_requests_at_once(scene: Scene) -> None:
    scene.allow("carl", concurrent_requests=1)
    for _ in range(5):  # one after the other is never two at once
        assert scene.chat("carl").status_code == 200
        assert scene.chat("carl", stream=True).status_code == 200
    scene.engine.spoil(Fault("silence"))
    held = threading.Thread(target=leave_soon, args=(scene,))
    held.start()
    wait_until(lambda: scene.engine.stub.in_flight == 1)
    reply = scene.chat("carl")
    assert check_openai(reply, 429, "rate_limit_exceeded")["limit"] == "concurrent_requests"
    assert reply.headers["retry-after"] == "1"
    held.join()  # the client went away: its request is over
    wait_until(lambda: scene.chat("carl").status_code == 200)


def leave_soon(scene: Scene) -> None:
    with pytest.raises(requests.Timeout):
        requests.post(scene.gateway.url + CHAT, json=BODY, headers=shown("carl"), timeout=2)


def test_what_fails_counts_and_does_not_hold(scene: Scene) -> None:
    scene.allow("fred", concurrent_requests=1, requests_per_minute=3)
    assert scene.chat("fred", model="alice/nothing").status_code == 404
    assert scene.gateway.post(CHAT, b"{", headers=shown("fred")).status_code == 400
    scene.engine.spoil(Fault("status", 422))
    assert scene.chat("fred").status_code == 422
    assert scene.chat("fred").status_code == 429


def test_a_revoked_token_is_refused_within_a_second(scene: Scene) -> None:
    scene.allow("rick")
    assert scene.chat("rick").status_code == 200
    scene.feed.change(users=[])
    until = time.monotonic() + 1
    while scene.gateway.get("/v1/models", headers=shown("rick")).status_code == 200:
        assert time.monotonic() < until
    check_openai(scene.chat("rick"), 401, "key_wrong")
    assert scene.chat("rick").headers["www-authenticate"].startswith("Bearer")


def test_strangers_and_users_where_they_have_no_business(scene: Scene) -> None:
    scene.allow("uma")
    check_openai(scene.chat(None), 401, "key_missing")
    assert scene.gateway.get(f"/v1/models?api_key={'uma'}").status_code == 401
    for path in ("/sessions/create", "/init_trajectory", "/pool/lease", "/setup", "/v1/logprobs"):
        assert scene.gateway.post(path, {}, headers=shown("uma")).status_code == 403
        assert scene.gateway.post(path, {}).status_code == 401
    assert scene.gateway.get("/metrics", headers=shown("uma")).status_code == 403
    assert scene.gateway.get("/health").json() == {"status": "ok"}
    assert "uma" not in "".join(line for line in scene.gateway.said if "key_refused" in line)


def test_several_workers_share_a_users_limits(tmp_path: Path) -> None:
    engine = StubThread(models=(DATED,))
    feed = FeedServer(
        fed("q", engine.url),
        auth="required",
        users=[digest("ann", "ann"), digest("ben", "ben"), digest("cy", "cy")],
        limits={"requests_per_minute": 7, "concurrent_requests": 1},
    )
    flags = ("--workers", str(WORKERS), "--mode", "passthrough", "--access-log")
    with following(tmp_path, feed, engine, *flags) as gateway, ways(gateway, WORKERS) as each:
        for user in ("ann", "ben"):
            asked = [each[n % WORKERS].post(CHAT, BODY, headers=shown(user)).status_code for n in range(10)]
            assert sorted(asked) == [200] * 7 + [429] * 3
        check_deaths(gateway, engine, each)
    engine.close()


def check_deaths(gateway: GatewayProcess, engine: StubThread, each: list[Any]) -> None:
    """What a worker had under way when it died is over for the others."""
    engine.spoil(Fault("silence"))
    held = threading.Thread(target=held_by, args=(each[2],))
    held.start()
    wait_until(lambda: engine.stub.in_flight == 1)
    assert each[0].post(CHAT, BODY, headers=shown("cy")).status_code == 429
    os.kill(pids(gateway)[2], signal.SIGKILL)
    held.join()
    wait_until(lambda: each[0].post(CHAT, BODY, headers=shown("cy")).status_code == 200)


def held_by(way: Any) -> None:
    with pytest.raises(requests.RequestException):
        way.post(CHAT, BODY, headers=shown("cy"))
