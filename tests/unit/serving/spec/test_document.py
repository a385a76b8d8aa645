"""Bodies: what is read, what is refused and how, and that nothing else ever comes out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.spec.document import BODY_BYTES, DEEPEST, read_document
from moorage.serving.spec.faults import SpecError
from moorage.serving.spec.scalars import Unclear

JSON = "application/json"


def refusal(body: bytes | str, content_type: str | None = None, **more: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read_document(body.encode() if isinstance(body, str) else body, content_type, **more)
    return caught.value


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "Application/YAML ; charset=UTF-8",
        'application/yaml;charset="utf-8"',
    ],
)
def test_yaml_by_each_of_its_names(content_type: str | None) -> None:
    assert read_document(b"model_id: a\nnum_replicas: 2\n", content_type) == {"model_id": "a", "num_replicas": 2}


def test_json() -> None:
    body = b'{"a": [1, 1.5, true, null, "x", {"b": {}}]}'
    assert read_document(body, "application/json; charset=utf-8") == json.loads(body)
    assert read_document(body, None) == json.loads(body)  # which is YAML too


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/merge-patch+json",
        "application/yaml; charset=latin-1",
        "yaml",
    ],
)
def test_other_content_types_are_415(content_type: str) -> None:
    fault = refusal(b"a: 1", content_type)
    assert (fault.status, fault.code) == (415, "unsupported_media_type")


def test_a_merge_patch_is_taken_where_one_is_meant() -> None:
    assert read_document(b'{"a": 1}', "application/merge-patch+json", patch=True) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", "x"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1.0e+3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1.2.3", "1.2.3"),
        ("qwen-0.5b", "qwen-0.5b"),
        ("$HOME/m", "$HOME/m"),
        ("|\n  yes\n", "yes\n"),
        ("nope", "nope"),
        ("yesterday", "yesterday"),
        ("7b", "7b"),
        ("2026-01-06-run", "2026-01-06-run"),
        ("-", None),
    ],
)
def test_what_a_word_means(text: str, value: object) -> None:
    if text == "-":
        assert read_document(b"a:\n  -\n", None) == {"a": [None]}
        return
    found = read_document(f"a: {text}".encode(), None)["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "No",
        "on",
        "OFF",
        "012",
        "1_000",
        "0x1f",
        "0o17",
        "0b1",
        "12:30",
        "12:30:45.5",
        "1e3",
        "1.5e3",
        "2026-01-06",
        "2026-01-06 12:30:00",
        "2026-01-06T12:30:00Z",
        ".inf",
        "-.INF",
        ".nan",
        "1.0e+999",
        "9" * 5000,
        "01.5",
        "=",
    ],
)
def test_what_no_word_means(text: str) -> None:
    assert isinstance(read_document(f"a: {text}".encode(), None)["a"], Unclear)


def test_numbers_that_json_cannot_hold() -> None:
    assert isinstance(read_document(b'{"a": 1e999}', JSON)["a"], Unclear)
    assert isinstance(read_document(b'{"a": %s}' % (b"9" * 5000), JSON)["a"], Unclear)
    assert read_document(b'{"a": %s}' % (b"9" * 4000), JSON)["a"] == int("9" * 4000)
    assert refusal('{"a": NaN}', JSON).code == "not_finite"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("a: &x 1\nb: *x", "yaml_anchor"),
        ("&x a: 1", "yaml_anchor"),
        ("a: &x {b: *x}", "yaml_anchor"),
        ("a: *x", "yaml_alias"),
        ("a: !!python/object/apply:os.system [id]", "yaml_tag"),
        ("!!python/name:os.system ''", "yaml_tag"),
        ("a: !x 1", "yaml_tag"),
        ("a: !!str 7", "yaml_tag"),
        ("a: ! 7", "yaml_tag"),
        ("a: !<tag:yaml.org,2002:int> 7", "yaml_tag"),
        ("a: !!binary aGk=", "yaml_tag"),
        ("!!map {a: 1}", "yaml_tag"),
        ("%TAG ! tag:x,2026:\n---\na: 1", "yaml_tag"),
        ("a: 1\na: 2", "duplicate_key"),
        ("a: {b: 1, 'b': 2}", "duplicate_key"),
        ("a: 1\n---\nb: 2", "yaml_documents"),
        ("a: 1\n...\n---\n", "yaml_documents"),
        ("7: a", "key_not_text"),
        ("yes: a", "key_not_text"),
        ("? [a]\n: b", "key_not_text"),
        ("? {a: 1}\n: b", "key_not_text"),
        ("<<: {a: 1}", "key_not_text"),
        ("- a", "not_a_mapping"),
        ("a", "not_a_mapping"),
        ("7", "not_a_mapping"),
        ("null", "not_a_mapping"),
        ("--- # nothing", "not_a_mapping"),
        ("", "empty_document"),
        (" \n\t\n", "empty_document"),
        ("a: [", "invalid_yaml"),
        ("a: 'x", "invalid_yaml"),
        ("a: b: c", "invalid_yaml"),
        ("\ta: 1", "invalid_yaml"),
        ("a: \x00", "invalid_yaml"),
        ("a: \x07", "invalid_yaml"),
        ('a: "\\ud800"', "invalid_yaml"),
        ("%YAML 9.9\n---\na: 1", "invalid_yaml"),
        ("a: @x", "invalid_yaml"),
        ("{" * (DEEPEST + 1), "key_not_text"),
        ("{a: " * (DEEPEST + 1), "too_deep"),
        ("- " * (DEEPEST + 1) + "a", "too_deep"),
        ("[" * 100_000, "too_deep"),
        ("? " * 5_000, "key_not_text"),
    ],
)
def test_yaml_that_is_refused(body: str, code: str) -> None:
    fault = refusal(body)
    assert (fault.status, fault.code) == (400, code), fault.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"),
        ("a: 1", "invalid_json"),
        ('{"a": 1} x', "invalid_json"),
        ("{'a': 1}", "invalid_json"),
        ('{"a": 1,}', "invalid_json"),
        ('{"a": "\x01"}', "invalid_json"),
        ('{"a": 1, "a": 1}', "duplicate_key"),
        ('{"a": {"b": 1, "\\u0062": 1}}', "duplicate_key"),
        ("[]", "not_a_mapping"),
        ("null", "not_a_mapping"),
        ('"a"', "not_a_mapping"),
        ("", "empty_document"),
        ('{"a": "\\ud800"}', "not_unicode"),
        ('{"\\udfff": 1}', "not_unicode"),
        ('{"a": Infinity}', "not_finite"),
        ('{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), "too_deep"),
        ("[" * 100_000, "too_deep"),
        ('{"a":' * 40_000, "too_deep"),
    ],
)
def test_json_that_is_refused(body: str, code: str) -> None:
    fault = refusal(body, JSON)
    assert (fault.status, fault.code) == (400, code), fault.message


@pytest.mark.parametrize("content_type", [None, JSON])
def test_the_deepest_that_is_taken(content_type: str | None) -> None:
    body = '{"a": ' * DEEPEST + "1" + "}" * DEEPEST
    assert read_document(body.encode(), content_type)


@pytest.mark.parametrize(
    "body", [b"\xff", b"a: \xc3\x28", "a: ä".encode("latin-1"), "a: 1".encode("utf-16"), b"a: \xed\xa0\x80"]
)
def test_what_is_not_utf_8(body: bytes) -> None:
    assert refusal(body).code == "not_utf8"
    assert refusal(body, JSON).code == "not_utf8"


def test_unicode_stays_as_it_is() -> None:
    text = "a: 模型\n\U0001f600: é\n"
    assert read_document(text.encode(), None) == {"a": "模型", "\U0001f600": "é"}
    assert read_document(b"\xef\xbb\xbfa: 1", None) == {"a": 1}


def test_bodies_of_any_size_are_answered_soon() -> None:
    """10 MB, and the worst that 256 KiB can hold."""
    began = time.monotonic()
    assert refusal(b"a: " + b"x" * 10_000_000).status == 413
    for unit in (b"a, ", b"{a: b}, ", b'"\\u0061", ', b"- ", b"? ", b"[], ", b"!x "):
        body = b"a: [" + unit * ((BODY_BYTES - 10) // len(unit)) + b"]"
        try:
            read_document(body, None)
        except SpecError as fault:
            assert fault.status == 400
    lines = b"\n".join(b"k%d:" % number for number in range(20_000))
    assert len(read_document(lines, None)) == 20_000
    assert time.monotonic() - began < 60


def test_the_parser_in_python_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read_document("a: 1\nb: [x, {c: '7'}]\nä: é".encode(), None) == {"a": 1, "b": ["x", {"c": "7"}], "ä": "é"}
    for body, code in (
        ("a: &x 1", "yaml_anchor"),
        ("a: !x 1", "yaml_tag"),
        ("[" * 5000, "too_deep"),
        ("a: [", "invalid_yaml"),
    ):
        assert refusal(body).code == code
    assert refusal('a: "\\ud800"').code in ("invalid_yaml", "not_unicode")
    assert refusal(b"a: \x00").code == "invalid_yaml"


fragments = st.sampled_from(
    [
        "a",
        "b: ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "&x ",
        "*x",
        "!!str ",
        "! ",
        "'",
        '"',
        "\\",
        "|\n ",
        ">-\n",
        "%",
        "@",
        "`",
        "#",
        "\n",
        "  ",
        "\t",
        "---\n",
        "...\n",
        "<<",
        "~",
        "null",
        "1",
        ".5",
        "0x",
        "é",
        "\u2028",
        "\x85",
        "\ufeff",
        "\x00",
        "\\ud800",
        "\\u0061",
        "\U0001f600",
        '"a": ',
        "1e999",
    ]
)
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(fragments, max_size=40).map("".join).map(str.encode),
    st.text(max_size=100).map(str.encode),
)


@given(
    contents,
    st.one_of(st.sampled_from([None, "application/yaml", JSON, ";", "a;charset"]), st.text(max_size=20)),
    st.booleans(),
)
def test_nothing_but_a_mapping_or_a_spec_error(body: bytes, content_type: str | None, patch: bool) -> None:
    try:
        found = read_document(body, content_type, patch=patch)
    except SpecError as fault:
        assert fault.status in (400, 413, 415)
        json.dumps(fault.message).encode()
        return
    assert isinstance(found, dict)
    assert_plain(found)


def assert_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, inside in value.items():
            assert isinstance(key, str) and key.encode() is not None
            assert_plain(inside)
    elif isinstance(value, list):
        for inside in value:
            assert_plain(inside)
    else:
        assert value is None or type(value) in (str, int, float, bool, Unclear)
        json.dumps(getattr(value, "text", value), allow_nan=False).encode()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_json_reads_what_json_writes(document: dict[str, Any]) -> None:
    assert read_document(json.dumps(document).encode(), JSON) == document
