"""Streams: captured exactly however the bytes are cut, the end held back, the client's events as it asked for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids, unpack_floats, unpack_ids
from moorage.engines.vllm.client_event import client_event
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, EngineReported, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError
from tests.stand_ins.canned_replies import CannedReplies
from tests.unit.engines.vllm.said import TEXT, ChatRequest, Request, dump

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
ASKED = ChatRequest(stream=True)


def event(choices: list[dict[str, Any]], style: str = "compact", **fields: Any) -> bytes:
    return b"data: " + dump({"id": "x", "model": "m", "choices": choices, **fields}, style) + b"\n\n"


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], dict[str, Any]]:
    """The events of a chat stream with one or more choices, interleaved, and what they say."""
    style = draw(st.sampled_from(["compact", "spaced"]))
    prompt = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))
    count = draw(st.integers(1, 3))
    waiting: list[list[dict[str, Any]]] = []
    said: dict[str, Any] = {"prompt": prompt, "ids": [], "logprobs": [], "content": [], "n": count}
    for index in range(count):
        batches = draw(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), min_size=1, max_size=5))
        choices, content = [], ""
        for at, ids in enumerate(batches):
            text = draw(TEXT)
            content += text
            rows = [{"token": draw(TEXT), "logprob": -float(one % 97), "bytes": [1], "top_logprobs": []} for one in ids]
            last = {"finish_reason": "stop", "stop_reason": None} if at == len(batches) - 1 else {"finish_reason": None}
            delta = {"content": text} if text else {}
            choices.append({"index": index, "delta": delta, "logprobs": {"content": rows}, **last, "token_ids": ids})
        waiting.append(choices)
        said["ids"].append([one for ids in batches for one in ids])
        said["logprobs"].append([-float(one % 97) for ids in batches for one in ids])
        said["content"].append(content)
    first = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    events = [event([{"index": index, **first}], style, prompt_token_ids=prompt) for index in range(count)]
    while any(waiting):
        queue = draw(st.sampled_from([one for one in waiting if one]))
        events.append(event([queue.pop(0)], style))
    if draw(st.booleans()):
        events.insert(1, b": ping\n\n")
    usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(len(ids) for ids in said["ids"])}
    return [*events, event([], style, usage=usage), DONE], said


def cut(data: st.DataObject, raw: bytes) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


@given(st.data(), streams(), st.booleans(), st.booleans(), st.booleans())
def test_any_stream_cut_anywhere(
    data: st.DataObject, stream: tuple[list[bytes], dict[str, Any]], ids: bool, logprobs: bool, usage: bool
) -> None:
    events, said = stream
    crlf = data.draw(st.booleans())
    raw = b"".join(one.removesuffix(b"\n\n") + (b"\r\n\r\n" if crlf else b"\n\n") for one in events)
    asked = ASKED._replace(n=said["n"], return_token_ids=ids, logprobs=logprobs or None, wants_usage=usage)
    known = Known.of(pack_ids(said["prompt"][: data.draw(st.integers(0, 3))]))
    capture = CaptureStream(asked, known=known)
    given = [one for piece in cut(data, raw) for one in capture.feed(piece)]
    assert not any(b"[DONE]" in one.split(b"\n")[0] and b"{" not in one for one in given)
    ends = capture.finish()
    generation = capture.generation()
    assert unpack_ids(generation.prompt) == said["prompt"]
    assert [unpack_ids(choice.ids) for choice in generation.choices] == said["ids"]
    assert [unpack_floats(choice.logprobs) for choice in generation.choices] == said["logprobs"]
    assert [choice.message["content"] or "" for choice in generation.choices if choice.message] == said["content"]
    assert ends[-1].startswith(b"data: [DONE]")
    _check_client([*given, *ends], said, ids=ids, logprobs=logprobs, usage=usage)


def _check_client(events: list[bytes], said: dict[str, Any], *, ids: bool, logprobs: bool, usage: bool) -> None:
    got = [json.loads(one[5:]) for one in events if one.startswith(b"data: {")]
    content = [""] * said["n"]
    for one in got:
        assert (one.get("prompt_token_ids") is not None) <= ids
        for choice in one["choices"]:
            content[choice["index"]] += choice["delta"].get("content") or ""
            assert (choice.get("token_ids") is not None) <= ids
            assert choice["logprobs"] is None or logprobs
    assert content == said["content"]
    assert any("usage" in one for one in got) is usage
    assert sum(bool(choice["finish_reason"]) for one in got for choice in one["choices"]) == said["n"]


def test_the_end_is_held_back() -> None:
    reply = CannedReplies("m", prompt_ids=3, sampled=4)(CHAT, b'"stream":true')
    capture = CaptureStream(ASKED)
    given = capture.feed(b"".join(reply.chunks))
    assert len(given) == 4  # the role, and three of four tokens
    assert not any(b'"stop"' in one or b"DONE" in one for one in given)
    finish, done = capture.finish()
    assert (b'"finish_reason":"stop"' in finish, done) == (True, DONE)
    assert capture.finish() == []


def test_without_anything_taken_out_every_byte_is_as_it_was() -> None:
    reply = CannedReplies("m", prompt_ids=3, sampled=4)(CHAT, b'"stream":true')
    raw = b"".join(reply.chunks)
    for capture in (
        CaptureStream(ASKED, full_reply=True),
        CaptureStream(ASKED._replace(return_token_ids=True, logprobs=True, wants_usage=True)),
    ):
        assert b"".join([*capture.feed(raw), *capture.finish()]) == raw


@pytest.mark.parametrize("sampled", [1, 63, 64, 65, 200])
def test_a_completion_streamed(sampled: int) -> None:
    canned = CannedReplies("m", sampled=sampled)
    reply = canned("/v1/completions", b'{"prompt":[1,2,3],"stream":true}')
    capture = CaptureStream(Request(stream=True), top_logprobs=True, known=Known.of(pack_ids([1, 2])))
    events = [one for chunk in reply.chunks for one in capture.feed(chunk)] + capture.finish()
    assert not any(b'token_ids":[' in one or b"token_logprobs" in one for one in events)
    generation = capture.generation()
    (choice,) = generation.choices
    assert (unpack_ids(generation.prompt), unpack_ids(choice.ids)) == ([1, 2, 3], canned.sampled)
    assert unpack_floats(choice.logprobs) == canned.logprobs
    assert (choice.text, choice.message) == (canned.text, None)
    assert choice.top_logprobs is not None
    assert [next(iter(row.values())) for row in json.loads(bytes(choice.top_logprobs))] == canned.logprobs


def test_tool_calls_are_put_together() -> None:
    first = {"id": "c1", "type": "function", "index": 0, "function": {"name": "add"}}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning": "thi"},
        {"reasoning": "nk"},
        {"content": None, "tool_calls": [first, {"index": 0, "function": {"arguments": '{"a'}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "sub", "arguments": ""}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": '": 1}'}},
                {"index": 1, "function": {"arguments": "{}"}},
            ]
        },
    ]
    capture = CaptureStream(ASKED)
    for at, delta in enumerate(deltas):
        end = {"finish_reason": "tool_calls" if at == len(deltas) - 1 else None}
        row = {"logprobs": {"content": [{"logprob": -1.0}]}, "token_ids": [at]}
        capture.feed(event([{"index": 0, "delta": delta, **end, **row}], prompt_token_ids=[1]))
    (choice,) = capture.generation().choices
    assert choice.message == {
        "role": "assistant",
        "content": None,
        "reasoning": "think",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
        ],
    }


def chunk(ids: list[int] | None, logprobs: int = 1, end: str | None = None, **fields: Any) -> bytes:
    said = {"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [{"logprob": -1.0}] * logprobs}}
    return event([{**said, "finish_reason": end, **({} if ids is None else {"token_ids": ids})}], **fields)


FIRST = chunk([1], prompt_token_ids=[7])


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([], AbortedByEngine),
        ([FIRST], AbortedByEngine),
        ([FIRST, chunk([2], end="abort"), DONE], AbortedByEngine),
        ([chunk([1], end="stop"), DONE], EngineGaveNoIds),
        ([FIRST, chunk(None, end="stop"), DONE], EngineGaveNoIds),
        ([FIRST, chunk([2], end="stop"), event([], usage={"completion_tokens": 3}), DONE], EngineGaveNoIds),
        ([FIRST, chunk(None, end="stop"), event([], usage={"completion_tokens": 2}), DONE], EngineGaveNoIds),
        ([FIRST, chunk([2, 3], end="stop"), DONE], ShortLogprobs),
        ([FIRST, chunk([2], 2, end="stop"), DONE], ShortLogprobs),
        ([FIRST, chunk([-2], end="stop"), DONE], EngineGaveNoIds),
        ([FIRST, b'data: {"error": {"message": "out of memory"}}\n\n', DONE], EngineReported),
        ([FIRST, b'data: {"error":"x"}\n\n', DONE], EngineReported),
        ([FIRST, b"data: {nonsense\n\n", DONE], UnreadableReply),
    ],
)
def test_what_cannot_be_recorded_is_a_fault(events: list[bytes], fault: type[FailedError]) -> None:
    capture = CaptureStream(ASKED)
    for one in events:
        capture.feed(one)
    capture.finish()
    with pytest.raises(fault) as caught:
        capture.generation()
    assert caught.value.http_status == 502


def test_an_engines_error_is_raised_and_not_given_on() -> None:
    capture = CaptureStream(ASKED)
    capture.feed(FIRST)
    assert capture.feed(b'data: {"error":{"message":"out of memory"}}\n\n') == []
    with pytest.raises(EngineReported, match="out of memory"):
        capture.generation()


def test_as_far_as_it_came() -> None:
    capture = CaptureStream(ASKED)
    capture.feed(FIRST + chunk([2]) + chunk([3])[:40])
    generation = capture.generation(partial=True)
    (choice,) = generation.choices
    assert (unpack_ids(generation.prompt), unpack_ids(choice.ids), choice.finish_reason) == ([7], [1, 2], "abort")
    assert CaptureStream(ASKED).generation(partial=True).choices == ()


def test_a_last_event_without_a_blank_line_counts() -> None:
    capture = CaptureStream(ASKED)
    capture.feed(FIRST)
    capture.feed(chunk([2], end="stop").rstrip())
    assert unpack_ids(capture.generation().choices[0].ids) == [1, 2]
    assert len(capture.finish()) == 1


@pytest.mark.parametrize("raw", [b"data: {}\n\n", b"data: x\n\n", b'data: {"choices": 1}\n\n', b"event: x\n\n"])
def test_an_event_that_is_no_reply_stays_as_it_is(raw: bytes) -> None:
    assert client_event(raw, ids=True, logprobs=True) == raw


def test_the_fingerprint_that_came_with_the_usage_goes_with_the_last_event() -> None:
    reply = CannedReplies("m", prompt_ids=3, sampled=4)(CHAT, b'"stream":true')
    capture = CaptureStream(ASKED)
    capture.feed(b"".join(reply.chunks))
    finish, _ = capture.finish()
    assert json.loads(finish[5:])["system_fingerprint"] == "vllm-stub"


def test_an_event_that_only_the_gateways_question_made_is_left_out() -> None:
    empty = event([{"index": 0, "delta": {}, "logprobs": {"content": []}, "finish_reason": None, "token_ids": []}])
    assert CaptureStream(ASKED).feed(empty) == []
    assert CaptureStream(ASKED._replace(return_token_ids=True)).feed(empty) != []
