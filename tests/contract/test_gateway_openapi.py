"""Every reply that the OpenAPI document declares is given for real, and is as declared."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jsonschema
import pytest
import requests

from tests.contract.gateway_calls import SAID, chat, fresh, init, step, submit
from tests.contract.gateway_document import DOCUMENT, Moods, check_declared, operations
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault

BODY_LIMIT = 50_000
TRIES = 3
DECLARED = [
    (operation["operationId"], int(status))
    for item in DOCUMENT["paths"].values()
    for operation in item.values()
    for status in operation["responses"]
    if status.isdigit()
]
SHOWN_ELSEWHERE = {
    *(("compute_reward", status) for status in (200, 404, 409, 500, 502, 504)),  # test_gateway_rewards.py
    ("get_model", 503),  # test_gateway_serving.py: declared, and not ready
    ("ready", 503),  # test_gateway_steps.py: a gateway that is not ready
    *((name, 406) for name in ("lease", "pool_steps", "pool_trajectories")),  # test_gateway_pool_tables.py
}
Answers = dict[tuple[str, int], requests.Response]


class Call(NamedTuple):
    """A request of one operation."""

    method: str
    path: str
    body: Any = None


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Real answers by operation and status: of a gateway that is well, whose engine is not, whose store is gone."""
    folder = tmp_path_factory.mktemp("gateway")
    flags = ("--max-body-bytes", str(BODY_LIMIT), "--upstream-timeout", "1", "--max-sessions", "40")
    moods = Moods()
    found: Answers = {}
    with running_gateway(folder, *flags, replies=moods) as gateway:
        _collect(found, gateway, _good(gateway))
        _collect(found, gateway, _unreadable(gateway))
        _collect(found, gateway, _wrong(gateway))
        _collect(found, gateway, _unknown())
        _collect(found, gateway, _conflicting(gateway))
        found |= _ended_in_flight(gateway)
        moods.mood = "no tokenizer"
        _collect(found, gateway, {name: call for name, call in _good(gateway).items() if (name, 501) in DECLARED})
        moods.mood = "well"
        calls = {name: call for name, call in _good(gateway).items() if (name, 504) in DECLARED}
        _collect_from_bad_engine(found, gateway, moods, calls)
        while (reply := gateway.post("/sessions/create")).status_code == 200:
            pass
        found["create_session", reply.status_code] = reply
        calls = _good(gateway, create=False)
        gateway.db.rename(f"{gateway.db}.away")
        _collect(found, gateway, calls)
        _collect(found, gateway, {name: call for name, call in _unknown().items() if name.endswith(("models", "_v1"))})
        gateway.stub.vanish()
        wait_until(lambda: gateway.get("/health").status_code == 503)
        _collect(found, gateway, calls)
    return found


def test_every_declared_reply_is_given(answers: Answers) -> None:
    missing = sorted(set(DECLARED) - set(answers) - SHOWN_ELSEWHERE)
    assert not missing, str(missing)


def test_a_reply_is_as_declared(answers: Answers) -> None:
    wrong = []
    for (name, status), reply in answers.items():
        try:
            check_declared(name, reply)
        except (AssertionError, jsonschema.ValidationError, ValueError, KeyError) as fault:
            wrong.append((name, status, repr(fault)[:300], reply.text[:300]))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_other_reply_was_given(answers: Answers) -> None:
    undeclared = {one: answers[one].text[:200] for one in answers if one not in DECLARED}
    assert not undeclared, str(undeclared)


def _collect(found: Answers, gateway: GatewayProcess, calls: dict[str, Call]) -> None:
    for name, call in calls.items():
        reply = _ask(gateway, call)
        found.setdefault((name, reply.status_code), reply)


def _ask(gateway: GatewayProcess, call: Call) -> requests.Response:
    if call.method == "POST":
        return gateway.post(call.path, call.body)
    if call.method == "DELETE":
        return gateway.delete(call.path)
    stream = call.path.startswith("/pool/events")
    reply = gateway.get(call.path, stream=stream)
    if stream and reply.status_code == 200:
        reply.close()  # it never ends
    return reply


