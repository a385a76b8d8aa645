"""How the examination reads replies, and what its table says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from models.train.evaluate import Score, examine, read_message, read_reply, table
from models.train.tasks import Question, Reply, tasks

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"a": 1, "b": 2, "op": "*"}}\n</tool_call>'
READ_CALL = ("calculator", {"a": 1, "b": 2, "op": "*"})


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("1+2=3<|im_end|>", Reply("1+2=3")),
        ("1+2=3<|im_end|><|endoftext|><|endoftext|>", Reply("1+2=3")),
        ("<think>\nones 1+2=3\n</think>\n\n1+2=3<|im_end|>", Reply("1+2=3", "ones 1+2=3")),
        ("<think>\nnever ends", Reply("<think>\nnever ends")),
        (CALL + "<|im_end|>", Reply("", "", (READ_CALL,))),
        (f"<think>\nso\n</think>\n\n{CALL}", Reply("", "so", (READ_CALL,))),
        (f"{CALL}\n{CALL}", Reply("", "", (READ_CALL, READ_CALL))),
        (f"Well: {CALL}", Reply("Well:", "", (READ_CALL,))),
        ('<tool_call>\n{"name": \n</tool_call>', Reply('<tool_call>\n{"name": \n</tool_call>')),
        ("<tool_call>\n3\n</tool_call>", Reply("<tool_call>\n3\n</tool_call>")),
    ],
)
def test_a_generated_text_is_read_as_an_engine_reads_it(text: str, reply: Reply) -> None:
    assert read_reply(text) == reply


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ({"content": "\n\n1+2=3", "reasoning": "\nones 1+2=3\n"}, Reply("1+2=3", "ones 1+2=3")),
        ({"content": "1+2=3", "reasoning": None, "tool_calls": []}, Reply("1+2=3")),
        ({"content": "<think>\nx\n</think>\n\n1"}, Reply("<think>\nx\n</think>\n\n1")),
        (
            {
                "content": None,
                "tool_calls": [{"function": {"name": "calculator", "arguments": json.dumps(READ_CALL[1])}}],
            },
            Reply("", "", (READ_CALL,)),
        ),
    ],
)
def test_a_servers_message_is_read(message: dict[str, Any], reply: Reply) -> None:
    assert read_message(message) == reply


def test_a_model_that_says_nothing_has_no_points() -> None:
    def silent(questions: Sequence[Question], temperature: float) -> list[Reply]:
        return [Reply("") for _ in questions]

    scores = examine(silent, 5)
    assert [score.task.name for score in scores] == [task.name for task in tasks()]
    assert all(score.right == 0 and not score.is_met for score in scores)
    assert table(scores).count("0.0% (missed)") == len(scores)


def test_the_table_marks_what_is_missed_on_either_side() -> None:
    by_name = {task.name: task for task in tasks()}
    rows = table(
        [
            Score(by_name["addition"], 97, 100),
            Score(by_name["addition"], 96, 100),
            Score(by_name["three digits"], 60, 100),
            Score(by_name["three digits"], 61, 100),
        ]
    ).splitlines()[2:]
    assert rows == [
        "| addition | 0 | ≥ 97% | 97.0% | 100 |",
        "| addition | 0 | ≥ 97% | 96.0% (missed) | 100 |",
        "| three digits | 1 | 20% to 60% | 60.0% | 100 |",
        "| three digits | 1 | 20% to 60% | 61.0% (missed) | 100 |",
    ]
