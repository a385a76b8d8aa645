"""SGLang's streams, cut anywhere, repeating or not: what is retold is what the whole reply says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids, unpack_ids
from moorage.engines.contract import Wanted
from moorage.engines.sglang.reply import retold
from moorage.engines.sglang.stream import SglangTelling
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, EngineReported, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import read_completion
from moorage.engines.vllm.stream import CaptureStream
from moorage.errors import FailedError
from moorage.gateway.turns.bodies import CompletionAsk

PROMPT = Known.of(pack_ids([3, 1, 4]))
WANTED = Wanted(request=b"{}", chat=True, model="m", prompt=PROMPT, ends=(2,))


def meta(upto: int, texts: list[str], versions: list[str], *, ended: bool, new: int | None) -> dict[str, Any]:
    triples = [[-0.25 * at, 10 + at, None] for at in range(upto)]
    said: dict[str, Any] = {
        "id": "x",
        "finish_reason": {"type": "stop", "matched": 2} if ended else None,
        "prompt_tokens": 3,
        "completion_tokens": upto,
        "weight_version": versions[max(0, upto - 1)],
        "output_token_logprobs": triples if new is None else triples[upto - new :],
        "output_token_logprobs_length": upto,
    }
    return said


@given(
    texts=st.lists(st.text(max_size=4), min_size=1, max_size=8),
    data=st.data(),
    incremental=st.booleans(),
)
def test_a_stream_says_what_the_whole_reply_says(texts: list[str], data: st.DataObject, incremental: bool) -> None:
    count = len(texts)
    versions = data.draw(st.lists(st.sampled_from(["v1", "v2"]), min_size=count, max_size=count).map(sorted))
    ends = sorted({*data.draw(st.sets(st.integers(1, count))), count})
    raw, before = b"", 0
    for end in ends:
        said = meta(end, texts, versions, ended=end == count, new=end - before if incremental else None)
        text = "".join(texts[before:end] if incremental else texts[:end])
        raw += b"data: " + json.dumps({"text": text, "meta_info": said, "index": 0}).encode() + b"\n\n"
        before = end
    raw += b"data: [DONE]\n\n"
    telling, capture = SglangTelling(WANTED), CaptureStream(CompletionAsk(prompt="x", stream=True), known=PROMPT)
    at = 0
    while at < len(raw):
        step = data.draw(st.integers(1, max(1, len(raw) // 3)))
        capture.feed(telling.feed(raw[at : at + step]))
        at += step
    capture.feed(telling.end())
    streamed = capture.generation()
    whole = retold(
        json.dumps({"text": "".join(texts), "meta_info": meta(count, texts, versions, ended=True, new=None)}).encode(),
        WANTED,
    )
    expected = read_completion(whole, known=PROMPT)
    [one], [other] = streamed.choices, expected.choices
    assert streamed.prompt == expected.prompt == PROMPT.ids
    assert (one.ids, one.logprobs, one.text, one.finish_reason) == (other.ids, other.logprobs, other.text, "stop")
    assert one.stop_reason is None
    assert unpack_ids(one.ids) == [10 + at for at in range(count)]
    assert one.spans[0].start == 0
    assert one.spans[-1].end == count
    assert [span.version for span in one.spans] == sorted({versions[end - 1] for end in ends})


def whole(**fields: Any) -> bytes:
    said = meta(2, ["a", "b"], ["v1", "v1"], ended=True, new=None) | fields
    return json.dumps({"text": "ab", "meta_info": said}).encode()


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (whole(output_token_logprobs=None), EngineGaveNoIds),
        (whole(completion_tokens=3), ShortLogprobs),
        (whole(prompt_tokens=4), FailedError),
        (whole(finish_reason={"type": "abort", "message": "gone"}), AbortedByEngine),
        (whole(output_token_logprobs=[["a", 1, None]]), UnreadableReply),
        (b"[]", UnreadableReply),
        (b"{", UnreadableReply),
        (b'{"text":"x"}', UnreadableReply),
        (b"\xff", UnreadableReply),
    ],
)
def test_replies_that_cannot_be_recorded(reply: bytes, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        retold(reply, WANTED)


def test_a_null_log_probability_is_short() -> None:
    reply = retold(whole(output_token_logprobs=[[None, 1, None], [-1.0, 2, None]]), WANTED)
    with pytest.raises(ShortLogprobs):
        read_completion(reply)


def test_an_error_in_a_stream() -> None:
    telling = SglangTelling(WANTED)
    with pytest.raises(EngineReported, match="too long"):
        telling.feed(b'data: {"error": {"message": "too long"}}\n\n')


def test_gaps_in_a_stream_are_told() -> None:
    telling = SglangTelling(WANTED)
    said = meta(4, ["a"] * 4, ["v"] * 4, ended=False, new=1)
    with pytest.raises(ShortLogprobs):
        telling.feed(b"data: " + json.dumps({"text": "a", "meta_info": said}).encode() + b"\n\n")
