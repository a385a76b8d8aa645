"""Exact sessions over HTTP, with nano's tokenizer and template: what is sent, what is recorded, what clients read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.contract.gateway_calls import check_openai, streamed
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

NANO = ROOT / "models" / "nano"
USER = {"role": "user", "content": "add 2 and 3"}


class Listening:
    """The small engine, which can be told to have been given other tokens than it was sent, or to give one choice."""

    def __init__(self, folder: Path) -> None:
        self.engine = SmallEngine(folder)
        self.mishears = False
        self.gives_one = False

    def __call__(self, path: str, body: bytes) -> StubReply:
        if self.gives_one:
            body = json.dumps({**json.loads(body), "n": 1}).encode()
        reply = self.engine(path, body)
        if not self.mishears or reply.chunks:
            return reply
        told = json.loads(reply.body)
        told["choices"][0]["prompt_token_ids"][0] ^= 1
        return StubReply(200, json.dumps(told).encode())


@pytest.fixture(scope="module")
def engine() -> Listening:
    return Listening(NANO)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: Listening) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess, engine: Listening) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()
    engine.engine.say.clear()
    engine.mishears = engine.gives_one = False


@pytest.fixture
def session(gateway: GatewayProcess) -> str:
    made = gateway.post("/sessions/create", {}).json()
    assert made["mode"] == "exact"
    return str(made["uuid"])


def nodes_of(gateway: GatewayProcess, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(f"/{session}/nodes").json()["nodes"]
    return found


def ask(gateway: GatewayProcess, session: str, messages: list[Any], **fields: Any) -> dict[str, Any]:
    body = {"messages": messages, "max_tokens": 24, **fields}
    reply = gateway.post(f"/{session}/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    said: dict[str, Any] = reply.json()
    return said


def sent(gateway: GatewayProcess) -> list[int]:
    """The prompt of the last request that the engine got."""
    seen = gateway.stub.requests[-1]
    assert seen.path == "/v1/completions"
    ids: list[int] = seen.json()["prompt"]
    return ids


def test_each_turn_is_sent_as_the_ids_of_the_turns_before_and_more(gateway: GatewayProcess, session: str) -> None:
    messages: list[Any] = [USER]
    path: list[int] = []
    for turn in range(6):
        rendered = gateway.post(f"/{session}/v1/chat/completions/render", {"messages": messages}).json()
        said = ask(gateway, session, messages)
        assert sent(gateway) == rendered["token_ids"]
        assert rendered["num_tokens"] == len(rendered["token_ids"])
        assert sent(gateway)[: len(path)] == path
        [node] = nodes_of(gateway, session)
        path = node["tokens"]
        messages += [said["choices"][0]["message"], {"role": "user", "content": f"and {turn} more"}]
    verdicts = [one["verdict"] for one in node["metadata"]["boundaries"]]
    assert set(verdicts[1:]) == {"exact"}
    assert node["metadata"]["branch_reason"] is None


def test_the_prompt_of_a_first_turn_is_what_the_engine_itself_would_render(
    gateway: GatewayProcess, session: str, engine: Listening
) -> None:
    request = {"messages": [{"role": "system", "content": "Add."}, USER]}
    ask(gateway, session, request["messages"])
    assert sent(gateway) == engine.engine.prompt_of(request)


def test_no_turn_ends_twice(gateway: GatewayProcess, session: str, engine: Listening) -> None:
    messages: list[Any] = [USER]
    for text in ("five", "six"):
        engine.engine.say.append(text)
        said = ask(gateway, session, messages, max_tokens=200)
        assert said["choices"][0]["finish_reason"] == "stop"
        messages += [said["choices"][0]["message"], USER]
    ask(gateway, session, messages)
    ids, eos = sent(gateway), engine.engine.eos
    assert ids.count(eos) >= 2
    assert not [at for at, (one, other) in enumerate(itertools.pairwise(ids)) if one == other == eos]


def test_content_has_no_special_tokens(gateway: GatewayProcess, session: str, engine: Listening) -> None:
    engine.engine.say.append("five")
    said = ask(gateway, session, [USER], tools=[{"type": "function", "function": {"name": "add", "parameters": {}}}])
    assert "<|" not in (said["choices"][0]["message"]["content"] or "")


def test_a_stop_string_is_not_in_the_content(gateway: GatewayProcess, session: str, engine: Listening) -> None:
    for stop in ("two", ["two"]):
        engine.engine.say.append("one two three")
        [choice] = ask(gateway, session, [USER], stop=stop, max_tokens=200)["choices"]
        assert choice["message"]["content"].strip() == "one"
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "two")


def test_a_schema_reaches_the_engine(gateway: GatewayProcess, session: str) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    ask(gateway, session, [USER], response_format=wanted)
    asked = gateway.stub.requests[-1].json()
    assert asked.get("response_format") == wanted or asked["structured_outputs"] == {"json": schema}


def test_a_truncated_turn_is_extended(gateway: GatewayProcess, session: str) -> None:
    [choice] = ask(gateway, session, [USER], max_tokens=3)["choices"]
    assert choice["finish_reason"] == "length"
    ask(gateway, session, [USER, choice["message"], USER])
    [node] = nodes_of(gateway, session)
    assert [one["verdict"] for one in node["metadata"]["boundaries"]][-1] == "exact"


@pytest.mark.parametrize("mode", ["exact", "passthrough"])
def test_choices_that_an_engine_does_not_give_are_asked_for_again(
    gateway: GatewayProcess, engine: Listening, mode: str
) -> None:
    session = gateway.post("/sessions/create", {"mode": mode}).json()["uuid"]
    engine.gives_one = True
    said = ask(gateway, session, [USER], n=3)
    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2]
    assert len(nodes_of(gateway, session)) == 3


def test_an_engine_that_was_given_other_tokens_is_a_fault(
    gateway: GatewayProcess, session: str, engine: Listening
) -> None:
    engine.mishears = True
    reply = gateway.post(f"/{session}/v1/chat/completions", {"messages": [USER]})
    check_openai(reply, 502, "prompt_changed_by_engine")
    assert nodes_of(gateway, session) == []
    engine.mishears = False
    ask(gateway, session, [USER])


@pytest.mark.parametrize("kind", ["no_ids", "short_logprobs", "abort"])
def test_a_reply_that_cannot_be_recorded_leaves_no_node(gateway: GatewayProcess, session: str, kind: Any) -> None:
    gateway.stub.spoil(Fault(kind))
    check_openai(gateway.post(f"/{session}/v1/chat/completions", {"messages": [USER]}), 502)
    assert nodes_of(gateway, session) == []
    ask(gateway, session, [USER])
    assert len(nodes_of(gateway, session)) == 1


def test_a_stream_says_and_records_what_a_whole_reply_does(gateway: GatewayProcess) -> None:
    found = []
    for stream in (False, True):
        session = gateway.post("/sessions/create", {}).json()["uuid"]
        body = {"messages": [USER], "max_tokens": 24, "seed": 5, "stream": stream}
        reply = gateway.post(f"/{session}/v1/chat/completions", body)
        assert reply.status_code == 200, reply.text
        if stream:
            content, finish = streamed(reply.text)
        else:
            [choice] = reply.json()["choices"]
            content, finish = choice["message"]["content"], [choice["finish_reason"]]
        [node] = nodes_of(gateway, session)
        found.append((content, finish, node["tokens"], node["masked_tokens"], node["logprobs"]))
    assert found[0] == found[1]


def test_log_probabilities_are_shown_when_they_are_asked_for(gateway: GatewayProcess, session: str) -> None:
    said = ask(gateway, session, [USER], logprobs=True, top_logprobs=2)
    shown = said["choices"][0]["logprobs"]["content"]
    [node] = nodes_of(gateway, session)
    assert [one["logprob"] for one in shown] == [value for value in node["logprobs"] if value != 1.0]
    assert said["usage"]["completion_tokens"] == len(shown)
    assert ask(gateway, session, [USER])["choices"][0]["logprobs"] is None


def test_tools_without_a_parser_are_told(gateway: GatewayProcess) -> None:
    session = gateway.post("/sessions/create", {"tool_parser": None}).json()
    assert session["tool_parsing"] == "disabled"
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    assert ask(gateway, session["uuid"], [USER], tools=tools)["tool_parsing"] == "disabled"
    assert "tool_parsing" not in ask(gateway, session["uuid"], [USER])


def test_passthrough_beside_it_is_rendered_by_the_engine(gateway: GatewayProcess) -> None:
    session = gateway.post("/sessions/create", {"mode": "passthrough"}).json()["uuid"]
    ask(gateway, session, [USER])
    assert gateway.stub.requests[-1].path == "/v1/chat/completions"
    assert nodes_of(gateway, session)[0]["metadata"]["mode"] == "passthrough"


def test_a_message_with_an_image_is_passed_through(gateway: GatewayProcess, session: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}]
    gateway.post(f"/{session}/v1/chat/completions", {"messages": parts})
    assert gateway.stub.requests[-1].path == "/v1/chat/completions"
    assert gateway.stub.requests[-1].json()["messages"] == parts


def test_a_template_that_cannot_is_told(gateway: GatewayProcess, session: str) -> None:
    for messages in ([], [{"role": "user"}, {"role": 7, "content": ""}]):
        for path in ("", "/render"):
            check_openai(gateway.post(f"/{session}/v1/chat/completions{path}", {"messages": messages}), 400)
