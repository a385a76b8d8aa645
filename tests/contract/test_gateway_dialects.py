"""Messages and Responses by the official SDKs of Anthropic and OpenAI: open, in sessions, in trajectories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
import requests

from tests.contract.gateway_calls import init, steps_of
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.talking_replies import ANSWER, CALLS, THOUGHT, TalkingReplies

SAID: Any = [{"role": "user", "content": "What is one and one?"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
TOOLS: Any = [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}, {"name": "note", "input_schema": SCHEMA}]
FUNCTIONS: Any = [
    {"type": "function", "name": name, "parameters": SCHEMA, "strict": False, "description": "Does."}
    for name in ("add", "note")
]
PLACES = ["open", "session", "trajectory"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), replies=TalkingReplies()) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()


class Place(NamedTuple):
    """Where a client works. `url`: without `/v1`; `recorded`: how many calls were, None where nothing is recorded."""

    url: str
    recorded: Callable[[], int] | None
    gateway: GatewayProcess

    def check_recorded(self, count: int) -> None:
        assert self.recorded is None or self.recorded() == count

    @property
    def claude(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key="none", max_retries=0)

    @property
    def gpt(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def asked_last(self) -> Any:
        """The chat that the engine was asked."""
        chats = [seen for seen in self.gateway.stub.requests if seen.path == "/v1/chat/completions"]
        return json.loads(chats[-1].body)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, gateway: GatewayProcess) -> Place:
    if request.param == "open":
        return Place(gateway.url, None, gateway)
    if request.param == "session":
        uid = gateway.post("/sessions/create", {"track_tree": True}).json()["uuid"]
        return Place(f"{gateway.url}/{uid}", lambda: len(gateway.get(f"/{uid}/nodes").json()["nodes"]), gateway)
    made = init(gateway)
    return Place(made["base_url"], lambda: len(steps_of(gateway, made["trajectory_uid"])), gateway)


def blocks_of(message: Any) -> list[Any]:
    return [block.model_dump(exclude_none=True) for block in message.content]


def thought_and_said(message: Any) -> list[Any]:
    thought, said, *calls = blocks_of(message)
    assert (thought["type"], thought["thinking"]) == ("thinking", THOUGHT)
    assert (said["type"], said["text"]) == ("text", ANSWER)
    return calls


class TestMessages:
    def test_whole(self, place: Place) -> None:
        message = place.claude.messages.create(model="stub", max_tokens=64, messages=SAID, system="Be brief.")
        assert thought_and_said(message) == []
        assert (message.role, message.stop_reason, message.stop_sequence) == ("assistant", "end_turn", None)
        assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)
        asked = place.asked_last()
        assert asked["messages"] == [{"role": "system", "content": "Be brief."}, *SAID]
        assert asked["max_tokens"] == 64
        place.check_recorded(1)

    @pytest.mark.parametrize("tools", [None, TOOLS])
    def test_streamed_it_is_the_same_message(self, place: Place, tools: Any) -> None:
        more = {"tools": tools} if tools else {}
        with place.claude.messages.stream(model="stub", max_tokens=64, messages=SAID, **more) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_message()
        whole = place.claude.messages.create(model="stub", max_tokens=64, messages=SAID, **more)
        assert blocks_of(streamed) == blocks_of(whole)
        assert (streamed.stop_reason, streamed.model) == (whole.stop_reason, whole.model)
        assert streamed.usage.input_tokens == whole.usage.input_tokens
        assert streamed.usage.output_tokens > 0
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(whole.content)
        place.check_recorded(2)

    def test_tools_are_called_and_their_results_sent_back(self, place: Place) -> None:
        client = place.claude
        message = client.messages.create(
            model="stub", max_tokens=64, messages=SAID, tools=TOOLS, tool_choice={"type": "auto"}
        )
        calls = thought_and_said(message)
        assert [(call["name"], call["input"]) for call in calls] == list(CALLS)
        assert message.stop_reason == "tool_use"
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "2"} for call in calls]
        back = [
            *SAID,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [*results, {"type": "text", "text": "And so?"}]},
        ]
        client.messages.create(model="stub", max_tokens=64, messages=back, tools=TOOLS)
        asked = place.asked_last()
        assert [one["role"] for one in asked["messages"]] == ["user", "assistant", "tool", "tool", "user"]
        said = asked["messages"][1]
        assert (said["content"], said["reasoning_content"]) == (ANSWER, THOUGHT)
        names = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in said["tool_calls"]]
        assert names == list(CALLS)
        assert asked["tools"][0]["function"]["parameters"] == SCHEMA
        place.check_recorded(2)

    def test_why_it_stopped(self, place: Place) -> None:
        client = place.claude
        cut = client.messages.create(model="stub", max_tokens=1, messages=SAID)
        assert cut.stop_reason == "max_tokens"
        stopped = client.messages.create(model="stub", max_tokens=9, messages=SAID, stop_sequences=["END"])
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "END")

    @pytest.mark.parametrize("streamed", [False, True])
    def test_an_engines_error_is_told_in_the_protocols_words(self, place: Place, streamed: bool) -> None:
        place.gateway.stub.spoil(Fault("status", 400, {"error": {"message": "too long", "type": "x", "code": 1}}))
        with pytest.raises(anthropic.BadRequestError) as caught:
            place.claude.messages.create(model="stub", max_tokens=9, messages=SAID, stream=streamed)
        body: Any = caught.value.body
        assert body["type"] == "error"
        assert body["error"]["message"] == "too long"
        place.check_recorded(0)

    def test_a_stream_that_dies_ends_with_an_error_event(self, place: Place) -> None:
        place.gateway.stub.spoil(Fault("die", after=3))
        with (
            pytest.raises(anthropic.APIError),
            place.claude.messages.stream(model="stub", max_tokens=9, messages=SAID) as stream,
        ):
            stream.get_final_message()


class TestResponses:
    def test_whole(self, place: Place) -> None:
        response = place.gpt.responses.create(
            model="stub", input="Hello?", instructions="Be brief.", metadata={"a": "b"}
        )
        assert response.output_text == ANSWER
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert (response.status, response.instructions, response.metadata) == ("completed", "Be brief.", {"a": "b"})
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (2, 3)
        asked = place.asked_last()
        assert [one["role"] for one in asked["messages"]] == ["system", "user"]
        place.check_recorded(1)

    @pytest.mark.parametrize("tools", [None, FUNCTIONS])
    def test_streamed_it_is_the_same_response(self, place: Place, tools: Any) -> None:
        more = {"tools": tools} if tools else {}
        with place.gpt.responses.stream(model="stub", input=SAID, **more) as stream:
            events = list(stream)
            streamed = stream.get_final_response()
        whole = place.gpt.responses.create(model="stub", input=SAID, **more)
        assert streamed.output_text == whole.output_text == ANSWER
        own = {"parsed_arguments", "id"}
        dumped = [[item.model_dump(exclude=own) for item in one.output] for one in (streamed, whole)]
        for item in dumped[0]:
            for part in item.get("content") or ():
                part.pop("parsed", None)
        assert dumped[0] == dumped[1]
        assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(
            range(len(events))
        )
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        place.check_recorded(2)

    def test_tools_are_called_and_their_results_sent_back(self, place: Place) -> None:
        client = place.gpt
        response = client.responses.create(model="stub", input=SAID, tools=FUNCTIONS)
        calls = [item for item in response.output if item.type == "function_call"]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == list(CALLS)
        outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "2"} for call in calls]
        back: Any = [*SAID, *(item.model_dump() for item in response.output), *outputs]
        again = client.responses.create(model="stub", input=back, tools=FUNCTIONS)
        assert again.output_text == ANSWER
        asked = place.asked_last()
        assert [one["role"] for one in asked["messages"]] == ["user", "assistant", "tool", "tool"]
        said = asked["messages"][1]
        assert (said["content"], said["reasoning"], len(said["tool_calls"])) == (ANSWER, THOUGHT, 2)
        place.check_recorded(2)

    def test_the_previous_response_stands_before_the_input(self, place: Place) -> None:
        client = place.gpt
        first = client.responses.create(model="stub", input="Hello?", instructions="Be brief.")
        ask = {"model": "stub", "input": "And so?", "previous_response_id": first.id}
        if place.recorded is None:
            with pytest.raises(openai.BadRequestError, match="not found"):
                client.responses.create(**ask)
            return
        second = client.responses.create(**ask)
        assert second.previous_response_id == first.id
        asked = place.asked_last()
        assert [one["role"] for one in asked["messages"]] == ["system", "user", "assistant", "user"]
        client.responses.create(**ask, instructions="Be long.")
        asked = place.asked_last()
        assert [one["role"] for one in asked["messages"]][:2] == ["system", "user"]
        assert asked["messages"][0]["content"] == "Be long."
        with pytest.raises(openai.BadRequestError, match="not found"):
            client.responses.create(**{**ask, "previous_response_id": "resp_nothing"})
        place.check_recorded(3)

    def test_why_it_is_incomplete(self, place: Place) -> None:
        response = place.gpt.responses.create(model="stub", input="Hello?", max_output_tokens=1)
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"

    def test_a_stream_that_dies_has_failed(self, place: Place) -> None:
        place.gateway.stub.spoil(Fault("die", after=3))
        reply = requests.post(
            f"{place.url}/v1/responses", json={"model": "stub", "input": "Hello?", "stream": True}, timeout=30
        )
        assert "event: response.failed" in reply.text
        assert "response.completed" not in reply.text


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("messages", {"max_tokens": 3}, "messages"),
        ("messages", {"messages": []}, "messages"),
        ("messages", {"messages": [{"role": "user"}]}, "content"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "document"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "thinking"),
        ("messages", {"messages": SAID, "mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ("messages", {"messages": SAID, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ("messages", {"messages": SAID, "tool_choice": {"type": "tool"}}, "tool_choice"),
        ("messages/count_tokens", {"messages": 3}, "messages"),
        ("responses", {}, "input"),
        ("responses", {"input": []}, "input"),
        ("responses", {"input": 3}, "input"),
        ("responses", {"input": [{"type": "computer_call"}]}, "input"),
        ("responses", {"input": "x", "background": True}, "background"),
        ("responses", {"input": "x", "tools": [{"type": "web_search"}]}, "tools"),
        ("responses", {"input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice"),
    ],
)
def test_what_is_refused(gateway: GatewayProcess, path: str, body: Any, where: str) -> None:
    uid = gateway.post("/sessions/create", {}).json()["uuid"]
    asked_before = len(gateway.stub.requests)
    for prefix in ("", f"/{uid}"):
        reply = gateway.post(f"{prefix}/v1/{path}", body)
        assert reply.status_code == 400, reply.text
        error = reply.json()["error"]
        assert where in error["message"] or where in str(error.get("param"))
        assert ("type" in reply.json()) == path.startswith("messages")
    assert not [seen for seen in gateway.stub.requests[asked_before:] if seen.path == "/v1/chat/completions"]


def test_unknown_sessions(gateway: GatewayProcess) -> None:
    reply = gateway.post("/00000000-0000-0000-0000-000000000000/v1/messages", {"messages": SAID})
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "not_found_error"
