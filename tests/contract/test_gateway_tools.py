"""Tools in exact sessions over HTTP, split by vLLM's own parsers: whole and streamed, good, broken and forced calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.gateway_calls import events_of
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.contract.test_gateway_exact import NANO, USER, Listening, ask, nodes_of

pytestmark = pytest.mark.vllm

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look somewhere.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
WAIT = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [LOOK, WAIT]


def call(name: str, **arguments: Any) -> str:
    """A call as Hermes models write it."""
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


ONE = call("look", place="Münster 🦊")
TWO = call("look", place='a "b" {c}', deep={"x": [1, {"y": None}], "ключ": "</tool"})
THOUGHT = "<think>\nWhere?\n</think>\n\n"


@pytest.fixture(scope="module")
def engine() -> Listening:
    return Listening(NANO)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: Listening, vllm_python: Any) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        session = made(gateway)
        engine.engine.say.append(ONE)
        assert ask(gateway, session, [USER], tools=TOOLS, max_tokens=200)["choices"][0]["message"]["tool_calls"]
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess, engine: Listening) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()
    engine.engine.say.clear()


@pytest.fixture
def session(gateway: GatewayProcess) -> str:
    return made(gateway)


def made(gateway: GatewayProcess, **fields: Any) -> str:
    reply = gateway.post("/sessions/create", fields)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["uuid"])


def streamed(gateway: GatewayProcess, session: str, **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed chat, an error as an event too."""
    body = {"messages": [USER], "max_tokens": 400, "tools": TOOLS, "stream": True, **fields}
    reply = gateway.post(f"/{session}/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    return [json.loads(one) for one in events_of(reply.text.split("\n")) if one != "[DONE]"]


def joined(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a client puts together of each choice: reasoning, content, calls, finish reason."""
    found: dict[int, dict[str, Any]] = {}
    for choice in (choice for event in events for choice in event.get("choices", ())):
        one = found.setdefault(choice["index"], {"content": "", "reasoning": "", "calls": [], "finish": None})
        delta = choice["delta"]
        one["content"] += delta.get("content") or ""
        one["reasoning"] += delta.get("reasoning") or ""
        for part in delta.get("tool_calls") or ():
            if part["index"] == len(one["calls"]):
                one["calls"].append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
            one["calls"][part["index"]]["arguments"] += part["function"].get("arguments") or ""
        one["finish"] = choice["finish_reason"] or one["finish"]
    return found


def flat(choice: dict[str, Any]) -> dict[str, Any]:
    """A whole reply's choice in the same form."""
    message = choice["message"]
    calls = [{"id": one["id"], **one["function"]} for one in message.get("tool_calls") or ()]
    said = {"content": message["content"] or "", "reasoning": message.get("reasoning") or ""}
    return {**said, "calls": calls, "finish": choice["finish_reason"]}


def meant(one: dict[str, Any]) -> Any:
    """Without ids, arguments as values."""
    calls = []
    for made in one["calls"]:
        try:
            calls.append((made["name"], json.loads(made["arguments"])))
        except ValueError:
            calls.append((made["name"], made["arguments"]))
    return one["content"].strip(), one["reasoning"].strip(), calls, one["finish"]


TEXTS = {
    "a call": ONE,
    "words and calls": "Let me look.\n" + ONE + "\n" + TWO,
    "words alone": "Nothing < to > do, 1 <tool 2, ünïcödé 🦊.",
    "no arguments": call("wait"),
    "an unclosed call": ONE.removesuffix("</tool_call>"),
    "text after a call": ONE + "\nThat is it.",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("reasoning", [None, "qwen3"])
def test_a_stream_says_what_the_whole_reply_says(
    gateway: GatewayProcess, engine: Listening, text: str, reasoning: str | None
) -> None:
    said = (THOUGHT if reasoning else "") + text
    engine.engine.say.extend([said, said])
    [whole] = ask(gateway, made(gateway, reasoning_parser=reasoning), [USER], tools=TOOLS, max_tokens=400)["choices"]
    session = made(gateway, reasoning_parser=reasoning)
    events = streamed(gateway, session)
    assert not [event for event in events if "error" in event]
    one = joined(events)[0]
    assert meant(one) == meant(flat(whole))
    assert one["finish"] == ("tool_calls" if whole["message"].get("tool_calls") else "stop")
    [node] = nodes_of(gateway, session)
    assert text.split("\n")[0] in node["full_text"]
