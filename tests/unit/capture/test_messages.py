"""When two messages are the same one: what clients change on the way, and what they must not."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.messages import START, loose_key, message_key, read_conversation, reasoning_of, tools_digest


def call(name: str, arguments: object, **more: object) -> dict[str, object]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def said(content: object = "", **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **more}


SAME = {
    "null content is empty": (said(None), said("")),
    "no content is empty": ({"role": "assistant"}, said("")),
    "no parts are empty": (said([]), said("")),
    "one text part": (said([{"type": "text", "text": "hi"}]), said("hi")),
    "text parts are joined": (
        said([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]),
        said("ab"),
    ),
    "bare strings are text parts": (said(["a", "b"]), said("ab")),
    "call ids": (said(tool_calls=[call("f", "{}")]), said(tool_calls=[call("f", "{}", id="other", index=0)])),
    "tool_call_id": ({"role": "tool", "content": "1", "tool_call_id": "a"}, {"role": "tool", "content": "1"}),
    "order of arguments": (
        said(tool_calls=[call("f", '{"a":1,"b":2}')]),
        said(tool_calls=[call("f", '{"b":2,"a":1}')]),
    ),
    "order inside arguments": (
        said(tool_calls=[call("f", '{"a":[{"x":1,"y":2}]}')]),
        said(tool_calls=[call("f", '{"a":[{"y":2,"x":1}]}')]),
    ),
    "spaces in arguments": (said(tool_calls=[call("f", '{"a":1}')]), said(tool_calls=[call("f", '{ "a" : 1 }\n')])),
    "escapes in arguments": (
        said(tool_calls=[call("f", '{"a":"é"}')]),
        said(tool_calls=[call("f", '{"a":"\\u00e9"}')]),
    ),
    "arguments as an object": (said(tool_calls=[call("f", '{"a":1}')]), said(tool_calls=[call("f", {"a": 1})])),
    "no calls": (said("x", tool_calls=[]), said("x")),
    "null calls": (said("x", tool_calls=None), said("x")),
    "reasoning": (said("x", reasoning_content="think"), said("x")),
    "reasoning under its other name": (said("x", reasoning="think"), said("x", reasoning_content="other")),
    "what the SDK dumps": (said("x"), said("x", refusal=None, annotations=[], audio=None, function_call=None)),
    "empty name": (said("x", name=None), said("x", name="")),
}

DIFFERENT = {
    "role": ({"role": "user", "content": "x"}, {"role": "system", "content": "x"}),
    "content": (said("x"), said("y")),
    "trailing space": (said("x"), said("x ")),
    "normal form": (said("é"), said("e\u0301")),
    "line ends": (said("a\nb"), said("a\r\nb")),
    "name": (said("x", name="a"), said("x", name="b")),
    "call or none": (said(), said(tool_calls=[call("f", "{}")])),
    "function": (said(tool_calls=[call("f", "{}")]), said(tool_calls=[call("g", "{}")])),
    "argument": (said(tool_calls=[call("f", '{"a":1}')]), said(tool_calls=[call("f", '{"a":2}')])),
    "int or float": (said(tool_calls=[call("f", '{"a":1}')]), said(tool_calls=[call("f", '{"a":1.0}')])),
    "large numbers": (
        said(tool_calls=[call("f", "123456789012345678901234567890")]),
        said(tool_calls=[call("f", "123456789012345678901234567891")]),
    ),
    "null or nothing": (said(tool_calls=[call("f", '{"a":null}')]), said(tool_calls=[call("f", "{}")])),
    "no JSON": (said(tool_calls=[call("f", '{"a":')]), said(tool_calls=[call("f", '{"a": ')])),
    "JSON text and the same raw": (said(tool_calls=[call("f", '"x"')]), said(tool_calls=[call("f", "x")])),
    "order of calls": (
        said(tool_calls=[call("f", "{}"), call("g", "{}")]),
        said(tool_calls=[call("g", "{}"), call("f", "{}")]),
    ),
    "one call or two": (said(tool_calls=[call("f", "{}")]), said(tool_calls=[call("f", "{}"), call("f", "{}")])),
    "an older function call": (said(), said(function_call={"name": "f", "arguments": "{}"})),
    "another image": (
        said([{"type": "image_url", "image_url": {"url": "a"}}]),
        said([{"type": "image_url", "image_url": {"url": "b"}}]),
    ),
    "where the image stands": (
        said([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "a"}}]),
        said([{"type": "image_url", "image_url": {"url": "a"}}, {"type": "text", "text": "x"}]),
    ),
    "a part and its JSON as text": (said([{"type": "input_audio"}]), said('[{"type":"input_audio"}]')),
}

LOOSELY_SAME = {
    "outer white space": (said("x"), said(" \n x\t\n")),
    "normal form": (said("caf\u00e9"), said("cafe\u0301")),
    "line ends": (said("a\nb"), said("a\r\nb")),
    "white space in a part": (
        said([{"type": "text", "text": " x"}, {"type": "image_url", "image_url": {}}]),
        said([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]),
    ),
    "normal form of arguments": (
        said(tool_calls=[call("f", '{"é":"é"}')]),
        said(tool_calls=[call("f", '{"e\u0301":"e\u0301"}')]),
    ),
    "white space around what is no JSON": (
        said(tool_calls=[call("f", "{oops ")]),
        said(tool_calls=[call("f", "{oops")]),
    ),
}

LOOSELY_DIFFERENT = {
    "inner white space": (said("a b"), said("a  b")),
    "letters": (said("x"), said("X")),
    "compatibility forms": (said("\ufb01"), said("fi")),
    "white space inside an argument": (
        said(tool_calls=[call("f", '{"a":"x"}')]),
        said(tool_calls=[call("f", '{"a":"x "}')]),
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_message(one, other):
    assert message_key(START, one) == message_key(START, other)
    assert loose_key(START, one) == loose_key(START, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_message(one, other):
    assert message_key(START, one) != message_key(START, other)


@pytest.mark.parametrize(("one", "other"), LOOSELY_SAME.values(), ids=LOOSELY_SAME)
def test_loosely_the_same(one, other):
    assert message_key(START, one) != message_key(START, other)
    assert loose_key(START, one) == loose_key(START, other)


@pytest.mark.parametrize(("one", "other"), LOOSELY_DIFFERENT.values(), ids=LOOSELY_DIFFERENT)
def test_not_even_loosely_the_same(one, other):
    assert loose_key(START, one) != loose_key(START, other)


def test_text_that_looks_like_a_placeholder_is_text():
    """Atropos puts think tags back where a user wrote its placeholder."""
    assert message_key(START, said("__MNGD_THINK__")) != message_key(START, said("<think>"))


def test_keys_are_chained():
    one, two = {"role": "user", "content": "a"}, said("b")
    conversation = read_conversation([one, two])
    assert conversation.keys == [message_key(START, one), message_key(message_key(START, one), two)]
    assert read_conversation([two, one]).keys[-1] != conversation.keys[-1]
    assert read_conversation([]).keys == []


def test_two_messages_are_not_their_texts_joined():
    apart = read_conversation([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert apart.keys[-1] != read_conversation([{"role": "user", "content": "ab"}]).keys[-1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(max_size=6) | st.sampled_from([" a ", "a\r\nb", "e\u0301", "\u00e9", "\ud800"])
CONTENTS = TEXTS | st.none() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=3)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": CONTENTS},
    optional={"tool_calls": st.lists(st.builds(call, st.sampled_from("fg"), TEXTS | JSON.map(json.dumps)), max_size=2)},
)


@given(st.lists(MESSAGES, max_size=5), st.integers(0, 5))
def test_known_messages_need_not_be_read_again(messages, known):
    whole = read_conversation(messages)
    head, tail = messages[:known], messages[known:]
    after = (whole.keys[len(head) - 1], whole.loose_keys[len(head) - 1]) if head else (START, START)
    rest = read_conversation(tail, after=after)
    assert rest.keys == whole.keys[len(head) :]
    assert rest.loose_keys == whole.loose_keys[len(head) :]
    assert rest.messages == tail


@given(st.lists(MESSAGES, max_size=4))
def test_the_lists_agree_with_the_single_keys(messages):
    conversation = read_conversation(messages)
    key = loose = START
    for at, message in enumerate(messages):
        key, loose = message_key(key, message), loose_key(loose, message)
        assert (conversation.keys[at], conversation.loose_keys[at]) == (key, loose)


@given(MESSAGES)
def test_the_same_message_is_loosely_the_same(message):
    """A message in its loose form has one key: strict and loose matches of it are the same one."""
    content = message["content"]
    if isinstance(content, str) and not message.get("tool_calls"):
        plain = unicodedata.normalize("NFC", content).replace("\r\n", "\n").replace("\r", "\n").strip()
        relaxed = {**message, "content": plain}
        assert loose_key(START, message) == loose_key(START, relaxed) == message_key(START, relaxed)


@given(st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls", "function_call"]), JSON))
def test_any_object_has_keys(message):
    assert len(message_key(START, message)) == len(loose_key(START, message)) == 16


@pytest.mark.parametrize(
    "calls",
    [
        ["f"],
        [None],
        [{"function": None}],
        [{"function": "f"}],
        [["f", True, {}]],
        [[]],
        {"a": 1},
        "f",
        [{"function": {}}],
    ],
)
def test_calls_of_another_shape_have_keys_of_their_own(calls):
    assert message_key(START, said(tool_calls=calls)) != message_key(START, said())
    assert len(loose_key(START, said(tool_calls=calls))) == 16


def test_deep_arguments_are_taken_as_text():
    deep = "[" * 100_000 + "]" * 100_000
    assert message_key(START, said(tool_calls=[call("f", deep)])) != message_key(
        START, said(tool_calls=[call("f", "[]")])
    )


def test_tools_have_a_digest_whatever_the_order_of_their_keys():
    one = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    other = [{"function": {"parameters": {"type": "object"}, "name": "f"}, "type": "function"}]
    assert tools_digest(one) == tools_digest(other) != b""
    assert tools_digest([*one, *one]) != tools_digest(one)
    assert tools_digest(None) == tools_digest([]) == b""


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        (said("x"), None),
        (said("x", reasoning=""), None),
        (said("x", reasoning=None, reasoning_content="why"), "why"),
        (said("x", reasoning="why"), "why"),
        (said("x", reasoning={"text": "why"}), None),
        (said("<think>why</think>x"), None),
    ],
)
def test_reasoning(message, reasoning):
    assert reasoning_of(message) == reasoning
