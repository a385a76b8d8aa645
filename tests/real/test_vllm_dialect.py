"""Stock vLLM says what `moorage.engines.vllm` reads, and the stub engine says it in the same places."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from moorage.capture.packing import count, pack_ids, unpack_floats, unpack_ids
from moorage.engines.contract import Generation
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.upstreams import from_urls
from moorage.engines.vllm.ask import capture_body, tokens_body
from moorage.engines.vllm.generate import PATH as GENERATE
from moorage.engines.vllm.generate import generate_body
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import client_reply, read_chat, read_completion, read_generate
from moorage.engines.vllm.stream import CaptureStream
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk, ModelAsk
from tests.real.parts.nano_b import NANO
from tests.stand_ins.small_engine import SmallEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOOL = {
    "name": "calculator",
    "description": "computes",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}
SUM = {"messages": [{"role": "user", "content": "What is 12 + 30?"}], "max_tokens": 90, "temperature": 0}
ASKS: dict[str, dict[str, Any]] = {
    "thinking": SUM,
    "a tool": {**SUM, "tools": [{"type": "function", "function": TOOL}], "tool_choice": "auto"},
    "cut short": {**SUM, "max_tokens": 5},
    "a stop string": {**SUM, "stop": ["ones"]},
    "one token": {**SUM, "max_tokens": 1},
    "log probabilities": {**SUM, "logprobs": True, "top_logprobs": 2},
    "ids": {**SUM, "return_token_ids": True},
    "hot": {**SUM, "temperature": 1.5, "seed": 5, "n": 3},
    "unicode": {
        **SUM,
        "messages": [{"role": "user", "content": 'Say "😀 \\ \u2028" ]}],"token_ids":[1]'}],
        "temperature": 1,
    },
}
MADE_ANEW = re.compile(rb'"id":"[^"]*"|"created":\d+|chatcmpl-tool-[0-9a-f]+')


@pytest.fixture
def run(nano_engine: str) -> Callable[[Callable[[Fleet], Awaitable[Any]]], Any]:
    """Run a body with a fleet of this one engine."""

    def runner(body: Callable[[Fleet], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            fleet = Fleet(from_urls(nano_engine), clock=time.monotonic, silence_s=120)
            await fleet.start()
            try:
                return await body(fleet)
            finally:
                await fleet.close()

        return asyncio.run(main())

    return runner


def decoded(path: str, request: dict[str, Any]) -> tuple[bytes, ChatAsk | CompletionAsk]:
    raw = json.dumps(request).encode()
    if path == CHAT:
        return raw, msgspec.json.decode(raw, type=ChatAsk)
    return raw, msgspec.json.decode(raw, type=CompletionAsk)


async def whole(fleet: Fleet, path: str, request: dict[str, Any]) -> tuple[Generation, bytes]:
    """What was captured of an unstreamed call, and what its client gets."""
    raw, ask = decoded(path, request)
    _, answer = await fleet.ask(path, lambda state: capture_body(raw, ask, state.name_for(None)))
    assert answer.status == 200, answer.body
    read = read_chat if path == CHAT else read_completion
    tops = bool(request.get("top_logprobs"))
    return read(answer.body, top_logprobs=tops), client_reply(answer.body, ask)


async def streamed(fleet: Fleet, path: str, request: dict[str, Any]) -> tuple[Generation, bytes]:
    """The same, streamed."""
    raw, ask = decoded(path, {**request, "stream": True})
    _, answer = await fleet.open(path, lambda state: capture_body(raw, ask, state.name_for(None)))
    assert answer.status == 200
    capture = CaptureStream(ask, top_logprobs=bool(request.get("top_logprobs")))
    events = [event async for piece in answer.chunks() for event in capture.feed(piece)]
    events += capture.finish()
    return capture.generation(), b"".join(events)


async def untouched(fleet: Fleet, path: str, request: dict[str, Any]) -> bytes:
    """What the engine says to the client's own request."""
    _, answer = await fleet.ask(path, lambda state: json.dumps({"model": "nano", **request}).encode())
    assert answer.status == 200, answer.body
    return answer.body


