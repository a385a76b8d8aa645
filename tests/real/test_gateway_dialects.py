"""Messages and Responses with a real engine: tools called by its own parser, and conversations that go on exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.contract.gateway_process import GatewayProcess, running_gateway

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": "number"}, "operation": {"type": "string"}},
    "required": ["a", "b", "operation"],
}
ASK = "What is 46*87?"


@pytest.fixture(scope="module")
def gateway(nano_engine: str, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    flags = ("--tokenizer-path", str(nano))
    with running_gateway(tmp_path_factory.mktemp("gateway"), *flags, whom=("--upstream", nano_engine)) as gateway:
        yield gateway


@pytest.fixture(params=["exact", "passthrough"])
def session(request: pytest.FixtureRequest, gateway: GatewayProcess) -> str:
    made = gateway.post("/sessions/create", {"mode": request.param, "reasoning_parser": "qwen3"})
    assert made.status_code == 200, made.text
    return str(made.json()["uuid"])


def nodes(gateway: GatewayProcess, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(f"/{session}/nodes").json()["nodes"]
    return found


@pytest.mark.parametrize("streamed", [False, True])
def test_messages_with_a_tool(gateway: GatewayProcess, session: str, streamed: bool) -> None:
    client = anthropic.Anthropic(base_url=f"{gateway.url}/{session}", api_key="none", max_retries=0)
    tools: Any = [{"name": "calculator", "description": "Calculates.", "input_schema": SCHEMA}]
    messages: list[Any] = [{"role": "user", "content": ASK}]
    fields: Any = {"model": "nano", "max_tokens": 200, "tools": tools, "extra_body": {"temperature": 0}}

    def ask() -> Any:
        if not streamed:
            return client.messages.create(messages=messages, **fields)
        with client.messages.stream(messages=messages, **fields) as stream:
            return stream.get_final_message()

    counted = client.messages.count_tokens(model="nano", messages=messages, tools=tools).input_tokens
    called = ask()
    assert counted == called.usage.input_tokens
    assert called.stop_reason == "tool_use"
    [use] = [block for block in called.content if block.type == "tool_use"]
    assert use.name == "calculator"
    messages += [
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "4002"}]},
    ]
    said = ask()
    assert said.stop_reason == "end_turn"
    assert "4002" in "".join(block.text for block in said.content if block.type == "text")
    [node] = nodes(gateway, session)
    assert [one["verdict"] for one in node["metadata"]["boundaries"]] in (["root", "exact"], ["exact"])


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_that_follow_one_another(gateway: GatewayProcess, session: str, streamed: bool) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/{session}/v1", api_key="none", max_retries=0)
    tools: Any = [{"type": "function", "name": "calculator", "parameters": SCHEMA, "strict": False}]
    fields: Any = {"model": "nano", "max_output_tokens": 200, "tools": tools, "temperature": 0}

    def ask(**more: Any) -> Any:
        if not streamed:
            return client.responses.create(**fields, **more)
        with client.responses.stream(**fields, **more) as stream:
            return stream.get_final_response()

    called = ask(input=ASK)
    [call] = [item for item in called.output if item.type == "function_call"]
    assert call.name == "calculator"
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "4002"}
    said = ask(input=[output], previous_response_id=called.id)
    assert "4002" in said.output_text
    [node] = nodes(gateway, session)
    assert [one["verdict"] for one in node["metadata"]["boundaries"]] in (["root", "exact"], ["exact"])


def test_a_reply_that_the_client_began(gateway: GatewayProcess, session: str) -> None:
    client = anthropic.Anthropic(base_url=f"{gateway.url}/{session}", api_key="none", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "What is 17+25?"}, {"role": "assistant", "content": "17+25="}]
    body = {"temperature": 0, "chat_template_kwargs": {"enable_thinking": False}}
    said = client.messages.create(model="nano", max_tokens=20, messages=messages, extra_body=body)
    assert "".join(block.text for block in said.content if block.type == "text").strip().startswith("42")
