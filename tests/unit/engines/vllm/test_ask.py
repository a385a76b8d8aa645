"""Requests: the client's own JSON with only what capture needs added."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids
from moorage.engines.vllm.ask import append_fields, capture_body, tokens_body
from moorage.engines.vllm.generate import generate_body, is_closed
from moorage.engines.vllm.known import Known
from tests.unit.engines.vllm.said import ChatRequest, Request

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=30)


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 1]), st.sampled_from(["", " ", "\n\t "]))
def test_appending_keeps_every_byte(fields: dict[str, Any], indent: int | None, after: str) -> None:
    raw = (json.dumps(fields, indent=indent) + after).encode()
    assert append_fields(raw, []) == raw
    out = append_fields(raw, [b'"a_new_one":1'])
    assert json.loads(out) == {**fields, "a_new_one": 1}
    assert out.startswith(raw.rstrip()[:-1].rstrip())


def test_a_chat_asks_for_ids_and_log_probabilities() -> None:
    raw = b'{"messages": [], "top_k": 5}'
    assert json.loads(capture_body(raw, ChatRequest(), "m")) == {
        "messages": [],
        "top_k": 5,
        "model": "m",
        "return_token_ids": True,
        "logprobs": True,
    }


def test_what_the_client_asked_for_is_left_alone() -> None:
    raw = b'{"model": "m", "return_token_ids": true, "logprobs": true, "top_logprobs": 3}'
    assert capture_body(raw, ChatRequest(model="m", return_token_ids=True, logprobs=True), "m") == raw
    assert capture_body(raw, ChatRequest(model="m", return_token_ids=True, logprobs=True), None) == raw


def test_the_last_of_two_keys_counts() -> None:
    raw = b'{"model": "default", "return_token_ids": false, "logprobs": false}'
    asked = ChatRequest(model="default", return_token_ids=False, logprobs=False)
    assert json.loads(capture_body(raw, asked, "m")) == {"model": "m", "return_token_ids": True, "logprobs": True}


@pytest.mark.parametrize(("wanted", "sent"), [(None, 0), (0, 0), (4, 4)])
def test_completions_count_their_alternatives(wanted: int | None, sent: int) -> None:
    raw = json.dumps({"prompt": "x"} | ({} if wanted is None else {"logprobs": wanted})).encode()
    assert json.loads(capture_body(raw, Request(logprobs=wanted), None))["logprobs"] == sent


def test_a_stream_is_asked_for_its_usage_to_count_by() -> None:
    raw = b'{"stream": true}'
    body = json.loads(capture_body(raw, ChatRequest(stream=True), None))
    assert body["stream_options"] == {"include_usage": True}
    options = {"include_usage": False}
    asked = ChatRequest(stream=True, stream_options=options)
    raw = json.dumps({"stream": True, "stream_options": options}).encode()
    assert json.loads(capture_body(raw, asked, None))["stream_options"] == options


class TestTokens:
    def test_of_a_chat(self) -> None:
        raw = json.dumps(
            {
                "model": "default",
                "messages": [{"role": "user", "content": "x"}],
                "tools": [],
                "tool_choice": "auto",
                "chat_template_kwargs": {"a": 1},
                "temperature": 0.5,
                "top_k": 7,
                "stop": ["x"],
                "response_format": {"type": "json_object"},
                "max_completion_tokens": 9,
                "max_tokens": 3,
                "stream": True,
                "unknown": {"kept": 1.50},
            }
        ).encode()
        body = json.loads(tokens_body(raw, pack_ids([1, 2, 3]), model="m", n=2, max_tokens=100))
        assert body == {
            "prompt": [1, 2, 3],
            "temperature": 0.5,
            "top_k": 7,
            "stop": ["x"],
            "response_format": {"type": "json_object"},
            "stream": True,
            "unknown": {"kept": 1.5},
            "max_tokens": 9,
            "n": 2,
            "logprobs": 0,
            "return_token_ids": True,
            "stream_options": {"include_usage": True},
            "model": "m",
        }

    @pytest.mark.parametrize(
        ("given", "sent"),
        [({}, 100), ({"max_tokens": None}, 100), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 6}, 6)],
    )
    def test_how_many_tokens(self, given: dict[str, Any], sent: int) -> None:
        raw = json.dumps({"messages": [], **given}).encode()
        assert json.loads(tokens_body(raw, b"", model=None, max_tokens=100))["max_tokens"] == sent
        without = json.loads(tokens_body(raw, b"", model=None))
        assert without.get("max_tokens") == (None if sent == 100 else sent)

    @pytest.mark.parametrize(
        ("asked", "logprobs", "named"),
        [
            ({"logprobs": True}, 0, False),
            ({"logprobs": True, "top_logprobs": 3}, 3, True),
            ({"logprobs": False, "top_logprobs": 3}, 0, False),
            ({"logprobs": True, "top_logprobs": None}, 0, False),
            ({"logprobs": True, "top_logprobs": "x"}, 0, False),
        ],
    )
    def test_alternatives_of_a_chat(self, asked: dict[str, Any], logprobs: int, named: bool) -> None:
        body = json.loads(tokens_body(json.dumps({"messages": [], **asked}).encode(), b"", model=None))
        assert body["logprobs"] == logprobs
        assert body.get("return_tokens_as_token_ids", False) is named
        assert "top_logprobs" not in body

    def test_of_a_completion(self) -> None:
        raw = json.dumps(
            {"model": "a", "prompt": "text", "echo": True, "logprobs": 2, "suffix": "x", "add_special_tokens": True}
        ).encode()
        assert json.loads(tokens_body(raw, pack_ids([5]), model=None)) == {
            "prompt": [5],
            "n": 1,
            "logprobs": 2,
            "return_token_ids": True,
            "model": "a",
        }

    def test_generate(self) -> None:
        raw = json.dumps(
            {
                "messages": [],
                "temperature": 0,
                "max_completion_tokens": 4,
                "seed": None,
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
                "unknown": 1,
                "stream": True,
            }
        ).encode()
        assert json.loads(generate_body(raw, pack_ids([1, 2]), model="m", n=2, max_tokens=9, logprobs=1)) == {
            "token_ids": [1, 2],
            "sampling_params": {
                "temperature": 0,
                "max_tokens": 4,
                "n": 2,
                "logprobs": 1,
                "structured_outputs": {"json": {"type": "object"}},
            },
            "stream": True,
            "stream_options": {"include_usage": True},
            "model": "m",
        }
        plain = json.loads(generate_body(b'{"response_format":{"type":"json_object"}}', b"", model=None, max_tokens=9))
        assert plain["sampling_params"] == {
            "max_tokens": 9,
            "n": 1,
            "logprobs": 0,
            "structured_outputs": {"json_object": True},
        }
        assert [is_closed(status) for status in (200, 400, 403, 404, 500)] == [False, False, True, True, False]


@given(IDS, IDS, IDS)
def test_known_text_is_the_ids_text(first: list[int], second: list[int], other: list[int]) -> None:
    known = Known.of(pack_ids(first)).up_to(pack_ids(first + second))
    assert known == Known.of(pack_ids(first + second))
    assert known.text == json.dumps(first + second, separators=(",", ":"))[1:-1].encode()
    for ids in (first + second + other, other, first, []):
        assert known.up_to(pack_ids(ids)) == Known.of(pack_ids(ids))
    sent = tokens_body(b"{}", known, model=None)
    assert sent == tokens_body(b"{}", known.ids, model=None)
    assert json.loads(sent)["prompt"] == first + second