async def tokenized(fleet: Fleet, request: dict[str, Any]) -> list[int]:
    fields = {name: request[name] for name in ("messages", "tools") if name in request}
    _, answer = await fleet.ask("/tokenize", lambda state: json.dumps({"model": "nano", **fields}).encode())
    ids: list[int] = json.loads(answer.body)["tokens"]
    return ids


def same(raw: bytes) -> bytes:
    """Without what is made anew for each reply."""
    return MADE_ANEW.sub(b"", raw)


@pytest.mark.parametrize("name", ASKS)
def test_ids_and_log_probabilities_streamed_or_not(run: Any, name: str) -> None:
    request = ASKS[name]

    async def body(fleet: Fleet) -> tuple[Generation, Generation, list[int]]:
        first, second = await whole(fleet, CHAT, request), await streamed(fleet, CHAT, request)
        return first[0], second[0], await tokenized(fleet, request)

    first, second, prompt = run(body)
    assert unpack_ids(first.prompt) == unpack_ids(second.prompt) == prompt
    assert first.usage is not None
    assert sum(count(choice.ids) for choice in first.choices) == first.usage["completion_tokens"]
    assert [choice.index for choice in first.choices] == list(range(request.get("n", 1)))
    for choice in (*first.choices, *second.choices):
        assert 0 < count(choice.ids) <= request["max_tokens"]
        assert len(choice.logprobs) == 2 * len(choice.ids)
        assert all(-50 < value <= 0 for value in unpack_floats(choice.logprobs))
        if request.get("top_logprobs"):
            assert choice.top_logprobs is not None
            rows = json.loads(bytes(choice.top_logprobs))
            assert [len(row["top_logprobs"]) for row in rows] == [2] * count(choice.ids)
    if request["temperature"] == 0:
        assert [choice.ids for choice in first.choices] == [choice.ids for choice in second.choices]
        assert [choice.finish_reason for choice in first.choices] == [choice.finish_reason for choice in second.choices]
        assert [choice.stop_reason for choice in first.choices] == [choice.stop_reason for choice in second.choices]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [name for name, request in ASKS.items() if request["temperature"] == 0])
def test_the_client_gets_byte_for_byte_what_it_would_get_from_the_engine(run: Any, name: str, stream: bool) -> None:
    request = ASKS[name]

    async def body(fleet: Fleet) -> tuple[bytes, bytes]:
        if stream:
            return (await streamed(fleet, CHAT, request))[1], await untouched(fleet, CHAT, {**request, "stream": True})
        return (await whole(fleet, CHAT, request))[1], await untouched(fleet, CHAT, request)

    captured, plain = run(body)
    if stream:
        # The engine cuts a stream into events as its steps fall, and cuts differently when log probabilities are asked
        # for: what the events say together is the same.
        assert _joined(captured) == _joined(plain)
        assert captured.count(b"[DONE]") == 1
        return
    assert same(captured) == same(plain)


def _joined(raw: bytes) -> dict[str, Any]:
    """All that a stream says, put together, and every name that is used."""
    said: dict[str, Any] = {"names": set(), "logprobs": []}
    for event in raw.split(b"\n\n"):
        if not event.startswith(b"data: {"):
            continue
        fields = json.loads(event[6:])
        said["names"] |= set(fields)
        for choice in fields["choices"]:
            said["names"] |= set(choice)
            said["end"] = choice["finish_reason"] or said.get("end")
            for row in (choice["logprobs"] or {}).get("content") or ():
                said["logprobs"].append(row["token"])
            for name, text in choice["delta"].items():
                if isinstance(text, str):
                    said[name] = said.get(name, "") + text
                elif name == "tool_calls":
                    said["arguments"] = said.get("arguments", "") + "".join(
                        call["function"].get("arguments") or "" for call in text
                    )
    return said