def _good(gateway: GatewayProcess, *, create: bool = True) -> dict[str, Call]:
    """What each operation answers with 200 while all is well."""
    one, other = _sessions(gateway, 2) if create else (_open_session(gateway),) * 2
    under_base_url, completing = (
        _dialects("/v1", "") | _dialects(f"/{one}/v1", "_in_session"),
        init(gateway) if create else {"path": "/t/p", "trajectory_uid": "t"},
    )
    for suffix, version in (("", ""), ("_v1", "/v1")):
        path = (init(gateway)["path"] if create else _open_trajectory(gateway)) + version
        under_base_url |= {
            f"register_trajectory{suffix}": Call("POST", f"{path}/register_trajectory", {"metadata": {}}),
            f"trajectory_chat{suffix}": Call("POST", f"{path}/chat/completions", chat()),
            f"trajectory_complete_text{suffix}": Call("POST", f"{path}/completions", {"prompt": [4, 5]}),
            f"trajectory_models{suffix}": Call("GET", f"{path}/models"),
            **_dialects(path, f"_in_trajectory{suffix}"),
            f"complete_this_trajectory{suffix}": Call("POST", f"{path}/complete_trajectory", {"reward": 1}),
        }
    leases = _leases(gateway) if create else ["a", "b"]
    marked = fresh()
    if create:
        submit(gateway, step(marked))
    return {
        "chat": Call("POST", "/v1/chat/completions", chat()),
        "complete_text": Call("POST", "/v1/completions", {"prompt": "a"}),
        "embed": Call("POST", "/v1/embeddings", {"input": "a"}),
        "list_models": Call("GET", "/v1/models"),
        "get_model": Call("GET", "/v1/models/stub"),
        "score_prompt": Call("POST", "/v1/logprobs", {"input_ids": [4, 5]}),
        "session_score_prompt": Call("POST", f"/{one}/v1/logprobs", {"input_ids": [4, 5]}),
        "create_session": Call("POST", "/sessions/create", {}),
        "session_chat": Call("POST", f"/{one}/v1/chat/completions", chat()),
        "session_render": Call("POST", f"/{one}/v1/chat/completions/render", chat()),
        "session_complete_text": Call("POST", f"/{one}/v1/completions", {"prompt": [4, 5]}),
        "session_models": Call("GET", f"/{one}/v1/models"),
        "read_nodes": Call("GET", f"/{one}/nodes"),
        "list_sessions": Call("GET", "/sessions"),
        "delete_session": Call("DELETE", f"/{other}"),
        "init_trajectory": Call("POST", "/init_trajectory", {"metadata": {"a": 1}}),
        **under_base_url,
        "complete_trajectory": Call("POST", f"/complete_trajectory/{completing['trajectory_uid']}"),
        "submit_steps": Call("POST", "/submit_steps", {"steps": [step(fresh())]}),
        "generate": Call("POST", "/generate", {"messages": SAID, "trajectory_uid": fresh(), "prompt_uid": "p"}),
        "compute_reward": Call("POST", "/compute_reward", {"messages": SAID}),
        "set_reward": Call("POST", "/pool/rewards", {"trajectory_uid": completing["trajectory_uid"], "reward": 2}),
        "rewards": Call("GET", f"/pool/rewards?trajectory_uid={completing['trajectory_uid']}"),
        "lease": Call("POST", "/pool/lease", {"max_groups": 9}),
        "ack": Call("POST", "/pool/ack", {"lease_ids": leases[:1]}),
        "nack": Call("POST", "/pool/nack", {"lease_ids": leases[1:]}),
        "mark": Call("POST", "/pool/marks", {"trajectory_uid": marked, "step_index": 0, "marks": {"good": True}}),
        "retain": Call("POST", "/pool/retain", {"older_than_s": 86400}),
        "pool_stats": Call("GET", "/pool/stats"),
        "pool_steps": Call("GET", "/pool/steps"),
        "pool_trajectories": Call("GET", "/pool/trajectories"),
        "pool_events": Call("GET", "/pool/events"),
        "ready": Call("GET", "/ready"),
        "health": Call("GET", "/health"),
        "servers": Call("GET", "/servers"),
        "setup": Call("POST", "/setup", {"servers": [{"base_url": gateway.stub.url, "server_type": "vllm"}]}),
        "metrics": Call("GET", "/metrics"),
        "pause": Call("POST", "/pause"),
        "read_pause": Call("GET", "/pause"),
        "resume": Call("POST", "/resume"),
        "set_weights": Call("POST", "/weights", {"version": 7}),
        "read_weights": Call("GET", "/weights"),
        "docs": Call("GET", "/docs"),
        "docs_file": Call("GET", "/docs/swagger-ui.css"),
        "openapi": Call("GET", "/openapi.json"),
    }


