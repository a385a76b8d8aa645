"""Calls that a request demands, as JSON: the schema for the engine, and the reply read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.parsing.forced import forced_calls, forced_schema, named_tool

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "$defs": {"p": {}}}}}
WAIT = {"type": "function", "function": {"name": "wait"}}
NAMED = {"type": "function", "function": {"name": "look"}}


def test_required_is_a_list_of_any_call() -> None:
    schema = forced_schema([LOOK, WAIT], "required")
    assert schema is not None
    names = [one["properties"]["name"]["enum"] for one in schema["items"]["anyOf"]]
    assert (names, schema["minItems"], schema["$defs"]) == ([["look"], ["wait"]], 1, {"p": {}})
    assert "maxItems" not in schema
    assert (forced_schema([LOOK], "required", single=True) or {})["maxItems"] == 1
    assert "$defs" in LOOK["function"]["parameters"]  # the request's own tools stay as they are


def test_a_name_is_its_arguments() -> None:
    assert forced_schema([LOOK, WAIT], NAMED) == LOOK["function"]["parameters"]
    assert forced_schema([WAIT], NAMED) is None
    assert named_tool("required") is None
    assert named_tool({"function": {"name": 7}}) is None


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_nothing_is_demanded(choice: Any) -> None:
    assert forced_schema([LOOK], choice) is None
    assert forced_calls('[{"name": "look", "parameters": {}}]', choice, new_id=str) == []


ARGUMENTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["look", "wait"]), ARGUMENTS), min_size=1, max_size=4))
def test_calls_are_read_as_they_were_written(calls: list[tuple[str, dict[str, Any]]]) -> None:
    text = json.dumps([{"name": name, "parameters": arguments} for name, arguments in calls])
    found = forced_calls("<think>so</think>\n" + text, "required", new_id=lambda: "7")
    assert [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in found] == calls
    assert {one["id"] for one in found} == {"call-7"}


@given(st.text(max_size=30))
def test_any_text_is_read_without_a_fault(text: str) -> None:
    for choice in ("required", NAMED):
        forced_calls(text, choice, new_id=str)


@pytest.mark.parametrize(
    "text", [None, "", "[", "{}", "[1]", '[{"name": 1}]', '[{"name": "a", "parameters": 2}]', "[" * 9999]
)
def test_what_is_no_list_of_calls_is_none(text: str | None) -> None:
    assert forced_calls(text, "required", new_id=str) == []
