"""Reading what is new of a request gives what reading it whole gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.retry import begin
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import sampling_of
from moorage.gateway.turns.reading import ChatRead, Memo, read_in_session

PATH = "/v1/chat/completions"

texts = st.text(max_size=12) | st.sampled_from(['"messages":[', "],", "\\", "}{", '"messages"', " "])
messages = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts})
fields = st.dictionaries(st.sampled_from(["temperature", "seed", "max_tokens"]), st.integers(0, 9), max_size=3)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (",\n ", " : ")])


def request_of(raw: bytes) -> Request:
    return Request("POST", PATH.encode(), [], raw)


def body_of(said: list[dict[str, Any]], more: dict[str, Any], layout: tuple[str, str], *, first: bool) -> bytes:
    whole = {"messages": said, **more} if first else {**more, "messages": said}
    return json.dumps(whole, separators=layout).encode()


def same(one: ChatRead, other: ChatRead) -> None:
    assert one.ask == other.ask
    assert one.conversation == other.conversation
    assert one.system_key == other.system_key
    assert one.has_other_parts == other.has_other_parts
    assert sampling_of(one.small) == sampling_of(other.small)


@given(st.lists(st.lists(messages, min_size=1, max_size=3), min_size=1, max_size=5), fields, layouts, st.booleans())
def test_a_conversation_read_turn_by_turn_is_what_it_is_read_whole(
    turns: list[list[dict[str, Any]]], more: dict[str, Any], layout: tuple[str, str], first: bool
) -> None:
    memo: Memo | None = None
    said: list[dict[str, Any]] = []
    for turn in turns:
        said = said + turn
        raw = body_of(said, more, layout, first=first)
        read, memo = read_in_session(memo, request_of(raw), PATH)
        whole, _ = read_in_session(None, request_of(raw), PATH)
        same(read, whole)
        assert read.content == begin(PATH).plus(raw).digest()
        assert memo is not None
        assert memo.prefix == raw[: len(memo.prefix)]


@given(st.lists(messages, min_size=1, max_size=4), st.lists(messages, min_size=1, max_size=4), fields, layouts)
def test_any_other_request_is_read_whole(
    before: list[dict[str, Any]], after: list[dict[str, Any]], more: dict[str, Any], layout: tuple[str, str]
) -> None:
    _, memo = read_in_session(None, request_of(body_of(before, more, layout, first=True)), PATH)
    raw = body_of(after, more, layout, first=True)
    same(read_in_session(memo, request_of(raw), PATH)[0], read_in_session(None, request_of(raw), PATH)[0])


@pytest.mark.parametrize(
    "tail",
    [
        ',{"role":"user","content":"b"}],"messages":[{"role":"user","content":"other"}]}',
        '],"messages":[{"role":"user","content":"other"}]}',
        '],"mess\\u0061ges":[{"role":"user","content":"other"}]}',
        '],"model":"m","stop":["\\"messages\\":["]}',
    ],
)
def test_the_last_of_two_messages_fields_counts(tail: str) -> None:
    start = '{"messages":[{"role":"user","content":"a"}'
    _, memo = read_in_session(None, request_of((start + "]}").encode()), PATH)
    assert memo is not None
    raw = (start + tail).encode()
    same(read_in_session(memo, request_of(raw), PATH)[0], read_in_session(None, request_of(raw), PATH)[0])


def test_what_is_known_is_not_parsed_again() -> None:
    said = [{"role": "user", "content": "a" * 5000}]
    _, memo = read_in_session(None, request_of(body_of(said, {}, (",", ":"), first=True)), PATH)
    said.append({"role": "assistant", "content": "b"})
    read, _ = read_in_session(memo, request_of(body_of(said, {}, (",", ":"), first=True)), PATH)
    assert len(read.small) < 100
    assert len(read.ask.messages) == 2


def test_the_same_request_again_is_not_read_again() -> None:
    said = [{"role": "user", "content": "a"}]
    first, memo = read_in_session(None, request_of(body_of(said, {"seed": 1}, (",", ":"), first=True)), PATH)
    assert read_in_session(memo, request_of(body_of(said, {"seed": 1}, (",", ":"), first=True)), PATH) == (first, memo)
    other = body_of(said, {"seed": 2}, (",", ":"), first=True)
    read, _ = read_in_session(memo, request_of(other), PATH)
    same(read, read_in_session(None, request_of(other), PATH)[0])
    assert read.content == begin(PATH).plus(other).digest() != first.content


def test_a_fault_in_a_new_message_says_where_it_is() -> None:
    said: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    _, memo = read_in_session(None, request_of(body_of(said, {}, (",", ":"), first=True)), PATH)
    raw = body_of([*said, {"content": "no role"}], {}, (",", ":"), first=True)
    with pytest.raises(Fault) as caught:
        read_in_session(memo, request_of(raw), PATH)
    assert caught.value.param == "/messages/1/role"