def _dialects(path: str, suffix: str) -> dict[str, Call]:
    return {
        f"message{suffix}": Call("POST", f"{path}/messages", {"messages": SAID, "max_tokens": 5}),
        f"count_tokens{suffix}": Call("POST", f"{path}/messages/count_tokens", {"messages": SAID}),
        f"response{suffix}": Call("POST", f"{path}/responses", {"input": "a"}),
    }


def _unreadable(gateway: GatewayProcess) -> dict[str, Call]:
    """Bodies that are no JSON; without a body a uid that is none."""
    calls, made = {}, init(gateway)
    [session] = _sessions(gateway, 1)
    for method, path, operation in operations():
        uids = {"trajectory_uid": made["trajectory_uid"], "prompt_uid": made["prompt_uid"]}
        if "requestBody" in operation:
            calls[operation["operationId"]] = Call(method, path.format(uuid=session, **uids), b"{")
        elif "{uuid}" in path:
            calls[operation["operationId"]] = Call(method, path.format(uuid="a%21b"))
    return calls


def _wrong(gateway: GatewayProcess) -> dict[str, Call]:
    """What is JSON, or a path, of the wrong shape."""
    calls = {
        operation["operationId"]: Call(method, path.format(trajectory_uid="a%21b", prompt_uid="p"), {})
        for method, path, operation in operations()
        if "{trajectory_uid}" in path
    }
    for number in ("nack", "ack", "submit_steps", "generate", "compute_reward"):
        calls[number] = _good(gateway)[number]._replace(body={})
    return {
        **calls,
        "set_reward": Call("POST", "/pool/rewards", {}),
        "rewards": Call("GET", "/pool/rewards"),
        "lease": Call("POST", "/pool/lease", {"n_rollouts": 0}),
        "mark": Call("POST", "/pool/marks", {}),
        "retain": Call("POST", "/pool/retain", {}),
        "init_trajectory": Call("POST", "/init_trajectory", {"metadata": 3}),
        "pool_stats": Call("GET", "/pool/stats?n_rollouts=0"),
        "pool_steps": Call("GET", "/pool/steps?cursor=none"),
        "pool_trajectories": Call("GET", "/pool/trajectories?limit=0"),
        "pool_events": Call("GET", "/pool/events?cursor=x"),
        "pause": Call("POST", "/pause", {"wait_s": -1}),
        "set_weights": Call("POST", "/weights", {"version": -1}),
    }


def _unknown() -> dict[str, Call]:
    """What nothing is called, and bodies that are too long for any."""
    calls = {}
    for method, path, operation in operations():
        if "{" in path:
            model_call = any(word in path for word in ("completions", "messages", "responses", "logprobs"))
            body = {"messages": SAID, "prompt": [1], "input": "a"} if model_call else {}
            named = {"file": "none.js", "model": "none"}
            place = path.format(uuid=fresh(), trajectory_uid=fresh(), prompt_uid="p", **named)
            calls[operation["operationId"]] = Call(method, place, body if method == "POST" else None)
    for name, call in _dialects("/v1", "").items():
        calls[name] = call._replace(body={**call.body, "model": "nobody"})
    for name, path in (("chat", "/v1/chat/completions"), ("complete_text", "/v1/completions")):
        calls[name] = Call("POST", path, {"messages": SAID, "prompt": "a", "model": "nobody"})
    return {
        **calls,
        "embed": Call("POST", "/v1/embeddings", {"input": "a", "model": "nobody"}),
        "score_prompt": Call("POST", "/v1/logprobs", {"input_ids": [4, 5], "model": "nobody"}),
        "create_session": Call("POST", "/sessions/create", {"base_url": "http://127.0.0.1:1"}),
        "ack": Call("POST", "/pool/ack", {"lease_ids": ["none"]}),
        "nack": Call("POST", "/pool/nack", {"lease_ids": ["none"]}),
        "mark": Call("POST", "/pool/marks", {"trajectory_uid": fresh(), "step_index": 0, "marks": {"good": True}}),
        "set_reward": Call("POST", "/pool/rewards", {"trajectory_uid": fresh(), "reward": 1}),
        "rewards": Call("GET", f"/pool/rewards?trajectory_uid={fresh()}"),
    }


