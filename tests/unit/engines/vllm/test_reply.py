"""Whole replies: what is read is what was said, what is wrong is a fault, and the client gets all that it asked for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids, unpack_floats, unpack_ids
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.parts import take_apart
from moorage.engines.vllm.reply import client_reply, read_chat, read_completion, read_generate
from moorage.errors import FailedError
from tests.stand_ins.canned_replies import CannedReplies
from tests.unit.engines.vllm.said import ChatRequest, Request, dump, replies

STYLES = st.sampled_from(["compact", "spaced", "indented"])
CHAT = "/v1/chat/completions"


def values_of(choice: dict[str, Any]) -> list[float]:
    logprobs = choice["logprobs"]
    return [row["logprob"] for row in logprobs["content"]] if "content" in logprobs else logprobs["token_logprobs"]


@given(st.data(), st.booleans(), STYLES)
def test_what_is_read_is_what_was_said(data: st.DataObject, chat: bool, style: str) -> None:
    said = data.draw(replies(chat=chat))
    raw = dump(said, style)
    prompt = said["prompt_token_ids"] if chat else said["choices"][0]["prompt_token_ids"]
    known = Known.of(pack_ids(data.draw(st.sampled_from([prompt[:1], prompt, prompt[:-1], [prompt[0] ^ 1], []]))))
    parts = take_apart(raw, known) if data.draw(st.booleans()) else None
    tops = data.draw(st.booleans())
    generation = (read_chat if chat else read_completion)(raw, known=known, top_logprobs=tops, parts=parts)
    assert unpack_ids(generation.prompt) == prompt
    assert (generation.model, generation.usage) == (said["model"], said["usage"])
    for read, choice in zip(generation.choices, said["choices"], strict=True):
        assert unpack_ids(read.ids) == choice["token_ids"]
        assert unpack_floats(read.logprobs) == values_of(choice)
        assert (read.index, read.finish_reason) == (choice["index"], choice["finish_reason"])
        assert read.stop_reason == choice["stop_reason"]
        assert (read.message, read.text) == (choice.get("message"), choice.get("text"))
        if read.top_logprobs is not None:
            rows = choice["logprobs"].get("content", choice["logprobs"].get("top_logprobs"))
            assert json.loads(bytes(read.top_logprobs)) == rows


@given(st.data(), st.booleans(), STYLES, st.booleans(), st.booleans())
def test_the_client_gets_all_but_what_only_the_gateway_asked_for(
    data: st.DataObject, chat: bool, style: str, ids: bool, logprobs: bool
) -> None:
    said = data.draw(replies(chat=chat))
    raw = dump(said, style)
    kind: type[ChatRequest] | type[Request] = ChatRequest if chat else Request
    asked = kind(return_token_ids=ids, logprobs=(True if chat else 0) if logprobs else None)
    out = client_reply(raw, asked, take_apart(raw) if data.draw(st.booleans()) else None)
    expected = copy.deepcopy(said)
    for fields in (expected, *expected["choices"]):
        for name in ("token_ids", "prompt_token_ids"):
            if not ids and name in fields:
                fields[name] = None
        if not logprobs and "logprobs" in fields:
            fields["logprobs"] = None
    assert json.loads(out) == expected
    if style == "compact" or (ids and logprobs):
        assert out == (raw if ids and logprobs else dump(expected))


@given(st.data(), st.booleans())
def test_a_reply_with_one_choice_is_taken_apart(data: st.DataObject, chat: bool) -> None:
    said = data.draw(replies(chat=chat))
    parts = take_apart(dump(said))
    assert (parts is not None) == (len(said["choices"]) == 1)


def test_what_is_not_a_choices_own_is_not_taken_for_it() -> None:
    """Each of these has the keys, one in another place than the one they are looked for in."""
    ids, logprobs = b'"token_ids":[1]', b'"logprobs":{"content":[]}'
    end = b',"finish_reason":"stop",'
    for raw in (
        b'{"choices":[{"index":0,"x":{"y":0,'
        + logprobs
        + b'},"finish_reason":"stop",'
        + ids
        + b'}],"prompt_token_ids":[2]}',
        b'{"choices":[{"index":0,' + logprobs + end + b'"x":{"y":0,' + ids + b'}}],"prompt_token_ids":[2]}',
        b'{"choices":[{"index":0,' + logprobs + end + ids + b'}],"x":{"y":0,"prompt_token_ids":[2]}}',
        b'{"choices":[{"index":0,"token_ids":null,'
        + logprobs
        + end
        + b'"x":{"y":0,'
        + ids
        + b'}}],"prompt_token_ids":[2]}',
    ):
        assert json.loads(raw)
        assert take_apart(raw) is None
    whole = b'{"choices":[{"index":0,' + logprobs + end + ids + b'}],"prompt_token_ids":[2]}'
    assert take_apart(whole) is not None


def test_objects_of_unknown_make_keep_what_they_hold() -> None:
    said = json.loads(CannedReplies("m", prompt_ids=2, sampled=1)(CHAT, b"").body)
    said["kv_transfer_params"] = {"x": 0, "token_ids": [1, 2], "logprobs": {"content": []}}
    out = json.loads(client_reply(dump(said), ChatRequest()))
    assert out["kv_transfer_params"] == said["kv_transfer_params"]
    assert (out["prompt_token_ids"], out["choices"][0]["token_ids"]) == (None, None)


@pytest.mark.parametrize("turn", [0, 5, 40])
def test_a_known_prompt_reads_the_same(turn: int) -> None:
    canned = CannedReplies("m")
    raw = canned(CHAT, b'"assistant"' * turn).body
    prompt = canned.prompt_of(turn)
    whole = read_chat(raw)
    for known in (prompt, prompt[:-64], prompt[:1], [*prompt, 1], [1, *prompt[1:]]):
        assert read_chat(raw, known=Known.of(pack_ids(known))) == whole
    assert unpack_ids(whole.prompt) == prompt


def test_an_id_whose_text_begins_like_the_known_one() -> None:
    raw = b'{"choices":[{"finish_reason":"stop","token_ids":[]}],"prompt_token_ids":[1,23]}'
    assert unpack_ids(read_chat(raw, known=Known.of(pack_ids([1, 2]))).prompt) == [1, 23]
    twice = b'{"x":{"prompt_token_ids":[1,2]},' + raw[1:]
    assert unpack_ids(read_chat(twice, known=Known.of(pack_ids([1]))).prompt) == [1, 23]


def _reply(**choice: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    said |= {"token_ids": [5, 6], "logprobs": {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}}
    return {"model": "m", "choices": [{**said, **choice}], "prompt_token_ids": [1, 2]}


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda said: said.pop("prompt_token_ids"), EngineGaveNoIds),
        (lambda said: said.update(prompt_token_ids=None), EngineGaveNoIds),
        (lambda said: said.update(prompt_token_ids=[1, -2]), EngineGaveNoIds),
        (lambda said: said.update(prompt_token_ids=[1, 2**32]), EngineGaveNoIds),
        (lambda said: said["choices"][0].pop("token_ids"), EngineGaveNoIds),
        (lambda said: said["choices"][0].update(token_ids=None), EngineGaveNoIds),
        (lambda said: said["choices"][0].update(token_ids=[2**40, 1]), EngineGaveNoIds),
        (lambda said: said["choices"][0].pop("logprobs"), ShortLogprobs),
        (lambda said: said["choices"][0].update(logprobs=None), ShortLogprobs),
        (lambda said: said["choices"][0].update(logprobs={"content": None}), ShortLogprobs),
        (lambda said: said["choices"][0]["logprobs"]["content"].pop(), ShortLogprobs),
        (lambda said: said["choices"][0]["logprobs"]["content"].append({"logprob": -1.0}), ShortLogprobs),
        (lambda said: said["choices"][0]["logprobs"]["content"][0].update(logprob=None), ShortLogprobs),
        (lambda said: said["choices"][0].update(finish_reason="abort"), AbortedByEngine),
        (lambda said: said["choices"][0].update(finish_reason="error"), AbortedByEngine),
        (lambda said: said["choices"][0].update(finish_reason=None), AbortedByEngine),
        (lambda said: said.update(choices=[]), UnreadableReply),
        (lambda said: said.pop("choices"), UnreadableReply),
        (lambda said: said.update(prompt_token_ids=["a"]), UnreadableReply),
        (lambda said: said["choices"][0].update(token_ids=[1.5, 2]), UnreadableReply),
        (lambda said: said["choices"][0].update(index="x"), UnreadableReply),
    ],
)
def test_nothing_is_padded_or_guessed(spoil: Callable[[dict[str, Any]], Any], fault: type[FailedError]) -> None:
    said = _reply()
    assert len(read_chat(dump(said)).choices) == 1
    spoil(said)
    for known in (None, Known.of(pack_ids([1]))):
        with pytest.raises(fault) as caught:
            read_chat(dump(said), known=known)
        assert caught.value.http_status == 502


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"<html>"])
def test_what_is_no_reply(raw: bytes) -> None:
    for read in (read_chat, read_completion, lambda one: read_generate(one, b"")):
        with pytest.raises(UnreadableReply):
            read(raw)


def test_echoed_log_probabilities_are_left_out() -> None:
    logprobs = {"token_logprobs": [None, -9.0, -1.0, -2.0]}
    said = _reply(logprobs=logprobs, prompt_token_ids=[1, 2], message=None, text="x")
    del said["prompt_token_ids"]
    assert unpack_floats(read_completion(dump(said)).choices[0].logprobs) == [-1.0, -2.0]


def test_an_empty_completion_is_one() -> None:
    (choice,) = read_chat(dump(_reply(token_ids=[], logprobs=None))).choices
    assert (choice.ids, choice.logprobs) == (b"", b"")


def test_generate_says_which_weights_sampled() -> None:
    canned = CannedReplies("m", prompt_ids=3, sampled=4)
    raw = canned("/inference/v1/generate", b"").body
    generation = read_generate(raw, pack_ids([7]))
    (choice,) = generation.choices
    assert (unpack_ids(generation.prompt), unpack_ids(choice.ids)) == ([7], canned.sampled)
    assert unpack_floats(choice.logprobs) == canned.logprobs
    assert [(span.version, span.start, span.end) for span in choice.spans] == [("default", 0, 4)]
