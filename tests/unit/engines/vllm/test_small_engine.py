"""The dialect against the small engine: a real tokenizer and template, every kind of request, streamed and not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorage.capture.packing import pack_ids, unpack_floats, unpack_ids
from moorage.engines.contract import Generation
from moorage.engines.vllm.ask import capture_body, tokens_body
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, ShortLogprobs
from moorage.engines.vllm.generate import generate_body
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import client_reply, read_chat, read_completion, read_generate
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError
from tests.real.parts.nano_b import NANO
from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply
from tests.unit.engines.vllm.said import ChatRequest, Request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOOL = {"type": "function", "function": {"name": "calculator"}}
CALLING = '<think>\nx\n</think>\n\n<tool_call>\n{"name": "calculator", "arguments": {"a": 1}}\n</tool_call>'
SUM = {"messages": [{"role": "user", "content": "2 + 3?"}]}


@pytest.fixture(scope="module")
def engine() -> SmallEngine:
    return SmallEngine(NANO, model="m", scale_out=True)


def captured(
    engine: SmallEngine, request: dict[str, Any], say: str | None, *, stream: bool
) -> tuple[Generation, bytes]:
    """What is read of a chat, and what its client gets."""
    engine.say.extend([say] * request.get("n", 1) if say is not None else [])
    raw = json.dumps({**request, "stream": stream}).encode()
    asked = ChatRequest(stream=stream, n=request.get("n"))
    reply = engine(CHAT, capture_body(raw, asked, "m"))
    assert reply.status == 200, reply.body
    if not stream:
        return read_chat(reply.body), client_reply(reply.body, asked)
    capture = CaptureStream(asked)
    given = [event for chunk in reply.chunks for event in capture.feed(chunk)] + capture.finish()
    return capture.generation(), b"".join(given)


@pytest.mark.parametrize(
    ("extra", "say"),
    [
        ({}, None),
        ({}, "Hällo 🎉 wörld"),
        ({}, ""),
        ({"stop": "wör"}, "Hällo 🎉 wörld"),
        ({"max_tokens": 2}, "one two three four"),
        ({"tools": [TOOL]}, CALLING),
        ({"tools": [TOOL]}, "<think>\nonly a thought\n</think>"),
        ({"n": 3, "seed": 1}, None),
    ],
)
def test_streamed_or_not_the_same_is_recorded(engine: SmallEngine, extra: dict[str, Any], say: str | None) -> None:
    request = {**SUM, **extra}
    (first, whole), (second, streamed) = (captured(engine, request, say, stream=stream) for stream in (False, True))
    assert unpack_ids(first.prompt) == unpack_ids(second.prompt) == engine.prompt_of(request)
    for one, other in zip(first.choices, second.choices, strict=True):
        assert (one.ids, one.logprobs, one.finish_reason) == (other.ids, other.logprobs, other.finish_reason)
        assert one.stop_reason == other.stop_reason
        assert one.message is not None
        assert other.message is not None
        assert (one.message["content"] or "") == (other.message["content"] or "")
        assert one.message.get("reasoning") == other.message.get("reasoning")
        calls = [[call["function"] for call in said.get("tool_calls", ())] for said in (one.message, other.message)]
        assert calls[0] == calls[1]
    for given in (whole, streamed):
        assert b'"token_ids":[' not in given
        assert b'"logprobs":{' not in given


def test_tokens_in_tokens_out_is_the_chat(engine: SmallEngine) -> None:
    chat, _ = captured(engine, SUM, None, stream=False)
    known, raw = Known.of(chat.prompt), json.dumps(SUM).encode()
    completion = read_completion(
        engine(COMPLETIONS, tokens_body(raw, known, model="m", max_tokens=99)).body, known=known
    )
    generated = read_generate(
        engine("/inference/v1/generate", generate_body(raw, known, model="m", max_tokens=99)).body, chat.prompt
    )
    for other in (completion, generated):
        assert other.prompt == chat.prompt
        assert other.choices[0].ids == chat.choices[0].ids
        assert other.choices[0].logprobs == chat.choices[0].logprobs
    assert completion.choices[0].text == chat.choices[0].message["content"]  # type: ignore[index]


def test_alternatives_are_named_by_id(engine: SmallEngine) -> None:
    raw = json.dumps({**SUM, "logprobs": True, "top_logprobs": 2}).encode()
    body = engine(COMPLETIONS, tokens_body(raw, pack_ids([1, 2]), model="m", max_tokens=9)).body
    (choice,) = read_completion(body, top_logprobs=True).choices
    assert choice.top_logprobs is not None
    rows = json.loads(bytes(choice.top_logprobs))
    expected = zip(unpack_ids(choice.ids), unpack_floats(choice.logprobs), strict=True)
    assert rows == [{f"token_id:{token}": value} for token, value in expected]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("no_ids", EngineGaveNoIds), ("short_logprobs", ShortLogprobs), ("abort", AbortedByEngine)],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [False, True])
def test_spoiled_replies(engine: SmallEngine, path: str, stream: bool, kind: str, fault: type[FailedError]) -> None:
    request = {**SUM, "stream": stream} if path == CHAT else {"prompt": "x", "stream": stream}
    asked = (ChatRequest if path == CHAT else Request)(stream=stream)
    reply: StubReply = engine(path, capture_body(json.dumps(request).encode(), asked, None)).spoiled(kind)
    with pytest.raises(fault):
        if stream:
            capture = CaptureStream(asked)
            for chunk in reply.chunks:
                capture.feed(chunk)
            capture.generation()
        else:
            (read_chat if path == CHAT else read_completion)(reply.body)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, b"{", 400),
        (CHAT, b"[]", 400),
        (CHAT, b'{"messages": []}', 400),
        (CHAT, b'{"model": "other", "messages": [{"role": "user", "content": "x"}]}', 404),
        (CHAT, b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000000}', 400),
        (COMPLETIONS, b'{"prompt": []}', 400),
        (COMPLETIONS, b'{"prompt": [100000]}', 400),
        ("/v1/nothing", b"{}", 404),
    ],
)
def test_what_the_small_engine_refuses(engine: SmallEngine, path: str, body: bytes, status: int) -> None:
    assert engine(path, body).status == status
