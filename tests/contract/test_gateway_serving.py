"""`moor gateway --serving`: the declared models that a feed names, before engines that answer as Ray Serve does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.contract.gateway_calls import check_openai, init, steps_of
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until
from tests.contract.serving_feed import FeedServer, fed, following, heard
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.ray_ingress import RayIngress
from tests.stand_ins.small_engine import SmallEngine

DATED, ALIAS = "alice-202601061235-q", "alice/q"
SAID = [{"role": "user", "content": "What is one and one?"}]


class Ingress(StubThread):
    """An application of Ray in a thread."""

    def __init__(self, nano: Path, suffix: str, *, user: str = "alice") -> None:
        super().__init__()
        self.call(self.stub.close())
        model = f"{user}-202601061235-{suffix}"
        self.stub = self.ray = RayIngress(SmallEngine(nano, model=model), model, route=f"/{user}-{suffix}")
        self.call(self.stub.start())

    def asked(self) -> list[Any]:
        """The bodies of what came, which is forgotten then."""
        bodies = [one.json() for one in self.stub.requests]
        self.stub.requests.clear()
        return bodies


class Scene:
    """A gateway, its feed, and three applications: two of one model, one of another."""

    def __init__(self, gateway: GatewayProcess, feed: FeedServer, engines: list[Ingress]) -> None:
        self.gateway, self.feed = gateway, feed
        self.first, self.second, self.other = engines

    def usual(self) -> None:
        """What the feed says when a test begins."""
        self.say(fed("q", self.first.url), fed("r", self.other.url, user="bob"), fed("late"))

    def say(self, *models: dict[str, Any], **more: Any) -> None:
        heard(self.gateway, self.feed.say(*models, **more))

    def chat(self, model: str | None, path: str = "/v1/chat/completions", **fields: Any) -> Any:
        return self.gateway.post(path, {"messages": SAID, **({"model": model} if model else {}), **fields})


@pytest.fixture(scope="module")
def running(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    engines = [Ingress(nano, "q"), Ingress(nano, "q"), Ingress(nano, "r", user="bob")]
    feed = FeedServer()
    folder = tmp_path_factory.mktemp("serving")
    with following(folder, feed, engines[0], "--tokenizer-path", str(nano)) as gateway:
        yield Scene(gateway, feed, engines)
    for engine in engines:
        engine.close()


@pytest.fixture
def scene(running: Scene) -> Scene:
    running.usual()
    for engine in (running.first, running.second, running.other):
        engine.asked()
    return running


def test_models_are_listed_by_both_names_when_they_are_ready(scene: Scene) -> None:
    rows = scene.gateway.get("/v1/models").json()["data"]
    assert [row["id"] for row in rows] == [DATED, ALIAS, "bob-202601061235-r", "bob/r"]
    assert {row["owned_by"] for row in rows} == {"alice", "bob"}
    for row in rows:
        one = scene.gateway.get(f"/v1/models/{row['id']}").json()
        assert {**one, "created": 0} == {**row, "created": 0}
    with OpenAI(base_url=f"{scene.gateway.url}/v1", api_key="none", max_retries=0) as client:
        assert client.models.retrieve(ALIAS).owned_by == "alice"
    check_openai(scene.gateway.get("/v1/models/alice/late"), 503, "model_not_ready")
    check_openai(scene.gateway.get("/v1/models/alice/never"), 404, "model_not_found")


@pytest.mark.parametrize("name", [DATED, ALIAS])
def test_only_the_models_name_is_changed(scene: Scene, name: str) -> None:
    odd = {"unknown": {"x": [1, 2.50, None]}, "temperature": 0.30, "top_k": 5}
    reply = scene.chat(name, **odd)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == DATED
    assert scene.first.asked() == [{"messages": SAID, "model": DATED, **odd}]


def test_all_of_openais_routes(scene: Scene) -> None:
    with OpenAI(base_url=f"{scene.gateway.url}/v1", api_key="none") as client:
        assert client.chat.completions.create(model=ALIAS, messages=SAID).choices[0].message.content  # type: ignore[call-overload]
        assert client.completions.create(model=ALIAS, prompt="one").choices[0].text
        assert client.embeddings.create(model="bob/r", input="x", encoding_format="float").data[0].embedding
        assert client.responses.create(model=ALIAS, input="hello").output_text
        chunks = list(client.chat.completions.create(model=ALIAS, messages=SAID, stream=True))  # type: ignore[call-overload]
        assert {chunk.model for chunk in chunks} == {DATED}
        assert {one.id for one in client.models.list()} >= {ALIAS, DATED}
    body = {"model": ALIAS, "max_tokens": 20, "messages": SAID}
    reply = scene.gateway.post("/v1/messages", body)
    assert reply.status_code == 200, reply.text
    assert {body["model"] for body in scene.first.asked()} == {DATED}


def test_one_that_is_not_ready_and_one_that_is_not_there(scene: Scene) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        reply = scene.gateway.post(path, {"model": "alice/late", "messages": SAID, "prompt": "x", "input": "x"})
        error = check_openai(reply, 503, "model_not_ready")
        assert reply.headers["retry-after"] == "7"
        assert error["condition"]["reason"] == "ReplicasStarting"
        assert "0 of 1 replicas answer" in error["message"]
    check_openai(scene.chat("alice/nothing"), 404, "model_not_found")
    check_openai(scene.chat("q"), 404, "model_not_found")
    check_openai(scene.chat(None), 400, "model_missing")
    check_openai(scene.chat("default"), 400, "model_missing")
    reply = scene.gateway.post("/v1/messages", {"model": "alice/late", "max_tokens": 5, "messages": SAID})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_not_ready")
    assert reply.headers["retry-after"] == "7"
    assert not scene.first.asked() + scene.other.asked()


def test_requests_are_spread_over_replicas_and_follow_them(scene: Scene) -> None:
    scene.say(fed("q", scene.first.url, scene.second.url))
    for _ in range(2):
        scene.gateway.post("/sessions/create", {"model": ALIAS})
    busy = [scene.gateway.post("/sessions/create", {"model": ALIAS}).json()["uuid"] for _ in range(4)]
    for uid in busy:
        assert scene.gateway.post(f"/{uid}/v1/chat/completions", {"messages": SAID}).status_code == 200
    assert scene.first.asked()
    assert scene.second.asked()
    scene.say(fed("q", scene.second.url))
    for uid in busy:  # also those that lived at the one that is gone
        assert scene.gateway.post(f"/{uid}/v1/chat/completions", {"messages": SAID, "seed": 2}).status_code == 200
    assert not scene.first.asked()
    assert {row["base_url"] for row in scene.gateway.get("/servers").json()["servers"]} == {scene.second.url}


def test_a_replica_that_is_gone_before_the_feed_says_so_costs_no_request(scene: Scene) -> None:
    scene.say(fed("q", scene.first.url, scene.second.url))
    scene.first.vanish()
    try:
        for number in range(8):
            assert scene.chat(ALIAS, seed=number).status_code == 200
    finally:
        scene.first.come_back()


def test_a_route_that_its_proxy_does_not_know_any_more_is_out(scene: Scene) -> None:
    """What stands before it answers 404 for an application that is gone: that is no health."""
    scene.first.ray.deployed = False
    try:
        wait_until(lambda: scene.gateway.get("/health").json()["healthy_servers"] == 1)
        reply = scene.chat(ALIAS)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_healthy_upstream")
        assert reply.headers["retry-after"]
        assert scene.chat("bob/r").status_code == 200
        assert scene.gateway.get("/health").json()["status"] == "degraded"
    finally:
        scene.first.ray.deployed = True
    wait_until(lambda: scene.gateway.get("/health").json()["healthy_servers"] == 2)
    assert scene.chat(ALIAS).status_code == 200


@pytest.mark.parametrize("mode", ["passthrough", "exact", None])
@pytest.mark.parametrize("streamed", [False, True])
def test_sessions_record_tokens_of_an_engine_without_tokenize(scene: Scene, mode: str | None, streamed: bool) -> None:
    reply = scene.gateway.post("/sessions/create", {"model": ALIAS, **({"mode": mode} if mode else {})})
    assert reply.status_code == 200, reply.text
    made = reply.json()
    # It cannot show that it has this tokenizer, and other models behind this gateway may have another one.
    assert (made["mode"], made["model_name"]) == (mode or "passthrough", ALIAS)
    uid, said = made["uuid"], list(SAID)
    for turn in ("first", "second"):
        reply = scene.gateway.post(f"/{uid}/v1/chat/completions", {"messages": said, "stream": streamed})
        assert reply.status_code == 200, reply.text
        said += [{"role": "assistant", "content": text_of(reply.text, streamed)}, {"role": "user", "content": turn}]
    [node] = scene.gateway.get(f"/{uid}/nodes").json()["nodes"]
    sampled = [token for token in node["masked_tokens"] if token != -100]
    assert len(sampled) > 4
    assert len(node["tokens"]) == len(node["masked_tokens"]) == len(node["logprobs"])
    assert [row["id"] for row in scene.gateway.get(f"/{uid}/v1/models").json()["data"]] == [ALIAS]
    assert {body["model"] for body in scene.first.asked()} == {DATED}


def test_trajectories_record_tokens_too(scene: Scene) -> None:
    made = init(scene.gateway)
    path = f"{made['path']}/v1/chat/completions"
    assert scene.chat(ALIAS, path).status_code == 200
    check_openai(scene.chat(None, path), 400, "model_missing")
    check_openai(scene.chat("alice/late", path), 503, "model_not_ready")
    [step] = steps_of(scene.gateway, made["trajectory_uid"])
    assert step["response_ids"]


def test_the_only_model_need_not_be_named(scene: Scene) -> None:
    scene.say(fed("q", scene.first.url))
    assert scene.chat(None).status_code == 200
    assert scene.gateway.post("/sessions/create").json()["model_name"] == ALIAS
    assert scene.chat("default", f"{init(scene.gateway)['path']}/chat/completions").status_code == 200


def test_sessions_of_models_that_are_not_there(scene: Scene) -> None:
    for model, status, code in (
        ("alice/late", 503, "model_not_ready"),
        ("nobody/x", 404, "model_not_found"),
        (None, 400, "model_missing"),
    ):
        check_openai(scene.gateway.post("/sessions/create", {"model": model}), status, code)
    uid = scene.gateway.post("/sessions/create", {"model": ALIAS}).json()["uuid"]
    scene.say(fed("q"), fed("r", scene.other.url, user="bob"))
    check_openai(scene.chat(None, f"/{uid}/v1/chat/completions"), 503, "model_not_ready")
    assert not scene.other.asked()


def test_a_session_asks_the_model_that_a_call_names(scene: Scene) -> None:
    uid = scene.gateway.post("/sessions/create", {"model": ALIAS}).json()["uuid"]
    for model in (None, "bob/r", DATED, "bob/r", None):
        assert scene.chat(model, f"/{uid}/v1/chat/completions", seed=id(model)).status_code == 200
    assert len(scene.first.asked()) == 3
    assert len(scene.other.asked()) == 2


def test_adapters_are_asked_for_with_their_models_name_in_front(scene: Scene) -> None:
    scene.first.stub.models = (DATED, "sql")
    scene.say(fed("q", scene.first.url, adapters=("sql",)))
    try:
        assert f"{ALIAS}:sql" in [row["id"] for row in scene.gateway.get("/v1/models").json()["data"]]
        scene.chat(f"{ALIAS}:sql")
        scene.chat(f"{DATED}:sql")
        assert [body["model"] for body in scene.first.asked()] == ["sql", "sql"]
        check_openai(scene.chat("sql"), 404, "model_not_found")
    finally:
        scene.first.stub.models = (DATED,)


def test_without_the_api_it_goes_on_and_says_so(scene: Scene) -> None:
    version = scene.gateway.get("/health").json()["serving"]["version"]
    scene.feed.vanish()
    try:
        wait_until(lambda: not scene.gateway.get("/health").json()["serving"]["following"])
        told = scene.gateway.get("/health")
        assert told.status_code == 200
        assert told.json()["status"] == "degraded"
        assert told.json()["serving"]["version"] == version
        assert told.json()["serving"]["fault"]
        assert scene.chat(ALIAS).status_code == 200
        check_openai(scene.chat("alice/late"), 503, "model_not_ready")
        assert scene.gateway.get("/ready").status_code == 200
        assert "moorage_serving_following 0.0" in scene.gateway.get("/metrics").text
    finally:
        scene.feed.come_back()
    scene.say(fed("late", scene.second.url))
    assert scene.gateway.get("/health").json()["status"] == "ok"
    text = scene.gateway.get("/metrics").text
    assert "moorage_serving_following 1.0" in text
    assert 'moorage_serving_models{ready="true"} 1.0' in text
    assert 'moorage_serving_polls_total{outcome="failed"}' in text


def test_with_no_model_it_is_well(scene: Scene) -> None:
    scene.say()
    told = scene.gateway.get("/health")
    assert (told.status_code, told.json()["status"]) == (200, "ok")
    assert scene.gateway.get("/v1/models").json()["data"] == []


def test_endpoints_are_not_set_by_hand(scene: Scene) -> None:
    reply = scene.gateway.post("/setup", {"servers": [{"base_url": "http://127.0.0.1:9/v1"}]})
    check_openai(reply, 409, "endpoints_followed")
    assert scene.chat(ALIAS).status_code == 200


def test_an_engines_own_error_passes(scene: Scene) -> None:
    scene.say(fed("q", scene.first.url, endpoints=[{"base_url": scene.first.url, "model": "another"}]))
    assert scene.chat(ALIAS).json() == {"detail": "Could not find model another"}


def test_a_stream_under_way_outlives_its_models_end(tmp_path: Path) -> None:
    engine = StubThread(models=(DATED,))
    engine.stub.pace_s = 0.05
    feed = FeedServer(fed("q", engine.url))
    with following(tmp_path, feed, engine) as gateway:
        body = {"model": ALIAS, "messages": SAID, "stream": True}
        with gateway.http.post(f"{gateway.url}/v1/chat/completions", json=body, stream=True) as reply:
            assert reply.status_code == 200
            feed.say()
            wait_until(lambda: gateway.get("/v1/models").json()["data"] == [])
            assert b"".join(reply.iter_content(None)).endswith(b"data: [DONE]\n\n")
        check_openai(gateway.post("/v1/chat/completions", body), 404, "model_not_found")
    engine.close()


def test_it_starts_before_the_api_does(tmp_path: Path) -> None:
    engine = StubThread(models=(DATED,))
    feed = FeedServer(fed("q", engine.url))
    feed.vanish()
    whom = ("--serving", feed.url, "--serving-token-env", "MOORAGE_TEST_SERVING_TOKEN")
    prefix = ("env", f"MOORAGE_TEST_SERVING_TOKEN={feed.token}")
    gateway = GatewayProcess(engine, tmp_path / "gateway.db", whom=whom, until_ready=False, prefix=prefix)
    try:
        assert gateway.get("/ready").status_code == 503
        told = gateway.get("/health")
        assert (told.status_code, told.json()["status"]) == (503, "unavailable")
        body = {"model": ALIAS, "messages": SAID}
        reply = gateway.post("/v1/chat/completions", body)
        check_openai(reply, 503, "serving_unreachable")
        assert reply.headers["retry-after"]
        assert gateway.get("/v1/models").json()["data"] == []
        feed.come_back()
        wait_until(lambda: gateway.get("/ready").status_code == 200)
        assert gateway.post("/v1/chat/completions", body).status_code == 200
        assert str(feed.token) not in "".join(gateway.said)
    finally:
        gateway.kill()
        feed.vanish()
        engine.close()


def test_a_fault_before_the_reply_is_asked_of_another_replica(tmp_path: Path) -> None:
    engines = [StubThread(models=(DATED,)) for _ in range(2)]
    feed = FeedServer(fed("q", *(engine.url for engine in engines)))
    with following(tmp_path, feed, engines[0]) as gateway:
        engines[0].spoil(*[Fault("status", 503) for _ in range(4)])
        for _ in range(4):
            assert gateway.post("/v1/chat/completions", {"model": ALIAS, "messages": SAID}).status_code == 200
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(
    ("flags", "code", "status"),
    [
        (("--serving", "nonsense"), "bad_upstream_url", 2),
        (("--serving", "http://u:secret@h"), "bad_upstream_url", 2),
        (("--serving", "http://127.0.0.1:1", "--upstream", "http://127.0.0.1:2"), "usage", 2),
        (("--serving-token-env", "X"), "usage", 2),
        (("--serving", "http://127.0.0.1:1", "--serving-token-env", "MOORAGE_NOT_SET"), "serving_token_missing", 5),
    ],
)
def test_wrong_words_are_told_at_once(tmp_path: Path, flags: tuple[str, ...], code: str, status: int) -> None:
    words = ["gateway", "--json", "--port", "0", "--db", f"sqlite:///{tmp_path}/g.db", *flags]
    command = [sys.executable, "-m", "moorage.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert "secret" not in done.stdout + done.stderr


def text_of(said: str, streamed: bool) -> str:
    if not streamed:
        content: str = json.loads(said)["choices"][0]["message"]["content"]
        return content
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one["choices"])
