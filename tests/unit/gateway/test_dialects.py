"""However a chat stream is cut, its events say what the whole reply says; requests become the chats they stand for."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.dialects.chunks import chunks_of
from moorage.gateway.dialects.messages import reply as messages_reply
from moorage.gateway.dialects.messages.request import to_chat as messages_to_chat
from moorage.gateway.dialects.messages.stream import MessagesWriter
from moorage.gateway.dialects.responses import reply as responses_reply
from moorage.gateway.dialects.responses.request import to_chat as responses_to_chat
from moorage.gateway.dialects.responses.stream import ResponsesWriter
from moorage.gateway.http.faults import BodyWrong, Fault

TEXTS = st.text(min_size=1, max_size=12)
ENDS = st.sampled_from(["stop", "length", "tool_calls"])
ARGUMENTS = st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=3).map(json.dumps)


@st.composite
def replies(draw: st.DrawFn) -> dict[str, Any]:
    """A chat reply as vLLM gives it."""
    calls = [
        {"id": f"call_{place}", "type": "function", "function": {"name": draw(TEXTS), "arguments": draw(ARGUMENTS)}}
        for place in range(draw(st.integers(0, 3)))
    ]
    message = {
        "role": "assistant",
        "reasoning": draw(st.none() | TEXTS),
        "content": draw(st.none() | TEXTS),
        "tool_calls": calls,
    }
    choice = {"index": 0, "message": message, "finish_reason": draw(ENDS), "stop_reason": None}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice], "usage": usage}


@st.composite
def cut(draw: st.DrawFn, reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The same reply as chunks, cut anywhere."""

    def pieces(text: str) -> list[str]:
        at = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
        return [text[begin:end] for begin, end in zip([0, *at], [*at, len(text)], strict=True) if text[begin:end]]

    choice = reply["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"reasoning": piece} for piece in pieces(message["reasoning"] or "")]
    deltas += [{"content": piece} for piece in pieces(message["content"] or "")]
    for index, call in enumerate(message["tool_calls"]):
        first, *rest = pieces(call["function"]["arguments"]) or [""]
        named = {**call, "index": index, "function": {**call["function"], "arguments": first}}
        deltas.append({"tool_calls": [named]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in rest]
    head = {name: reply[name] for name in ("id", "created", "model")}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"], "stop_reason": None}
    return [*chunks, {**head, "choices": [end]}, {**head, "choices": [], "usage": reply["usage"]}]


def data_of(events: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        name, _, data = event.strip().partition(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + said["type"].encode()
        found.append(said)
    return found


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client of Anthropic's makes of its events."""
    message: dict[str, Any] = events[0]["message"]
    inputs: dict[int, str] = {}
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(message["content"]) - 1
            block, delta = message["content"][-1], event["delta"]
            if delta["type"] == "input_json_delta":
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            else:
                kind = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
                block[kind[delta["type"]]] += delta[kind[delta["type"]]]
        elif event["type"] == "message_delta":
            message |= event["delta"]
            message["usage"] = event["usage"]
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    return message


@given(st.data())
def test_a_message_streamed_is_the_message_whole(data: st.DataObject) -> None:
    reply = data.draw(replies())
    writer = MessagesWriter({"model": "m"})
    events = [event for chunk in data.draw(cut(reply)) for event in writer.feed(chunk)]
    told = data_of([*events, *writer.end()])
    assert told[-1]["type"] == "message_stop"
    assert put_together(told) == messages_reply.whole(reply, {"model": "m"})


@given(st.data())
def test_a_response_streamed_is_the_response_whole(data: st.DataObject) -> None:
    reply = data.draw(replies())
    writer = ResponsesWriter({"model": "m"})
    events = [event for chunk in data.draw(cut(reply)) for event in writer.feed(chunk)]
    told = data_of([*events, *writer.end()])
    whole = responses_reply.whole(reply, {"model": "m"})
    assert told[-1]["response"] == whole
    assert told[-1]["type"] == f"response.{whole['status']}"
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == whole["output"]


@given(st.lists(st.integers(0, 30), max_size=6))
def test_frames_are_read_however_they_are_cut(cuts: list[int]) -> None:
    text = b'data: {"a":1}\n\n: note\n\nevent: x\r\ndata: {"b":"\\n"}\r\n\r\ndata: [DONE]\n\n'
    places = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]

    async def frames() -> AsyncGenerator[bytes, None]:
        for begin, end in itertools.pairwise(places):
            yield text[begin:end]

    async def main() -> list[Any]:
        return [chunk async for chunk in chunks_of(frames())]

    assert asyncio.run(main()) == [{"a": 1}, {"b": "\n"}, None]


USER = {"role": "user", "content": "?"}


@pytest.mark.parametrize(
    ("asked", "chat"),
    [
        (
            {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            [{"role": "system", "content": "a\nb"}, USER],
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "It is"}]},
            [USER, {"role": "assistant", "content": "It is"}],
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "first"},
                            {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "2"}]},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                        ],
                    },
                ]
            },
            [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                    ],
                },
                {"role": "user", "content": "first"},
                {"role": "tool", "tool_call_id": "1", "content": "2"},
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
                },
            ],
        ),
    ],
)
def test_messages_become_a_chat(asked: dict[str, Any], chat: list[Any]) -> None:
    made = messages_to_chat({"model": "m", "messages": [USER], **asked})
    assert made["messages"] == chat
    assert made.get("continue_final_message") is (True if chat[-1]["role"] == "assistant" else None)


def test_what_has_another_name_in_a_chat() -> None:
    made = messages_to_chat(
        {
            "messages": [USER],
            "max_tokens": 5,
            "top_k": 3,
            "stop_sequences": ["x"],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "disabled"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            "metadata": {"user_id": "u"},
            "seed": 4,
        }
    )
    schema = {"name": "output", "schema": {"type": "object"}}
    assert made == {
        "model": None,
        "messages": [USER],
        "max_tokens": 5,
        "top_k": 3,
        "stop": ["x"],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "seed": 4,
    }


def test_items_in_a_row_are_one_turn() -> None:
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "so", "annotations": []}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "2"},
        {"role": "assistant", "content": "two"},
        {"role": "assistant", "content": "really"},
    ]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert responses_to_chat({"input": items})["messages"] == [
        USER,
        {"role": "assistant", "content": "so", "reasoning": "hm", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
        {"role": "assistant", "content": "two"},
        {"role": "assistant", "content": "really"},
    ]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "input", "messages", "tools", "system"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_body_is_a_chat_or_a_fault(value: Any) -> None:
    for to_chat, name in ((messages_to_chat, "messages"), (responses_to_chat, "input")):
        for body in ({name: value}, {name: [value]}, {"tools": value, name: [USER]}, {"text": value, name: [USER]}):
            try:
                assert isinstance(to_chat(body)["messages"], list)
            except (BodyWrong, Fault) as fault:
                assert fault.message
