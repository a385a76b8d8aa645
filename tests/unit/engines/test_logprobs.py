"""The one shape of a prompt's log probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.contract import PromptScores
from moorage.engines.logprobs import FLOOR, normalised
from moorage.engines.vllm.faults import ShortLogprobs

ROWS = st.integers(1, 4).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(
            st.lists(st.tuples(st.integers(0, 99), st.floats(-50, 0)), min_size=k, max_size=k + 2),
            min_size=1,
            max_size=6,
        ),
    )
)


@given(ROWS)
def test_rows_have_exactly_k_the_likeliest_first(given_rows: tuple[int, list[list[tuple[int, float]]]]) -> None:
    k, rows = given_rows
    ids = list(range(len(rows) + 1))
    said = normalised(ids, PromptScores([None, *[-1.0] * len(rows)], [[], *rows]), k)
    assert said.prompt_tokens == ids
    assert (said.prompt_topk_token_ids[0], said.prompt_topk_logprobs[0], said.prompt_logprobs[0]) == ([], [], None)
    for row, names, values in zip(rows, said.prompt_topk_token_ids[1:], said.prompt_topk_logprobs[1:], strict=True):
        assert len(names) == len(values) == k
        assert values == sorted((value for _, value in row), reverse=True)[:k]
        assert set(zip(names, values, strict=True)) <= set(row)


def test_infinity_becomes_a_number() -> None:
    said = normalised([1, 2], PromptScores([None, -math.inf], [[], [(3, -math.inf)]]), 1)
    assert (said.prompt_logprobs, said.prompt_topk_logprobs) == ([None, FLOOR], [[], [FLOOR]])


@pytest.mark.parametrize(
    "scores",
    [
        PromptScores([None], [[]]),
        PromptScores([None, -1.0], [[], []]),
        PromptScores([None, None], [[], [(1, -1.0)]]),
    ],
)
def test_too_little_is_a_fault(scores: PromptScores) -> None:
    with pytest.raises(ShortLogprobs):
        normalised([1, 2], scores, 1)
