"""Exact match, patterns, schemas and math: what they take for right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import UsageError
from moorage.rewards.answers import take_answer
from moorage.rewards.functions.exact import ExactMatch
from moorage.rewards.functions.json_schema import JsonSchema
from moorage.rewards.functions.math_verify import MathVerify
from moorage.rewards.functions.regex import Regex
from moorage.rewards.sample import Sample, Score

SIMPLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def sample(said: str | None, right: Any = None, **fields: Any) -> Sample:
    return Sample(response=said, dataset_fields={**({} if right is None else {"ground_truth": right}), **fields})


@given(SIMPLE, st.lists(SIMPLE, max_size=3))
def test_exact_is_equality_of_texts(text: str, others: list[str]) -> None:
    strict = ExactMatch(ignore_blanks=False, ignore_thinking=False)
    plain = strict(sample(text, [*others, text]))
    assert plain.reward == 1.0
    assert strict(sample(text + "x", [text])).reward == 0.0
    assert ExactMatch(ignore_thinking=False)(sample(f" {text}\n", text)).reward == 1.0
    assert ExactMatch(ignore_thinking=False, ignore_case=True)(sample(text.casefold(), text)).reward == 1.0


@given(SIMPLE, SIMPLE)
def test_exact_is_symmetric(a: str, b: str) -> None:
    strict = ExactMatch(ignore_blanks=False, ignore_thinking=False)
    assert strict(sample(a, b)).reward == strict(sample(b, a)).reward


@pytest.mark.parametrize(
    ("said", "right", "options", "reward"),
    [
        ("<think>yes</think>\n no", "no", {}, 1),
        ("a  b\nc", "a b c", {}, 1),
        ("a  b", "a b", {"ignore_blanks": False}, 0),
        ("e\u0301", "\u00e9", {}, 1),
        ("true", True, {}, 1),
        ("5", 5.0, {}, 1),
        ("text\n#### 5", "5", {"take": "after"}, 1),
        ("text", "text", {"take": "after"}, 0),
        ("text\n\n5\n", "5", {"take": "last_line"}, 1),
        ("\\boxed{a\\boxed{b}} and \\boxed{c{d}e}", "c{d}e", {"take": "boxed"}, 1),
        ("<answer>a</answer><answer>b</answer>", "b", {"take": "tag"}, 1),
    ],
)
def test_exact(said: str, right: Any, options: dict[str, Any], reward: int) -> None:
    assert ExactMatch(**options)(sample(said, right)).reward == reward


def test_what_cannot_be_judged() -> None:
    for one in (sample("a"), sample("a", []), sample(None, "a")):
        with pytest.raises(UsageError) as told:
            ExactMatch()(one)
        assert told.value.code == "reward_input"
    nested = Sample(response="a", extra_fields={"x": {"y": "a"}})
    assert ExactMatch(answer_field="x.y")(nested).reward == 1.0


@given(st.text(max_size=40), st.sampled_from(["auto", "whole", "last_line", "after", "boxed", "tag"]))
def test_an_answer_is_part_of_the_text(text: str, take: Any) -> None:
    found = take_answer(text, take)
    assert found is None or found in text


def test_regex() -> None:
    assert Regex(pattern=r"\d+")(sample("ab 12")) == Score(1.0, {"match": "12"})
    assert Regex(pattern=r"\d+", whole=True, missed=-1)(sample("ab 12")).reward == -1
    assert Regex(pattern="AB", ignore_case=True, found=0.5)(sample("ab")).reward == 0.5
    named = Regex(pattern=r"= (?P<answer>\d+)")
    assert named(sample("x = 12", "12")).reward == 1.0
    assert named(sample("x = 13", 12)).reward == 0.0
    with pytest.raises(UsageError, match="pattern"):
        Regex(pattern="(" * 3)


SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ('{"a": 1}', 1),
        (' <think>{"a": "x"}</think> {"a": 1} ', 1),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', 1),
        ('```\n{"a": 0}\n``` or ```{"a": 1}```', 1),
        ('{"a": "1"}', 0),
        ('{"a": NaN}', 0),
        ("[" * 100_000, 0),
        ("```", 0),
        ("", 0),
    ],
)
def test_json_schema(said: str, reward: int) -> None:
    score = JsonSchema(schema=SCHEMA)(sample(said))
    assert score.reward == reward
    assert bool(score.info["errors"]) is not bool(reward)
    assert JsonSchema()(sample(said, json_schema=SCHEMA)).reward == reward


def test_schemas_that_are_none() -> None:
    with pytest.raises(UsageError) as told:
        JsonSchema(schema={"type": 3})
    assert told.value.code == "reward_options"
    for fields in ({}, {"schema": 3}, {"schema": {"type": "nothing"}}):
        with pytest.raises(UsageError) as told:
            JsonSchema()(sample("{}", **fields))
        assert told.value.code == "reward_input"


def test_references_to_elsewhere_are_not_followed(tmp_path: Any) -> None:
    (tmp_path / "any.json").write_text("{}")
    for there in ("http://127.0.0.1:9/schema.json", (tmp_path / "any.json").as_uri()):
        with pytest.raises(UsageError, match="cannot be followed") as told:
            JsonSchema(schema={"$ref": there})(sample("{}"))
        assert told.value.code == "reward_input"
    with pytest.raises(UsageError, match="no JSON Schema"):
        JsonSchema(schema={"additionalProperties": False, "patternProperties": {"(": {}}})


@pytest.mark.parametrize(
    ("said", "right", "reward"),
    [
        (r"So $\boxed{\frac{1}{2}}$.", "0.5", 1),
        (r"$x^2 + 2x + 1$", "$(x+1)^2$", 1),
        (r"$\boxed{\{1, 2\}}$", r"$\{2, 1\}$", 1),
        (r"\boxed{3}", "4", 0),
        ("no idea", "4", 0),
        (r"<think>\boxed{4}</think>\boxed{5}", "4", 0),
    ],
)
def test_math(said: str, right: str, reward: int) -> None:
    assert MathVerify()(sample(said, right)).reward == reward