def test_a_message_is_put_together_as_the_engine_would_say_it(run: Any) -> None:
    async def body(fleet: Fleet) -> list[tuple[Any, Any]]:
        return [
            ((await whole(fleet, CHAT, ASKS[name]))[0], (await streamed(fleet, CHAT, ASKS[name]))[0])
            for name in ("thinking", "a tool", "cut short")
        ]

    for first, second in run(body):
        one, other = first.choices[0].message, second.choices[0].message
        assert (one["content"] or "").strip() == (other["content"] or "").strip()
        assert one.get("reasoning") == other.get("reasoning")
        calls = [[call["function"] for call in message.get("tool_calls", ())] for message in (one, other)]
        assert calls[0] == calls[1]


class TestTokens:
    def test_from_ids_the_engine_says_the_same_as_from_messages(self, run: Any) -> None:
        async def body(fleet: Fleet) -> None:
            chat, _ = await whole(fleet, CHAT, SUM)
            raw = json.dumps(SUM).encode()
            known = Known.of(chat.prompt)
            _, answer = await fleet.ask(COMPLETIONS, lambda state: tokens_body(raw, known, model=state.name_for(None)))
            completion = read_completion(answer.body, known=known)
            assert completion.prompt == chat.prompt
            assert completion.choices[0].ids == chat.choices[0].ids
            assert completion.choices[0].logprobs == chat.choices[0].logprobs

            stream = json.dumps({**SUM, "stream": True}).encode()
            asked = CompletionAsk(prompt=[1], stream=True)
            _, opened = await fleet.open(COMPLETIONS, lambda state: tokens_body(stream, known, model="nano"))
            capture = CaptureStream(asked, known=known)
            async for piece in opened.chunks():
                capture.feed(piece)
            assert capture.generation().choices[0].ids == chat.choices[0].ids
            assert capture.generation().prompt == chat.prompt

            _, answer = await fleet.ask(GENERATE, lambda state: generate_body(raw, known, model="nano"))
            generated = read_generate(answer.body, chat.prompt)
            (choice,) = generated.choices
            assert (choice.ids, choice.logprobs) == (chat.choices[0].ids, chat.choices[0].logprobs)
            assert [(span.start, span.end) for span in choice.spans] == [(0, count(choice.ids))]

        run(body)

    def test_a_second_turn_carries_the_sampled_ids_on(self, run: Any) -> None:
        async def body(fleet: Fleet) -> None:
            first, _ = await whole(fleet, CHAT, SUM)
            prompt = first.prompt + first.choices[0].ids + pack_ids([198])
            raw = json.dumps({**SUM, "max_tokens": 8, "top_logprobs": 2, "logprobs": True}).encode()
            _, answer = await fleet.ask(COMPLETIONS, lambda state: tokens_body(raw, prompt, model="nano"))
            second = read_completion(answer.body, top_logprobs=True)
            assert second.prompt == prompt
            assert second.choices[0].top_logprobs is not None
            rows = json.loads(bytes(second.choices[0].top_logprobs))
            for token, row in zip(unpack_ids(second.choices[0].ids), rows, strict=True):
                assert f"token_id:{token}" in row
                assert len(row) >= 2

        run(body)

    def test_echo_repeats_the_prompt_and_samples_stay_apart(self, run: Any) -> None:
        async def body(fleet: Fleet) -> None:
            request = {"prompt": [10, 20, 30], "max_tokens": 4, "temperature": 0}
            plain, _ = await whole(fleet, COMPLETIONS, request)
            echoed, _ = await whole(fleet, COMPLETIONS, {**request, "echo": True})
            assert (echoed.prompt, echoed.choices[0].ids) == (plain.prompt, plain.choices[0].ids)
            assert echoed.choices[0].logprobs == plain.choices[0].logprobs

        run(body)


