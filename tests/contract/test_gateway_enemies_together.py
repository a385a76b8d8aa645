"""What no part of the gateway is asked for by itself: keys, dialects, hostile engines and megabytes of rubbish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contract.gateway_calls import chat
from tests.contract.gateway_keys import Keys, shown
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.stand_ins.hostile_replies import ENDING, HOSTILE, HostileReplies

MEGABYTE = "Z" * 1_000_000
SAID = [{"role": "user", "content": "x"}]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("hostile"), "--access-log", replies=HostileReplies()) as gateway:
        yield gateway


def streamed(gateway: GatewayProcess, path: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    """(event, data) of every event, read from the bytes as the standard has it: lines end with CR, LF or both."""
    reply = requests.post(gateway.url + path, json={**body, "stream": True}, timeout=30)
    assert reply.status_code == 200, reply.text
    assert "set-cookie" not in reply.headers
    events, name = [], ""
    for line in reply.content.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data" and value != "[DONE]":
            events.append((name, json.loads(value)))
        else:
            assert line in ("", "data: [DONE]"), line
    return events


# ---- what a model says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "session", "trajectory"])
def test_no_text_of_a_model_ends_or_adds_an_event_of_messages(hostile: GatewayProcess, place: str) -> None:
    events = streamed(hostile, f"{below(hostile, place)}/v1/messages", {"max_tokens": 9, "messages": SAID})
    assert all(data["type"] == name for name, data in events)
    assert [name for name, _ in events].count("message_stop") == 1
    assert events[-1][0] == "message_stop"
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    assert "".join(one.get("thinking", "") for one in deltas) == "".join(HOSTILE)
    assert "".join(one.get("text", "") for one in deltas) == "".join(HOSTILE)
    called = [data["content_block"] for name, data in events if name == "content_block_start"]
    assert [one["name"] for one in called if one["type"] == "tool_use"] == [f"t{one}" for one in HOSTILE]


@pytest.mark.parametrize("place", ["", "session", "trajectory"])
def test_no_text_of_a_model_ends_or_adds_an_event_of_responses(hostile: GatewayProcess, place: str) -> None:
    events = streamed(hostile, f"{below(hostile, place)}/v1/responses", {"input": "x"})
    assert all(data["type"] == name for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert events[-1][0] == "response.completed"
    said = "".join(data["delta"] for name, data in events if name == "response.output_text.delta")
    assert said == "".join(HOSTILE)


def test_an_engines_error_in_a_stream_is_one_event(hostile: GatewayProcess) -> None:
    asked = {"max_tokens": 9, "messages": SAID, "stop_sequences": ["fault"]}
    *_, (name, data) = streamed(hostile, "/v1/messages", asked)
    assert (name, data["error"]["message"]) == ("error", f"no{ENDING}")


def test_no_name_of_a_client_adds_a_line_to_the_log(hostile: GatewayProcess) -> None:
    hostile.post("/v1/messages", {"model": f"m{ENDING}\x1b[31m", "max_tokens": 9, "messages": SAID})
    hostile.get("/health", headers={"x-request-id": "a\x1b[31m\x85".encode()})
    streamed(hostile, f"{below(hostile, 'session')}/v1/messages", {"max_tokens": 9, "messages": SAID})
    for line in hostile.said:
        assert json.loads(line), line
        assert line.rstrip("\n").isprintable(), line


def below(gateway: GatewayProcess, place: str) -> str:
    if not place:
        return ""
    if place == "session":
        return "/" + str(gateway.post("/sessions/create", {}).json()["uuid"])
    made = gateway.post("/init_trajectory").json()
    return f"/{made['trajectory_uid']}/{made['prompt_uid']}"


# ---- what a client says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "x", "previous_response_id": MEGABYTE}),
        ("/v1/responses", {"input": [{"type": MEGABYTE}]}),
        ("/v1/responses", {"input": "x", "tools": [{"type": MEGABYTE}]}),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"role": MEGABYTE, "content": "x"}]}),
        ("/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": MEGABYTE}]}]}),
        ("/v1/messages", {"max_tokens": 1, "messages": SAID, "model": MEGABYTE}),
        ("/sessions/create", {"tool_parser": MEGABYTE}),
        ("/sessions/create", {"model": MEGABYTE}),
        ("/setup", {"servers": [{"base_url": MEGABYTE}]}),
        ("/init_trajectory", {"prompt_uid": MEGABYTE}),
        ("/pool/marks", {"trajectory_uid": "a", "step_index": 0, "marks": {MEGABYTE: 1}}),
        ("/submit_steps", {"steps": [{"trajectory_uid": MEGABYTE, "prompt_ids": [1], "response_ids": [1]}]}),
    ],
)
def test_a_megabyte_of_rubbish_is_not_said_back(hostile: GatewayProcess, path: str, body: Any) -> None:
    reply = hostile.post(path, body)
    assert 400 <= reply.status_code < 500, reply.text[:200]
    assert len(reply.content) < 10_000


# ---- what an agent writes -----------------------------------------------------------------------------------------


def test_an_agent_cannot_write_the_right_answer_over_a_trainers(tmp_path: Any) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--auth", "keys", "--reward", "numeric") as gateway:
        known = {"metadata": {"ground_truth": "42", "set": "test"}}
        made = gateway.post("/init_trajectory", known, **shown(keys.trainer)).json()
        path, agent = f"/{made['trajectory_uid']}/{made['prompt_uid']}", shown(made["api_key"])
        written = {"metadata": {"ground_truth": "7", "policy_version": 3}}
        assert gateway.post(f"{path}/v1/register_trajectory", written, **agent).status_code == 200
        assert gateway.post(f"{path}/v1/register_trajectory", {"metadata": {}}, **agent).status_code == 200
        assert gateway.post(f"{path}/v1/register_trajectory", written, **agent).status_code == 200
        [listed] = gateway.get("/pool/trajectories", **shown(keys.trainer)).json()["trajectories"]
        assert listed["metadata"] == {"ground_truth": "42", "set": "test", "policy_version": 3}
        judged = {**chat(), "trajectory_uid": made["trajectory_uid"]}
        judged["messages"] = [*judged["messages"], {"role": "assistant", "content": "It is 7"}]
        assert gateway.post("/compute_reward", judged, **shown(keys.trainer)).json()["reward"] == 0.0
        new = {"metadata": {"ground_truth": "8"}}
        assert gateway.post(f"{path}/v1/register_trajectory", new, **shown(keys.trainer)).status_code == 200
        [listed] = gateway.get("/pool/trajectories", **shown(keys.trainer)).json()["trajectories"]
        assert listed["metadata"] == {"ground_truth": "8"}
