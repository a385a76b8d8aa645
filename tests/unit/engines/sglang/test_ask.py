"""What SGLang is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorage.capture.packing import pack_ids
from moorage.engines.contract import Directed
from moorage.engines.sglang.ask import captured_body, generate_request
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk

SAID = [{"role": "user", "content": "Hi."}]


def generated(**fields: Any) -> dict[str, Any]:
    made = generate_request(
        json.dumps({"messages": SAID, **fields}).encode(), pack_ids([1, 2]), model="m", max_tokens=9
    )
    assert made.target == "/generate"
    body: dict[str, Any] = json.loads(made.body)
    assert body["input_ids"] == [1, 2]
    assert body["return_logprob"] is True
    return body


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({}, {"max_new_tokens": 9}),
        ({"max_tokens": 5}, {"max_new_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_new_tokens": 6}),
        ({"seed": 3, "min_tokens": 2}, {"sampling_seed": 3, "min_new_tokens": 2, "max_new_tokens": 9}),
        (
            {"stop": ["a"], "temperature": 0, "top_k": 4},
            {"stop": ["a"], "temperature": 0, "top_k": 4, "max_new_tokens": 9},
        ),
        ({"response_format": {"type": "json_object"}}, {"json_schema": '{"type": "object"}', "max_new_tokens": 9}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}},
            {"json_schema": '{"type":"string"}', "max_new_tokens": 9},
        ),
        ({"structured_outputs": {"regex": "a+"}}, {"regex": "a+", "max_new_tokens": 9}),
        ({"include_stop_str_in_output": True}, {"no_stop_trim": True, "max_new_tokens": 9}),
        ({"user": "u", "metadata": {}, "tools": [], "temperature": None}, {"max_new_tokens": 9}),
        ({"made_up": 1}, {"made_up": 1, "max_new_tokens": 9}),  # the engine says that it does not know it
    ],
)
def test_sampling_under_its_own_names(fields: dict[str, Any], params: dict[str, Any]) -> None:
    assert generated(**fields)["sampling_params"] == params


def test_alternatives_adapters_and_streams() -> None:
    assert "top_logprobs_num" not in generated()
    assert generated(logprobs=True, top_logprobs=3)["top_logprobs_num"] == 3
    assert generated(lora_path="a")["lora_path"] == "a"
    assert generated(stream=True)["stream"] is True


def test_chats_ask_for_ids_under_every_name_and_are_never_streamed() -> None:
    raw = json.dumps(
        {"model": "x", "messages": SAID, "stream": True, "stream_options": {"include_usage": True}}
    ).encode()
    body = captured_body(raw, ChatAsk(messages=SAID, stream=True, model="x"), "other")
    assert isinstance(body, bytes)
    said = json.loads(body)
    assert said["stream"] is False
    assert said["stream_options"] is None
    assert said["model"] == "other"
    assert (
        said["logprobs"]
        is said["return_token_ids"]
        is said["return_prompt_token_ids"]
        is said["return_meta_info"]
        is True
    )


def test_text_goes_to_its_openai_route_and_ids_do_not() -> None:
    text = captured_body(b'{"prompt":"x"}', CompletionAsk(prompt="x"), None)
    assert isinstance(text, bytes)
    assert json.loads(text)["logprobs"] == 1
    ids = captured_body(b'{"prompt":[1,2],"n":2}', CompletionAsk(prompt=[1, 2], n=2), None)
    assert isinstance(ids, Directed)
    assert json.loads(ids.body)["sampling_params"]["n"] == 2
