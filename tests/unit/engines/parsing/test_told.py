"""What is told of a reply while it comes, and the whole reply at its end: a client has in the end what is recorded."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.parsing.told import Disagrees, Hidden, Told

SPECIAL = ["<|im_end|>", "<|im_start|>", "[INST]"]
TEXT = st.text(alphabet="ab <|im_end>[INST]\n\u00e9", max_size=40)


def telling(**how: Any) -> Told:
    numbers = itertools.count()
    return Told(Hidden(SPECIAL), new_id=lambda: str(next(numbers)), **how)


def joined(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together."""
    message: dict[str, Any] = {"reasoning": "", "content": "", "tool_calls": []}
    for delta in deltas:
        for name in ("reasoning", "content"):
            message[name] += delta.get(name, "")
        for part in delta.get("tool_calls", ()):
            if part["index"] == len(message["tool_calls"]):
                message["tool_calls"].append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
            message["tool_calls"][part["index"]]["arguments"] += part["function"].get("arguments", "")
    return message


@given(reasoning=st.lists(TEXT, max_size=5), content=st.lists(TEXT, max_size=8))
def test_texts_told_and_left_are_the_whole_ones_and_no_special_token_is_seen(
    reasoning: list[str], content: list[str]
) -> None:
    told, hidden = telling(), Hidden(SPECIAL)
    deltas = [told.add({"reasoning": one}) for one in reasoning] + [told.add({"content": one}) for one in content]
    whole = {"role": "assistant", "content": "".join(content), "reasoning": "".join(reasoning)}
    # Taking tokens out may join what makes another; both sides do it once, from the left.
    if any(hidden.out_of(hidden.out_of(one)) != hidden.out_of(one) for one in (whole["content"], whole["reasoning"])):
        return
    message = {**whole, "content": hidden.out_of(whole["content"]), "reasoning": hidden.out_of(whole["reasoning"])}
    settled, rest = told.settle(message, cut=False)
    found = joined([*deltas, rest])
    assert found["content"] == (settled["content"] or "") == message["content"]
    assert found["reasoning"] == (settled["reasoning"] or "") == message["reasoning"]
    assert not any(one in delta.get("content", "") for delta in deltas for one in SPECIAL)


@given(st.lists(TEXT, max_size=8))
def test_nothing_but_white_space_and_the_beginning_of_a_token_is_held_back(pieces: list[str]) -> None:
    told = telling()
    text = "".join(told.add({"content": one}).get("content", "") for one in pieces)
    left = Hidden(SPECIAL).out_of("".join(pieces))[len(text) :]
    assert not left.strip() or any(one.startswith(left.strip()[:1]) for one in SPECIAL)


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6) | st.none(), max_size=3), st.data())
def test_arguments_may_be_spaced_otherwise(arguments: dict[str, Any], data: Any) -> None:
    streamed = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
    cut = data.draw(st.integers(0, len(streamed)))
    told = telling()
    deltas = [told.add({"tool_calls": {"0": {"id": "i", "name": "f", "arguments": streamed[:cut]}}})]
    function = {"name": "f", "arguments": json.dumps(arguments, ensure_ascii=False)}
    whole = {"content": None, "tool_calls": [{"id": "other", "type": "function", "function": function}]}
    settled, rest = told.settle(whole, cut=False)
    [call] = joined([*deltas, rest])["tool_calls"]
    [kept] = settled["tool_calls"]
    assert (call["id"], call["arguments"]) == (kept["id"], kept["function"]["arguments"])
    assert json.loads(call["arguments"]) == arguments


