"""Text completions are read the same without what is said of each token in text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.vllm.reply import read_completion
from moorage.engines.vllm.token_texts import without_token_texts

NASTY = ('"tokens":["', '},"finish_reason":', '],"tokens":[', '"token_logprobs":[', "]}", "\\", '"')
TEXTS = st.lists(st.one_of(st.text(max_size=4), st.sampled_from(NASTY)), min_size=1, max_size=5)


def reply(choices: list[list[str]], *, texts_first: bool = False) -> dict[str, Any]:
    return {"model": "m", "choices": [choice(texts, index, texts_first) for index, texts in enumerate(choices)]}


def choice(texts: list[str], index: int, texts_first: bool) -> dict[str, Any]:
    values = [-0.5 * place for place in range(len(texts))]
    said = {"tokens": texts, "top_logprobs": [{text: value} for text, value in zip(texts, values, strict=True)]}
    logprobs = {"text_offset": [0] * len(texts), "token_logprobs": values}
    return {
        "index": index,
        "text": "".join(texts),
        "logprobs": {**said, **logprobs} if texts_first else {**logprobs, **said},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": list(range(len(texts))),
        "prompt_token_ids": [7, 8],
    }


@given(st.lists(TEXTS, min_size=1, max_size=2), st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_what_is_read_is_the_same(choices: list[list[str]], texts_first: bool, separators: tuple[str, str]) -> None:
    raw = json.dumps(reply(choices, texts_first=texts_first), separators=separators).encode()
    assert read_completion(without_token_texts(raw)) == read_completion(raw)


def test_one_choice_loses_its_texts_and_several_none() -> None:
    one, two = (json.dumps(reply([["a"]] * many), separators=(",", ":")).encode() for many in (1, 2))
    assert b'"tokens"' not in without_token_texts(one)
    assert without_token_texts(two) == two
    assert without_token_texts(b"{}") == b"{}"
