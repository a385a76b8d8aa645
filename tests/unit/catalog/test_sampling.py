from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.sampling import check_values, defaults, fields_of, missing_flags, parse_field
from moorage.catalog.shapes import SamplingField
from moorage.errors import UsageError

ROOT = Path(__file__).parents[3]
NUMBERS = st.integers() | st.floats(allow_nan=True, allow_infinity=True)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


def refusal(catalog: Catalog, arch: str, values: dict[str, Any]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        check_values(catalog, arch, values)
    assert caught.value.exit_status == 2
    return caught.value


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("cosmos-rl", {"max_tokens": 1024, "top_p": 0.8, "temperature": 0.7}),
        ("cosmos-predict2.5", {"max_tokens": 77, "guidance": 7, "num_steps": 35, "seed": 0}),
        ("tao-dataservices", {"max_tokens": 1024, "top_p": 0.8, "temperature": 0.7}),
    ],
)
def test_defaults_are_those_of_the_tao_skill(catalog: Catalog, arch: str, expected: dict[str, Any]) -> None:
    assert defaults(catalog, arch) == expected


def test_a_field_without_a_default_is_taken_and_never_missing(catalog: Catalog) -> None:
    assert "negative_prompt" in fields_of(catalog, "cosmos-predict2.5")
    assert missing_flags(catalog, "cosmos-predict2.5", {}) == ["--max-tokens", "--guidance", "--num-steps", "--seed"]
    assert missing_flags(catalog, "cosmos-predict2.5", {"seed": 1, "guidance": 0}) == ["--max-tokens", "--num-steps"]
    assert missing_flags(catalog, "vllm", defaults(catalog, "vllm")) == []


def test_every_default_is_a_value_that_its_arch_takes(catalog: Catalog) -> None:
    for arch in catalog.archs:
        check_values(catalog, arch, defaults(catalog, arch))


@pytest.mark.parametrize(
    ("arch", "field", "takers"),
    [
        ("cosmos-rl", "guidance", ["cosmos-predict2.5"]),
        ("cosmos-rl", "negative_prompt", ["cosmos-predict2.5"]),
        ("tao-dataservices", "num_steps", ["cosmos-predict2.5"]),
        ("cosmos-rl", "seed", ["cosmos-predict2.5", "vllm", "sglang"]),
        ("cosmos-predict2.5", "temperature", ["cosmos-rl", "tao-dataservices", "vllm", "sglang"]),
        ("cosmos-predict2.5", "top_p", ["cosmos-rl"]),
    ],
)
def test_a_field_of_another_arch_names_the_field_and_who_has_it(
    catalog: Catalog, arch: str, field: str, takers: list[str]
) -> None:
    fault = refusal(catalog, arch, {field: 1})
    assert fault.code == "unsupported_field"
    assert f"arch {arch} does not take {field}" in fault.message
    assert all(taker in fault.message.partition("archs that do:")[2] for taker in takers)
    assert arch not in fault.message.partition("archs that do:")[2]


@pytest.mark.parametrize(
    ("arch", "field", "good", "bad"),
    [
        ("cosmos-rl", "temperature", [0, 0.0, 2, 1.5, -0.0], [-0.01, 2.01, 3]),
        ("cosmos-rl", "top_p", [0.01, 1, 1.0], [0, 0.0, 1.01, -1]),
        ("cosmos-rl", "max_tokens", [1, 10**9], [0, -1]),
        ("cosmos-predict2.5", "guidance", [0, 7], [-1, 8]),
        ("cosmos-predict2.5", "num_steps", [1], [0]),
        ("tao-dataservices", "temperature", [0, 100.0], [-1]),
    ],
)
def test_ranges_are_kept_and_told(catalog: Catalog, arch: str, field: str, good: list[float], bad: list[float]) -> None:
    for value in good:
        check_values(catalog, arch, {field: value})
    for value in bad:
        fault = refusal(catalog, arch, {field: value})
        assert fault.code == "bad_value"
        assert field in fault.message
        assert "at least" in fault.message or "above" in fault.message
        assert fault.hint.startswith(f"give {field} ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_tokens", 2.0),
        ("max_tokens", "7"),
        ("max_tokens", None),
        ("guidance", [7]),
        ("seed", {}),
        ("seed", math.nan),
        ("negative_prompt", 3),
        ("negative_prompt", False),
    ],
)
def test_wrong_types_are_refused(catalog: Catalog, field: str, value: object) -> None:
    fault = refusal(catalog, "cosmos-predict2.5", {field: value})
    assert fault.code == "bad_value"
    assert field in fault.message