class TestEndings:
    def test_an_error_is_the_engines_own(self, run: Any) -> None:
        async def body(fleet: Fleet) -> None:
            for request, status in (({**SUM, "model": "none"}, 404), ({**SUM, "max_tokens": 10**6}, 400), ({}, 400)):
                state, answer = await fleet.ask(CHAT, lambda state, said=request: json.dumps(said).encode())
                assert (answer.status, "message" in json.loads(answer.body)["error"]) == (status, True)
                assert state.healthy

        run(body)

    @pytest.mark.parametrize("stream", [False, True])
    def test_who_leaves_stops_the_engine(self, run: Any, stream: bool) -> None:
        long = {**SUM, "max_tokens": 1900, "ignore_eos": True, "stream": stream}
        raw = json.dumps({"model": "nano", **long}).encode()

        async def running(fleet: Fleet) -> int:
            _, answer = await fleet.ask("/metrics", lambda state: b"", method="GET")
            found = re.search(rb"^vllm:num_requests_running\{[^}]*\} ([0-9.]+)", answer.body, re.M)
            assert found is not None
            return int(float(found[1]))

        async def body(fleet: Fleet) -> None:
            if stream:
                _, answer = await fleet.open(CHAT, lambda state: raw)
                async for _ in answer.chunks():
                    async with asyncio.timeout(60):
                        while await running(fleet) == 0:  # its figures come a moment after its first words
                            pass
                    break
                answer.abort()
            else:
                task = asyncio.create_task(fleet.ask(CHAT, lambda state: raw))
                async with asyncio.timeout(60):
                    while await running(fleet) == 0:
                        assert not task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            began = time.monotonic()
            async with asyncio.timeout(30):
                while await running(fleet):
                    pass
            assert time.monotonic() - began < 10  # it stopped because of us, not because it was done
            assert fleet.states()[0].in_flight == 0

        run(body)


class TestTheStub:
    """The stand-in answers with the same names in the same order, so tests with it show what they seem to."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    @pytest.mark.parametrize("asks", [{}, {"logprobs": 1, "return_token_ids": True}])
    def test_shapes(self, run: Any, path: str, stream: bool, asks: dict[str, Any]) -> None:
        stub = SmallEngine(NANO, model="nano")
        request = {"model": "nano", "max_tokens": 3, "temperature": 0, "stream": stream, **asks}
        request |= {"messages": SUM["messages"]} if path == CHAT else {"prompt": "12 + 30"}
        request |= {"stream_options": {"include_usage": True}} if stream else {}
        if path == CHAT and "logprobs" in asks:
            request["logprobs"] = True
        stub.say.append("<think>\nones")
        pretended = stub(path, json.dumps(request).encode())

        async def body(fleet: Fleet) -> bytes:
            return await untouched(fleet, path, request)

        real = run(body)
        if not stream:
            assert _names(json.loads(pretended.body)) == _names(json.loads(real))
            return
        shapes = [
            {str(_names(json.loads(event[6:]))) for event in raw.split(b"\n\n") if event.startswith(b"data: {")}
            for raw in (b"".join(pretended.chunks), real)
        ]
        assert shapes[0] <= shapes[1]  # it says at the end what a model says bit by bit

    def test_the_same_prompt_ids(self, run: Any) -> None:
        stub = SmallEngine(NANO, model="nano")
        called = {"id": "c", "type": "function", "function": {"name": "calculator", "arguments": '{"a": 1, "b": 2}'}}
        conversation = [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c", "content": "3"},
        ]
        requests = [SUM, ASKS["a tool"], {**ASKS["a tool"], "messages": conversation}]

        async def body(fleet: Fleet) -> list[list[int]]:
            return [unpack_ids((await whole(fleet, CHAT, request))[0].prompt) for request in requests]

        assert run(body) == [stub.prompt_of(request) for request in requests]


def _names(value: Any) -> Any:
    """The names in their order, all the way down; of a list its first item; of texts and numbers nothing."""
    if isinstance(value, dict):
        return [(name, _names(inner)) for name, inner in value.items() if name not in ("usage", "logprobs", "delta")]
    return [_names(value[0])] if isinstance(value, list) and value else None


def test_the_gateways_requests_are_what_the_dialect_takes() -> None:
    assert issubclass(ChatAsk, ModelAsk)
    assert issubclass(CompletionAsk, ModelAsk)