def whole_call(name: str = "f", arguments: str = '{"a": 1}') -> dict[str, Any]:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"content": "one"}, {"content": "two"}),
        ({"reasoning": "one"}, {"content": "one"}),
        ({"tool_calls": {"0": {"name": "f", "arguments": ""}}}, {"content": "f"}),
        ({"tool_calls": {"0": {"name": "f", "arguments": ""}}}, {"content": None, "tool_calls": [whole_call("g")]}),
        ({"tool_calls": {"0": {"name": "f", "arguments": '{"a": 2'}}}, {"content": "", "tool_calls": [whole_call()]}),
        ({"tool_calls": {"0": {"name": "f", "arguments": "oops"}}}, {"content": "", "tool_calls": [whole_call()]}),
    ],
)
def test_what_does_not_meet_is_said(said: dict[str, Any], message: dict[str, Any]) -> None:
    told = telling()
    told.add(said)
    with pytest.raises(Disagrees):
        told.settle(message, cut=False)


def test_white_space_around_a_text_is_no_disagreement() -> None:
    told = telling()
    assert told.add({"content": "\n\nHello there"}) == {"content": "\n\nHello there"}
    settled, rest = told.settle({"content": "Hello there, you."}, cut=False)
    assert (settled["content"], rest) == ("\n\nHello there, you.", {"content": ", you."})


def test_a_call_that_is_cut_stays_as_far_as_it_came() -> None:
    told = telling()
    told.add({"content": "So: ", "tool_calls": {"0": {"name": "f", "arguments": '{"a'}}})
    settled, rest = told.settle({"role": "assistant", "content": 'So: <tool_call>{"a'}, cut=True)
    assert rest == {}
    assert settled["content"] == "So:"
    assert settled["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a'}


def test_a_single_call_is_the_first_one() -> None:
    told = telling(single_call=True)
    first = told.add({"tool_calls": {"0": {"name": "f", "arguments": "{}"}, "1": {"name": "g", "arguments": "{}"}}})
    assert [call["function"]["name"] for call in first["tool_calls"]] == ["f"]
    assert told.add({"tool_calls": {"1": {"arguments": "{}"}}}) == {}


def test_a_call_without_a_name_waits_for_it() -> None:
    told = telling()
    assert told.add({"tool_calls": {"0": {"arguments": "{"}}}) == {}
    [call] = told.add({"tool_calls": {"0": {"name": "f", "arguments": "}"}}})["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": "{}"}
    assert call["id"]


@pytest.mark.parametrize("pieces", [("a -(9)\nones", " "), ("a -(9)\non", "es "), ("a -(9)\n", "ones x")])
def test_a_text_that_ends_the_reply_is_not_told_before_it_is_known_not_to(pieces: tuple[str, ...]) -> None:
    """The engine leaves it out of the whole reply."""
    one = telling(stop_texts=["is", "ones "])
    begun = "".join(one.add({"reasoning": piece}).get("reasoning", "") for piece in pieces)
    assert begun in ("", "a -(9)")
    settled, rest = one.settle({"role": "assistant", "content": None, "reasoning": "a -(9)\n"}, cut=False)
    assert settled["reasoning"] == "a -(9)\n" == begun + rest["reasoning"]
    other = telling(stop_texts=["ones "])
    said = [other.add({"content": piece}).get("content", "") for piece in ("on", "es", "t")]
    assert "".join(said) == "onest"


@given(st.text(alphabet="ab <think/>", max_size=12), st.sampled_from(["<think>", "</think>"]), st.data())
def test_what_follows_a_mark_of_thoughts_in_the_content_is_the_whole_replys(before: str, mark: str, data: Any) -> None:
    """A parser may leave a second mark out of the whole reply, and have it in a stream."""
    told, text = telling(), before + mark + data.draw(TEXT)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    deltas = [told.add({"marks": ["<think>", "</think>"]}), *(told.add({"content": piece}) for piece in pieces)]
    whole = {"role": "assistant", "content": Hidden(SPECIAL).out_of(text.replace(mark, "", 1))}
    first = min(text.find(one) for one in ("<think>", "</think>") if one in text)
    assert text[:first].startswith(joined(deltas)["content"])
    if text.find(mark) == first:
        settled, rest = told.settle(whole, cut=False)
        assert joined([*deltas, rest])["content"] == (settled["content"] or "") == whole["content"]
