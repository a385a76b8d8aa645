"""The official OpenAI SDK against the gateway: sync, async, streamed; on open routes, sessions and trajectories."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.contract.gateway_calls import SeveralChoices, init, steps_of
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.stand_ins.engine_stub import Fault

SAID: Any = [{"role": "user", "content": [{"type": "text", "text": "What is one and one?"}]}]
PLACES = ["open", "session", "trajectory"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), replies=SeveralChoices()) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()


class Place:
    """Where a client works. `recorded`: how many calls were; None where nothing is recorded."""

    def __init__(self, base_url: str, recorded: Callable[[], int] | None = None) -> None:
        self.base_url = base_url
        self.recorded = recorded

    def check_recorded(self, count: int) -> None:
        assert self.recorded is None or self.recorded() == count

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.base_url, api_key="none", **options)

    def async_client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.base_url, api_key="none")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, gateway: GatewayProcess) -> Place:
    if request.param == "open":
        return Place(f"{gateway.url}/v1")
    if request.param == "session":
        uid = gateway.post("/sessions/create", {"track_tree": True}).json()["uuid"]
        return Place(f"{gateway.url}/{uid}/v1", lambda: len(gateway.get(f"/{uid}/nodes").json()["nodes"]))
    made = init(gateway)
    return Place(made["openai_base_url"], lambda: len(steps_of(gateway, made["trajectory_uid"])))


def test_chat(place: Place) -> None:
    said = place.client().chat.completions.create(
        model="stub",
        messages=SAID,
        stop="x",
        top_p=0.9,
        seed=1,
        max_completion_tokens=8,
        logprobs=True,
        top_logprobs=1,
    )
    [choice] = said.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.logprobs is not None
    assert choice.logprobs.content
    assert said.usage is not None
    assert said.usage.completion_tokens == len(choice.logprobs.content)
    place.check_recorded(1)


def test_log_probabilities_that_nobody_asked_for_are_not_in_the_reply(place: Place) -> None:
    said = place.client().chat.completions.create(model="stub", messages=SAID)
    if place.recorded is not None:  # open routes touch nothing
        assert said.choices[0].logprobs is None
    place.check_recorded(1)


def test_several_choices(place: Place) -> None:
    said = place.client().chat.completions.create(model="stub", messages=SAID, n=3)
    assert [choice.index for choice in said.choices] == [0, 1, 2]
    place.check_recorded(3)


def test_text_completion(place: Place) -> None:
    said = place.client().completions.create(model="stub", prompt=[5, 6, 7], max_tokens=8)
    assert said.choices[0].text
    assert said.choices[0].finish_reason == "stop"
    place.check_recorded(1)


def test_streamed_chat(place: Place) -> None:
    stream = place.client().chat.completions.create(
        model="stub", messages=SAID, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert content.strip()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    place.check_recorded(1)


def test_streamed_helper_puts_the_same_message_together(place: Place) -> None:
    with place.client().chat.completions.stream(model="stub", messages=SAID) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    whole = place.client().chat.completions.create(model="stub", messages=SAID)
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    place.check_recorded(2)


def test_async_clients_at_once(place: Place) -> None:
    async def ask() -> list[str]:
        async with place.async_client() as client:

            async def one(seed: int) -> str:
                said = await client.chat.completions.create(model="stub", messages=SAID, seed=seed)
                return said.choices[0].message.content or ""

            async def streamed(seed: int) -> str:
                stream = await client.chat.completions.create(model="stub", messages=SAID, seed=seed, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

            return await asyncio.gather(*(one(seed) for seed in range(8)), *(streamed(seed) for seed in range(8, 16)))

    said = asyncio.run(ask())
    assert len(set(said)) == 1
    place.check_recorded(16)


def test_models(place: Place) -> None:
    assert [model.id for model in place.client().models.list()] == ["stub"]


def test_one_model(gateway: GatewayProcess) -> None:
    client = Place(f"{gateway.url}/v1").client(max_retries=0)
    assert client.models.retrieve("stub").id == "stub"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/model")


def test_faults_are_those_of_openai(place: Place) -> None:
    client = place.client(max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stub", messages=[], extra_body={"messages": 7, "stream": "yes"})
    assert caught.value.body
    with pytest.raises(openai.NotFoundError):
        client.with_options(base_url=f"{place.base_url}/nowhere").models.list()
    place.check_recorded(0)


def test_an_engines_refusal_reaches_the_client(gateway: GatewayProcess, place: Place) -> None:
    gateway.stub.spoil(Fault("status", 422, {"error": {"message": "too long", "type": "x", "param": None, "code": 1}}))
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        place.client(max_retries=0).chat.completions.create(model="stub", messages=SAID)
    assert "too long" in caught.value.message
    place.check_recorded(0)


def test_a_call_that_the_sdk_gave_up_and_asked_again_is_recorded_once(gateway: GatewayProcess, place: Place) -> None:
    before = len(gateway.stub.requests)
    gateway.stub.spoil(Fault("slow", after=2.5))
    said = place.client(max_retries=1, timeout=1.5).chat.completions.create(model="stub", messages=SAID)
    assert said.choices[0].message.content
    assert len(gateway.stub.requests) == before + 2
    place.check_recorded(1)


def test_a_refusal_that_the_sdk_asks_again_is_recorded_once(gateway: GatewayProcess, place: Place) -> None:
    before = len(gateway.stub.requests)
    gateway.stub.spoil(Fault("status", 429, {"error": {"message": "later"}}, {"Retry-After": "0"}))
    said = place.client(max_retries=2).chat.completions.create(model="stub", messages=SAID)
    assert said.choices[0].message.content
    assert len(gateway.stub.requests) == before + 2
    place.check_recorded(1)


def test_a_stream_that_broke_is_an_error(gateway: GatewayProcess, place: Place) -> None:
    gateway.stub.spoil(Fault("die", after=3))
    with pytest.raises(openai.APIError):
        list(place.client(max_retries=0).chat.completions.create(model="stub", messages=SAID, stream=True))
    place.check_recorded(0)


def test_unknown_fields_pass_both_ways(gateway: GatewayProcess, place: Place) -> None:
    said = place.client().chat.completions.create(
        model="stub", messages=SAID, extra_body={"min_p": 0.1, "vllm_xargs": {"a": [1]}}
    )
    asked = gateway.stub.requests[-1].json()
    assert (asked["min_p"], asked["vllm_xargs"]) == (0.1, {"a": [1]})
    assert asked["messages"] == SAID
    assert said.system_fingerprint == "vllm-stub"


def test_a_named_tool_reaches_the_engine(gateway: GatewayProcess, place: Place) -> None:
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    named: Any = {"type": "function", "function": {"name": "add"}}
    for choice in (named, "required", "auto"):
        place.client().chat.completions.create(model="stub", messages=SAID, tools=tools, tool_choice=choice)
        asked = gateway.stub.requests[-1].json()
        assert (asked["tools"], asked["tool_choice"]) == (tools, choice)


def test_turns_of_a_session_extend_each_other(gateway: GatewayProcess) -> None:
    uid = gateway.post("/sessions/create", {}).json()["uuid"]
    client = OpenAI(base_url=f"{gateway.url}/{uid}/v1", api_key="none")
    messages: list[Any] = list(SAID)
    for turn in range(5):
        reply = client.chat.completions.create(model="stub", messages=messages)
        messages += [reply.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": f"and {turn}"}]
    [node] = gateway.get(f"/{uid}/nodes").json()["nodes"]
    sampled = [token for token in node["masked_tokens"] if token != -100]
    assert len(sampled) == 5 * 6
    assert len(node["tokens"]) == len(node["masked_tokens"]) == len(node["logprobs"])
    assert all(
        (value == 1.0) == (token == -100) for value, token in zip(node["logprobs"], node["masked_tokens"], strict=True)
    )
    assert gateway.delete(f"/{uid}").json() == {"status": "deleted", "uuid": uid}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="stub", messages=messages)
