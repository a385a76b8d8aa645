"""The reply is JSON that a schema allows."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from moorage.errors import UsageError
from moorage.extras import package_missing
from moorage.rewards.answers import without_thinking
from moorage.rewards.sample import Sample, Score

__all__ = ["JsonSchema"]

FENCE = "```"
MOST_ERRORS = 5
SCHEMA_PLACES = ("json_schema", "schema")


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """1 when the reply is JSON that the schema allows, else 0. The schema is an option, or the data set has one each.

    References to other documents are not followed.
    """

    version: ClassVar[str] = "1"
    schema: dict[str, Any] | None = None
    """None: `json_schema` or `schema` of dataset_fields."""
    schema_field: str | None = None
    fenced: bool = True
    """The last fenced block counts when the whole reply is no JSON."""
    ignore_thinking: bool = True

    def __post_init__(self) -> None:
        if importlib.util.find_spec("jsonschema") is None:
            raise package_missing("jsonschema", "the reward json_schema needs the extra", "rewards")
        if self.schema is not None:
            _validator(self.schema, "reward_options")

    def __call__(self, sample: Sample) -> Score:
        validator = _validator(self._schema(sample), "reward_input")
        text = without_thinking(sample.text) if self.ignore_thinking else sample.text
        try:
            value = _read(text, fenced=self.fenced)
        except (ValueError, RecursionError) as fault:
            return Score(0.0, {"errors": [f"not JSON: {fault}"[:200]]})
        errors = _errors(validator, value)
        return Score(float(not errors), {"errors": errors})

    def _schema(self, sample: Sample) -> Any:
        if self.schema is not None:
            return self.schema
        places = (self.schema_field,) if self.schema_field is not None else SCHEMA_PLACES
        schema = next((found for name in places if (found := sample.field(name)) is not None), None)
        if not isinstance(schema, dict | bool):
            raise UsageError(f"dataset_fields has no schema under {' or '.join(places)}", code="reward_input")
        return schema


def _validator(schema: Any, code: str) -> Any:
    """Raises UsageError for a schema that is none."""
    import jsonschema
    import referencing

    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as fault:
        message = str(getattr(fault, "message", fault))[:200]
        raise UsageError(f"the schema is no JSON Schema: {message}", code=code) from None
    # An empty registry: what it does not have is not looked for, on disk or elsewhere.
    return kind(schema, registry=referencing.Registry())


def _errors(validator: Any, value: Any) -> list[str]:
    """The first ones. Raises UsageError for a schema that cannot be followed: a reference, a pattern."""
    import referencing.exceptions

    try:
        found = itertools.islice(validator.iter_errors(value), MOST_ERRORS)
        return [f"{error.json_path}: {error.message}"[:200] for error in found]
    except (referencing.exceptions.Unresolvable, re.error) as fault:
        raise UsageError(f"the schema cannot be followed: {fault}"[:300], code="reward_input") from None


def _read(text: str, *, fenced: bool) -> Any:
    """Raises ValueError."""
    try:
        return _strict(text)
    except ValueError:
        before, found, _ = text.rpartition(FENCE)
        if not fenced or not found:
            raise
        block = before.rpartition(FENCE)[2]
        head, newline, rest = block.partition("\n")
        return _strict(rest if newline and head.strip().isalnum() else block)


def _strict(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
