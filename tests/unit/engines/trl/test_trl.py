"""TRL's requests and replies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorage.capture.packing import pack_ids, unpack_floats, unpack_ids
from moorage.engines.contract import Wanted
from moorage.engines.trl.ask import captured_request, tokens_request
from moorage.engines.trl.reply import retold
from moorage.engines.vllm.faults import EngineGaveNoIds, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import read_chat, read_completion
from moorage.errors import FailedError
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk

SAID = [{"role": "user", "content": "Hi."}]


def decode(ids: Any) -> str:
    return " ".join(map(str, ids))


def wanted(request: dict[str, Any], **fields: Any) -> Wanted:
    said: dict[str, Any] = {"chat": "messages" in request, "model": "m", "decode": decode, "ends": (2,), **fields}
    return Wanted(request=json.dumps(request).encode(), **said)


def reply(**fields: Any) -> bytes:
    said = {
        "prompt_ids": [[7, 8]],
        "completion_ids": [[5, 2]],
        "logprobs": [[[-0.1, -2.0], [-0.5]]],
        "logprob_token_ids": [[[5, 9], [2]]],
    }
    return json.dumps(said | fields).encode()


def test_requests() -> None:
    raw = {"messages": SAID, "temperature": 0.5, "seed": 3, "stop": ["x"], "tools": [{}], "model": "m", "stream": True}
    chat = captured_request(json.dumps(raw).encode(), ChatAsk(messages=SAID), None)
    assert chat.target == "/chat/"
    assert json.loads(chat.body) == {
        "messages": [SAID],
        "n": 1,
        "max_tokens": 1024,
        "logprobs": 0,
        "temperature": 0.5,
        "generation_kwargs": {"seed": 3, "stop": ["x"]},
        "tools": [{}],
    }
    text = captured_request(b'{"prompt":"x"}', CompletionAsk(prompt="x"), None)
    assert (text.target, json.loads(text.body)) == (
        "/generate/",
        {"prompts": ["x"], "n": 1, "max_tokens": 16, "logprobs": 0},
    )
    ids = tokens_request(b'{"messages":[],"logprobs":true,"top_logprobs":2}', pack_ids([1, 2]), model=None, n=3)
    assert json.loads(ids.body) == {"prompts": [[1, 2]], "n": 3, "max_tokens": 1024, "logprobs": 2}


def test_a_chat() -> None:
    generation = read_chat(retold(reply(), wanted({"messages": SAID})))
    [choice] = generation.choices
    assert unpack_ids(generation.prompt) == [7, 8]
    assert (unpack_ids(choice.ids), unpack_floats(choice.logprobs)) == ([5, 2], [-0.1, -0.5])
    assert choice.message == {"role": "assistant", "content": "5 2"}
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize(
    ("ids", "limit", "finish"),
    [([5, 2], 2, "stop"), ([5, 6], 2, "length"), ([5, 6], 3, "stop"), ([5, 6], None, "stop")],
)
def test_how_it_ended(ids: list[int], limit: int | None, finish: str) -> None:
    said = reply(completion_ids=[ids], logprobs=[[-0.1, -0.2]], logprob_token_ids=None)
    asked = {"prompt": "x"} if limit is None else {"prompt": "x", "max_tokens": limit}
    [choice] = read_completion(retold(said, wanted(asked))).choices
    assert choice.finish_reason == finish


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (reply(completion_ids=[]), EngineGaveNoIds),
        (reply(prompt_ids=None), EngineGaveNoIds),
        (reply(logprobs=[[[-0.1]]]), ShortLogprobs),
        (reply(logprobs=None), ShortLogprobs),
        (reply(logprobs=[[[None, -2.0], [-0.5]]]), ShortLogprobs),
        (reply(logprob_token_ids=[[[9, 8], [2]]]), ShortLogprobs),
        (b"nothing", UnreadableReply),
        (b'{"completion_ids": 3}', UnreadableReply),
    ],
)
def test_replies_that_cannot_be_recorded(said: bytes, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        retold(said, wanted({"messages": SAID}))


def test_without_a_tokenizer() -> None:
    with pytest.raises(FailedError) as caught:
        retold(reply(), wanted({"messages": SAID}, decode=None))
    assert caught.value.code == "tokenizer_missing"


def test_ids_that_were_sent_make_a_completion() -> None:
    generation = read_completion(retold(reply(), wanted({"messages": SAID}, prompt=Known.of(pack_ids([7, 8])))))
    assert generation.choices[0].text == "5 2"