@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, "0.5", None, [1]])
def test_numbers_are_numbers(catalog: Catalog, value: object) -> None:
    assert refusal(catalog, "cosmos-rl", {"temperature": value}).code == "bad_value"


def test_all_faults_are_told_at_once(catalog: Catalog) -> None:
    fault = refusal(
        catalog, "cosmos-rl", {"temperature": 9, "guidance": 7, "max_tokens": "x", "top_p": 0.5, "top_k": 3}
    )
    assert fault.code == "unsupported_field"
    assert fault.data is not None
    found = {entry["field"]: entry["code"] for entry in fault.data["faults"]}
    assert found == {"temperature": "bad_value", "guidance": "unsupported_field", "max_tokens": "bad_value"}
    assert all(entry["message"] in fault.message and entry["hint"] for entry in fault.data["faults"])


@given(values=st.dictionaries(st.sampled_from(["top_k", "return_token_ids", "stop", "n"]), NUMBERS | st.none()))
def test_fields_that_no_arch_knows_are_not_looked_at(catalog: Catalog, values: dict[str, object]) -> None:
    check_values(catalog, "cosmos-rl", values)


@given(data=st.data(), value=NUMBERS)
def test_a_number_is_taken_exactly_when_it_is_of_the_type_and_in_the_range(
    catalog: Catalog, data: st.DataObject, value: float
) -> None:
    arch = data.draw(st.sampled_from(catalog.archs))
    fields = {name: field for name, field in fields_of(catalog, arch).items() if field.type != "string"}
    name = data.draw(st.sampled_from(sorted(fields)))
    field = fields[name]
    lowest = -math.inf if field.minimum is None else field.minimum
    highest = math.inf if field.maximum is None else field.maximum
    good = lowest <= value <= highest and math.inf not in (value, -value)
    good = good and (field.exclusive_minimum is None or value > field.exclusive_minimum)
    good = good and (field.type == "number" or isinstance(value, int))
    if good:
        check_values(catalog, arch, {name: value})
    else:
        refusal(catalog, arch, {name: value})


def test_an_endless_number_is_refused_in_a_short_message(catalog: Catalog) -> None:
    fault = refusal(catalog, "cosmos-rl", {"temperature": 10**6000})
    assert len(fault.message) < 200


def field_of(kind: str) -> SamplingField:
    document = {"type": kind, "flag": "--x", "default": None, "minimum": None, "description": "x"}
    return SamplingField.model_validate(document)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "0.5", 0.5),
        ("number", "1", 1.0),
        ("number", " .5 ", 0.5),
        ("number", "-1e-3", -0.001),
        ("integer", "77", 77),
        ("integer", "+7", 7),
        ("integer", "-7", -7),
        ("string", "", ""),
        ("string", " blurry ", " blurry "),
    ],
)
def test_flag_texts_become_values(kind: str, text: str, value: object) -> None:
    parsed = parse_field(field_of(kind), text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[("number", text) for text in ("", "nan", "inf", "-Infinity", "0x1", "1_0", "1,5", "e5", "٣", "1e", "." )],
        *[("integer", text) for text in ("", "1.5", "1.0", "1e3", "1_000", "٣", "true", "9" * 5000)],
    ],
)  # fmt: skip
def test_other_texts_name_the_flag(kind: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_field(field_of(kind), text)
    assert "--x" in caught.value.message
    assert len(caught.value.message) < 200


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_prints_is_read_back(value: float) -> None:
    assert parse_field(field_of("number"), repr(value)) == value


@given(st.text())
def test_any_text_is_a_finite_number_or_refused(text: str) -> None:
    try:
        value = parse_field(field_of("number"), text)
    except UsageError:
        return
    assert isinstance(value, float)