def _conflicting(gateway: GatewayProcess) -> dict[str, Call]:
    """What contradicts what is stored."""
    done = init(gateway, prompt_uid="p")
    submit(gateway, step(done["trajectory_uid"]))
    gateway.post(f"/complete_trajectory/{done['trajectory_uid']}")
    calls = {}
    for method, path, operation in operations():
        if "{trajectory_uid}" in path and method == "POST":
            place = path.format(trajectory_uid=done["trajectory_uid"], prompt_uid="p")
            body = {"input": "a"} if "responses" in path else {"messages": SAID, "prompt": [1], "channel": "other"}
            calls[operation["operationId"]] = Call(method, place, body)
    acked, nacked = _leases(gateway)
    gateway.post("/pool/ack", {"lease_ids": [acked]})
    gateway.post("/pool/nack", {"lease_ids": [nacked]})
    return {
        **calls,
        "submit_steps": Call("POST", "/submit_steps", {"steps": [step(done["trajectory_uid"], reward=7)]}),
        "ack": Call("POST", "/pool/ack", {"lease_ids": [nacked]}),
        "nack": Call("POST", "/pool/nack", {"lease_ids": [acked]}),
        "set_reward": Call("POST", "/pool/rewards", {"trajectory_uid": init(gateway)["trajectory_uid"], "reward": 1}),
        "set_weights": Call("POST", "/weights", {"version": 6}),
    }


def _ended_in_flight(gateway: GatewayProcess) -> Answers:
    """Calls of a session that was deleted before its engine answered."""
    replies: Answers = {}
    calls = {
        "session_chat": ("/v1/chat/completions", chat()),
        "session_complete_text": ("/v1/completions", {"prompt": [4, 5]}),
        "message_in_session": ("/v1/messages", {"messages": SAID}),
        "response_in_session": ("/v1/responses", {"input": "a"}),
    }
    for name, (path, body) in calls.items():
        [uid] = _sessions(gateway, 1)
        before = len(gateway.stub.requests)
        gateway.stub.spoil(Fault("slow", after=0.7))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(gateway.post, f"/{uid}{path}", body)
            wait_until(lambda seen=before: len(gateway.stub.requests) > seen)  # type: ignore[misc]
            gateway.delete(f"/{uid}")
            replies[name, 409] = asked.result()
    return replies


def _collect_from_bad_engine(found: Answers, gateway: GatewayProcess, moods: Moods, calls: dict[str, Call]) -> None:
    """Each call to an engine that speaks no HTTP, and to a silent one; it is well again in between.

    Once, as a rule: where a busy machine needs longer for it than an engine is given, the first is told as the second.
    """
    for mood, status in (("garbage", 502), ("silent", 504)):
        for name, call in calls.items():
            for _ in range(TRIES):
                wait_until(lambda: gateway.get("/health").status_code == 200)
                moods.mood = mood
                _collect(found, gateway, {name: call})
                moods.mood = "well"
                if (name, status) in found or (name, status) not in DECLARED:
                    break
    wait_until(lambda: gateway.get("/health").status_code == 200)
    too_long = b" " * (BODY_LIMIT + 1)
    _collect(found, gateway, {name: call._replace(body=too_long) for name, call in _good(gateway).items() if call.body})
    names = {operation["operationId"]: (method, path) for method, path, operation in operations()}
    left = [name for name, status in DECLARED if status == 413 and (name, 413) not in found]
    for name in left:
        method, path = names[name]
        place = path.format(uuid=fresh(), trajectory_uid="t", prompt_uid="p")
        _collect(found, gateway, {name: Call(method, place, too_long)})


def _sessions(gateway: GatewayProcess, count: int) -> list[str]:
    made = [gateway.post("/sessions/create", {}).json() for _ in range(count)]
    return [one["uuid"] for one in made]


def _open_session(gateway: GatewayProcess) -> str:
    return str(gateway.get("/sessions").json()["sessions"][0]["uuid"])


def _open_trajectory(gateway: GatewayProcess) -> str:
    return init(gateway)["path"]


def _leases(gateway: GatewayProcess) -> list[str]:
    """Two groups, leased."""
    channel = fresh()
    for _ in range(2):
        assert submit(gateway, step(fresh(), is_last=True), channel=channel).status_code == 200
    leases = gateway.post("/pool/lease", {"channel": channel, "max_groups": 2}).json()["leases"]
    return [one["lease_id"] for one in leases]


def test_the_document_is_what_the_gateway_serves(tmp_path: Any) -> None:
    with running_gateway(tmp_path) as gateway:
        assert gateway.get("/openapi.json").json() == json.loads(json.dumps(DOCUMENT))
