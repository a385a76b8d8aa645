"""Reading what is new of a request gives what reading it whole gives."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.retry import begin
from moorage.gateway.http.faults import BodyNotJson, BodyWrong, Fault
from moorage.gateway.http.request import Request, decode_body
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


FEW = [
    b'{"role":"user","content":"a"}',
    b'{"role":"system","content":"\\ud83e\\udd8a"}',
    '{"role":"assistant","content":"\u00e9","tool_calls":[{"k":[1e9]}]}'.encode(),
    b'{"role":"user","content":[{"type":"image_url"}]}',
]
"""Few, so that the same text stands in several places."""
NAMES = [b'"messages"', b'"messages"', b'"x"', b'"mess\\u0061ges"', b'"stop"']
ODD = [
    *(
        b",",
        b"]",
        b"}",
        b"[",
        b"{",
        b'"',
        b"\\",
        b":",
        b" ",
        b"\n",
        b"\x0b",
        b"\x0c",
        b"\x00",
        b"\x01",
        b"\xff",
        b"\xed\xa0",
    ),
    *(b"\\ud83e", b"1e999", b"NaN", b"-", b"7" * 400, b"[" * 3000, b'{"messages":', b"null", b"\xef\xbb\xbf", *FEW),
    *(b"]," + name + b":[" for name in NAMES),
]
lists = st.lists(st.sampled_from(FEW), max_size=3).map(lambda said: b"[" + b",".join(said) + b"]")
values = lists | st.sampled_from([b"1", b"null"]) | lists.map(lambda said: b'{"messages":' + said + b"}")
odd_fields = st.tuples(st.sampled_from(NAMES), values).map(lambda pair: pair[0] + b":" + pair[1])
odd_bodies = st.lists(odd_fields, min_size=1, max_size=3).map(lambda said: b"{" + b",".join(said) + b"}")


@st.composite
def edited(draw: st.DrawFn, raw: bytes) -> bytes:
    """The body with something put in, mostly where a list ends, and perhaps something left out."""
    for _ in range(draw(st.integers(1, 3))):
        ends = [at for at in range(len(raw)) if raw[at : at + 1] in (b"]", b"}")]
        at = draw(st.sampled_from(ends) if ends else st.just(0)) + draw(st.integers(0, 1))
        at = draw(st.just(at) | st.integers(0, len(raw)))
        put = b"".join(draw(st.lists(st.sampled_from([b",", *ODD]), max_size=3)))
        raw = raw[:at] + put + raw[at + draw(st.sampled_from([0, 0, 0, 1, 5])) :]
    return raw


def outcome(memo: Memo | None, raw: bytes) -> tuple[Any, Memo | None]:
    try:
        return read_in_session(memo, request_of(raw), PATH)
    except Fault as fault:
        return (type(fault), fault.message, fault.param), memo


@settings(max_examples=300)
@given(odd_bodies, st.data())
def test_whatever_was_read_before_a_body_is_read_or_refused_as_it_is_alone(raw: bytes, data: st.DataObject) -> None:
    memo: Memo | None = None
    for _ in range(3):
        found, memo = outcome(memo, raw)
        alone, _ = outcome(None, raw)
        if isinstance(found, ChatRead) and isinstance(alone, ChatRead):
            same(found, alone)
            assert found.content == alone.content
            assert json.loads(raw.decode()) | {"messages": found.ask.messages} == json.loads(raw)
        else:
            assert found == alone
        raw = data.draw(edited(raw))


@pytest.mark.parametrize(
    "tail",
    [
        b",]}",
        b", ]}",
        b"\x0c]}",
        b",,%b]}" % FEW[0],
        b"%b]}" % FEW[0],
        b"]},",
        b"]",
        b'],"x":"\xff"}',
        b'],"\xff":1}',
        b"",
    ],
)
def test_what_is_no_json_is_refused_whatever_was_asked_before(tail: bytes) -> None:
    start = b'{"messages":[' + FEW[0]
    _, memo = read_in_session(None, request_of(start + b"]}"), PATH)
    with pytest.raises(BodyNotJson) as caught:
        read_in_session(memo, request_of(start + tail), PATH)
    with pytest.raises(BodyNotJson, match=re.escape(caught.value.message)):
        read_in_session(None, request_of(start + tail), PATH)


def test_what_is_nested_too_deeply_is_refused_whatever_was_asked_before() -> None:
    start = b'{"messages":[' + FEW[0]
    _, memo = read_in_session(None, request_of(start + b"]}"), PATH)
    for tail in (b',{"role":%b}]}', b'],"x":%b}'):
        with pytest.raises(BodyWrong, match="nested too deeply"):
            read_in_session(memo, request_of(start + tail % (b"[" * 3000 + b"]" * 3000)), PATH)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"[NaN]", BodyWrong, "NaN"),
        (b'["\\ud800"]', BodyNotJson, "not JSON"),
        (b"\xef\xbb\xbf[]", BodyNotJson, "not JSON"),
    ],
)
def test_a_body_is_refused_for_what_is_wrong_with_it(body: bytes, kind: type[Fault], message: str) -> None:
    with pytest.raises(kind, match=message):
        decode_body(body, list[Any])


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
        ',{"role":"user","content":"other"}],"messages":[{"role":"user","content":"other"}]}',
        '],"model":"m","stop":["\\"messages\\":["]}',
    ],
)
def test_the_last_of_two_messages_fields_counts(tail: str) -> None:
    start = '{"messages":[{"role":"user","content":"a"}'
    _, memo = read_in_session(None, request_of((start + "]}").encode()), PATH)
    assert memo is not None
    raw = (start + tail).encode()
    same(read_in_session(memo, request_of(raw), PATH)[0], read_in_session(None, request_of(raw), PATH)[0])


def test_messages_in_another_field_are_not_the_conversation() -> None:
    one, other = '{"x":{"messages":[%s]},"messages":[%s]}', FEW[0].decode()
    _, memo = read_in_session(None, request_of((one % (other, other)).encode()), PATH)
    raw = (one % (f"{other},{other}", other)).encode()
    assert len(read_in_session(memo, request_of(raw), PATH)[0].ask.messages) == 1


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
