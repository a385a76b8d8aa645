"""Reasoning over HTTP: put into chats of open routes and of `/generate` and nowhere else; bad ones are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import SAID, SeveralChoices, chat, check_openai, events_of, fresh, init
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """In front of one engine, with an effort in its servers file."""
    folder = tmp_path_factory.mktemp("gateway")
    stub = StubThread(SeveralChoices())
    servers = folder / "servers.json"
    server = {"base_url": stub.url, "server_type": "vllm"}
    servers.write_text(json.dumps({"servers": [server], "thinking_mode": True, "reasoning_effort": "high"}))
    running = GatewayProcess(stub, folder / "gateway.db", whom=("--servers", str(servers)))
    try:
        yield running
    finally:
        running.kill()
        stub.close()


def sent(gateway: GatewayProcess, path: str, body: Any) -> dict[str, Any]:
    """What the engine was sent."""
    before = len(gateway.stub.requests)
    reply = gateway.post(path, body)
    assert reply.status_code == 200, reply.text
    [seen] = [one for one in gateway.stub.requests[before:] if one.path.startswith("/v1/c")]
    found: dict[str, Any] = json.loads(seen.body)
    return found


HIGH = {"enabled": True, "effort": "high"}


def test_open_chats_are_told(gateway: GatewayProcess) -> None:
    body = chat(model="stub", top_k=3, temperature=0.5, reasoning={"exclude": True})
    assert sent(gateway, "/v1/chat/completions", body) == {**body, "reasoning": HIGH}
    assert sent(gateway, "/v1/chat/completions", chat())["reasoning"] == HIGH
    reply = gateway.post("/v1/chat/completions", chat(stream=True))
    assert events_of(reply.text.split("\n"))[-1] == "[DONE]"
    assert json.loads(gateway.stub.requests[-1].body)["reasoning"] == HIGH


def test_generate_is_a_chat_with_messages_alone(gateway: GatewayProcess) -> None:
    known = {"trajectory_uid": fresh(), "prompt_uid": "p"}
    assert sent(gateway, "/generate", {"messages": SAID, **known})["reasoning"] == HIGH
    assert "reasoning" not in sent(gateway, "/generate", {"prompt_ids": [1, 2]})


def test_chats_of_passthrough_sessions_are_told(gateway: GatewayProcess) -> None:
    uid = gateway.post("/sessions/create", {}).json()["uuid"]
    base = init(gateway)["path"]
    for path in (f"/{uid}", base):
        assert sent(gateway, f"{path}/v1/chat/completions", chat())["reasoning"] == HIGH
        assert "reasoning" not in sent(gateway, f"{path}/v1/completions", {"prompt": [4, 5]})
        told = sent(gateway, f"{path}/v1/chat/completions", chat(skip_reasoning=True))
        assert not {"reasoning", "skip_reasoning"} & set(told)
    reply = gateway.post(f"/{uid}/v1/chat/completions", chat(stream=True))
    assert events_of(reply.text.split("\n"))[-1] == "[DONE]"
    assert json.loads(gateway.stub.requests[-1].body)["reasoning"] == HIGH


def test_it_can_be_skipped_and_is_never_said(gateway: GatewayProcess) -> None:
    told = sent(gateway, "/v1/chat/completions", chat(model="stub", skip_reasoning=True))
    assert told == chat(model="stub")
    told = sent(gateway, "/v1/chat/completions", chat(model="stub", skip_reasoning=False))
    assert told == {**chat(model="stub"), "reasoning": HIGH}
    told = sent(gateway, "/v1/completions", {"model": "stub", "prompt": "a", "skip_reasoning": True})
    assert told == {"model": "stub", "prompt": "a"}
    told = sent(gateway, "/generate", {"prompt_ids": [1], "sampling_params": {"skip_reasoning": True}})
    assert not {"skip_reasoning", "reasoning"} & set(told)


def test_an_engine_without_reasoning_never_hears_of_it(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as plain:
        uid = plain.post("/sessions/create", {}).json()["uuid"]
        for path in ("/v1/chat/completions", f"/{uid}/v1/chat/completions"):
            assert "skip_reasoning" not in sent(plain, path, chat(model="stub", skip_reasoning=True))


def test_a_setup_with_an_unknown_effort_changes_nothing(gateway: GatewayProcess, tmp_path: Path) -> None:
    servers = [{"base_url": gateway.stub.url, "reasoning_effort": "max"}]
    error = check_openai(gateway.post("/setup", {"servers": servers}), 400)
    assert "none, minimal, low, medium, high, xhigh" in error["message"]
    assert sent(gateway, "/v1/chat/completions", chat())["reasoning"] == HIGH
