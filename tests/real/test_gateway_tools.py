"""Tools with stock vLLM and nano: what exact sessions answer is what vLLM's own chat route answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.conftest import ROOT
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.contract.test_gateway_tools import flat, joined, made, meant, streamed

pytestmark = pytest.mark.vllm

NANO = ROOT / "models" / "nano"
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculates.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "op": {"enum": ["+", "-", "*"]}},
            "required": ["a", "b", "op"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "echo", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "calculator"}}
ASKED = [{"role": "user", "content": "what is 123 + 456?"}]
STRICT = {**CALCULATOR, "function": {**CALCULATOR["function"], "strict": True}}

REQUESTS: dict[str, dict[str, Any]] = {
    "auto": {"tools": [CALCULATOR]},
    "of two": {"tools": [OTHER, CALCULATOR], "tool_choice": "auto"},
    "none": {"tools": [CALCULATOR], "tool_choice": "none"},
    "required": {"tools": [CALCULATOR, OTHER], "tool_choice": "required"},
    "named": {"tools": [CALCULATOR, OTHER], "tool_choice": NAMED},
    "one alone": {"tools": [CALCULATOR, OTHER], "tool_choice": "required", "parallel_tool_calls": False},
    "strict": {"tools": [STRICT], "tool_choice": "auto"},
    "cut": {"tools": [CALCULATOR], "tool_choice": "required", "max_tokens": 12},
    "several": {"tools": [CALCULATOR], "tool_choice": "required", "n": 2, "temperature": 1e-6},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, nano_engine: str) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    flags = ("--tokenizer-path", str(NANO), "--upstream-timeout", "120")
    with running_gateway(folder, *flags, whom=("--upstream", nano_engine)) as gateway:
        yield gateway


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
def test_an_exact_session_answers_as_vllms_chat_route(
    gateway: GatewayProcess, nano_engine: str, fields: dict[str, Any]
) -> None:
    body = {"messages": ASKED, "temperature": 0, "max_tokens": 200, **fields}
    direct = requests.post(f"{nano_engine}/chat/completions", json={"model": "nano", **body}, timeout=120)
    assert direct.status_code == 200, direct.text
    session = made(gateway, reasoning_parser="qwen3")
    reply = gateway.post(f"/{session}/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    theirs = [meant(flat(one)) for one in direct.json()["choices"]]
    ours = [meant(flat(one)) for one in reply.json()["choices"]]
    assert [one[:3] for one in ours] == [one[:3] for one in theirs]
    for choice, (*_, finish) in zip(reply.json()["choices"], theirs, strict=True):
        called = bool(choice["message"].get("tool_calls"))
        # Contract: calls that were parsed end in `tool_calls`, for a function that was named too.
        assert choice["finish_reason"] == ("tool_calls" if called and finish != "length" else finish)
    again = streamed(gateway, made(gateway, reasoning_parser="qwen3"), **body)
    assert not [event for event in again if "error" in event]
    for index, one in joined(again).items():
        if one["finish"] != "length":
            assert meant(one) == meant(flat(reply.json()["choices"][index]))


@pytest.mark.parametrize("parser", ["hermes", "pythonic"])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_demanded_call_is_made(gateway: GatewayProcess, parser: str, choice: Any) -> None:
    """In the parser's own form, or as JSON where it has none of its own for it."""
    session = made(gateway, tool_parser=parser)
    body = {"messages": [{"role": "user", "content": "Hello."}], "temperature": 0, "max_tokens": 300}
    body |= {"tools": [CALCULATOR], "tool_choice": choice, "chat_template_kwargs": {"enable_thinking": False}}
    reply = gateway.post(f"/{session}/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    [said] = reply.json()["choices"]
    if said["finish_reason"] != "length":
        for call in said["message"]["tool_calls"]:
            assert call["function"]["name"] == "calculator"
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
        assert said["finish_reason"] == "tool_calls"
    [node] = gateway.get(f"/{session}/nodes").json()["nodes"]
    assert "calculator" in node["full_text"]


def test_without_a_parser_a_demanded_call_is_json(gateway: GatewayProcess) -> None:
    session = made(gateway, tool_parser=None)
    body = {"messages": ASKED, "temperature": 0, "max_tokens": 300, "tools": [CALCULATOR], "tool_choice": NAMED}
    body["chat_template_kwargs"] = {"enable_thinking": False}
    reply = gateway.post(f"/{session}/v1/chat/completions", body).json()
    [said] = reply["choices"]
    if said["finish_reason"] != "length":
        [call] = said["message"]["tool_calls"]
        assert {"a", "b", "op"} <= set(json.loads(call["function"]["arguments"]))
