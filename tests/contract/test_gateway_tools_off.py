"""Exact sessions without vLLM: parsing is off, is said to be, and everything else works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import check_openai, events_of
from tests.contract.gateway_process import running_gateway
from tests.contract.test_gateway_exact import NANO, USER, Listening, ask, nodes_of

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "look", "arguments": {"place": "a"}}\n</tool_call>'


def test_calls_stay_in_the_content_and_the_reply_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-engines"))
    monkeypatch.delenv("MOORAGE_VLLM_PYTHON", raising=False)
    engine = Listening(NANO)
    fields: dict[str, Any] = {"tools": TOOLS, "max_tokens": 200}
    with running_gateway(tmp_path, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        made = gateway.post("/sessions/create", {"reasoning_parser": "qwen3", "tool_parser": "deepseek_v3"}).json()
        assert made["tool_parsing"] == "disabled"
        session = made["uuid"]
        engine.engine.say.extend(["So: " + CALL] * 3)
        for _ in range(2):
            said = ask(gateway, session, [USER], **fields)
            assert said["tool_parsing"] == "disabled"
            [choice] = said["choices"]
            assert choice["message"] == {"role": "assistant", "content": "So: " + CALL}
            assert choice["finish_reason"] == "stop"
        reply = gateway.post(f"/{session}/v1/chat/completions", {"messages": [USER], "stream": True, **fields})
        events = [json.loads(one) for one in events_of(reply.text.split("\n")) if one != "[DONE]"]
        deltas = [event["choices"][0]["delta"].get("content") or "" for event in events]
        assert "".join(deltas) == "So: " + CALL
        assert sum(map(bool, deltas)) > 3  # as it came
        assert all(event["tool_parsing"] == "disabled" for event in events)
        # What was demanded is JSON, which needs no parser.
        engine.engine.say.append('[{"name": "look", "parameters": {}}]')
        [choice] = ask(gateway, session, [USER], tool_choice="required", **fields)["choices"]
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
        assert len(nodes_of(gateway, session)) == 4
        assert sum("vLLM environment" in line for line in gateway.said) == 1
        assert not [line for line in gateway.said if "not_parsed" in line]


def test_tools_and_calls_that_are_meant_to_hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-engines"))
    monkeypatch.delenv("MOORAGE_VLLM_PYTHON", raising=False)
    with running_gateway(tmp_path, "--tokenizer-path", str(NANO), replies=Listening(NANO)) as gateway:
        session = gateway.post("/sessions/create", {}).json()["uuid"]
        for parameters in ("x", [1], 5):
            tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
            body = {"messages": [USER], "tools": tools, "tool_choice": "required"}
            check_openai(gateway.post(f"/{session}/v1/chat/completions", body), 400, "tools_wrong")
        messages: list[dict[str, Any]] = [USER]
        for depth in (600, 985, 3000):
            arguments = '{"a":' + "[" * depth + "]" * depth + "}"
            call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
            messages += [{"role": "assistant", "content": None, "tool_calls": [call]}, USER]
            ask(gateway, session, messages)
        assert len(nodes_of(gateway, session)) == 3
