from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog.bundle import bundle_root, read_yaml
from moorage.catalog.locations import parse_json, parse_yaml, pointer_of, read_document
from moorage.errors import PreflightError, UsageError
from tests.unit.catalog.checkout_copy import ROOT, put


def make_bundle(folder: Path) -> Path:
    put(folder, "references/service.yaml", "{}")
    return folder


def test_a_checkout_is_its_own_bundle() -> None:
    assert bundle_root({}) == ROOT


def test_an_empty_variable_counts_as_unset() -> None:
    assert bundle_root({"MOORAGE_BUNDLE": ""}) == ROOT


def test_the_variable_wins_over_the_checkout(tmp_path: Path) -> None:
    assert bundle_root({"MOORAGE_BUNDLE": str(make_bundle(tmp_path))}) == tmp_path


def test_a_relative_variable_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert bundle_root({"MOORAGE_BUNDLE": "mine"}) == tmp_path / "mine"


def test_a_variable_that_is_no_bundle_is_never_passed_over(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        bundle_root({"MOORAGE_BUNDLE": str(tmp_path)})
    assert caught.value.code == "bundle_missing"
    assert str(tmp_path) in caught.value.message
    assert "MOORAGE_BUNDLE" in caught.value.hint


def test_an_installed_package_uses_the_copy_inside_itself(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "moorage"
    make_bundle(package / "bundle")
    assert bundle_root({}, package=package) == package / "bundle"


def test_no_bundle_anywhere_says_where_it_looked(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "moorage"
    with pytest.raises(PreflightError) as caught:
        bundle_root({}, package=package)
    assert caught.value.exit_status == 5
    assert str(package / "bundle") in caught.value.message
    assert "MOORAGE_BUNDLE" in caught.value.hint


def test_read_yaml_gives_the_values(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", "one: 1\nmany: [x, 2.5, null]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"one": 1, "many": ["x", 2.5, None]}


def test_read_yaml_refuses_a_key_that_is_there_twice(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", "one: 1\ntwo:\n  x: 1\n  x: 2\none: 3\n")
    with pytest.raises(UsageError) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert caught.value.data is not None
    assert [(fault["line"], fault["pointer"]) for fault in caught.value.data["faults"]] == [(4, "/two/x"), (5, "/one")]


def test_read_yaml_tells_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert caught.value.code == "no_such_file"


def test_read_yaml_runs_nothing_that_a_file_asks_for(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", f"x: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(UsageError):
        read_yaml(tmp_path / "a.yaml")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: c: d\n", 2, "mapping values"),
        ("a:\n\tb: 1\n", 2, "cannot start any token"),
        ("a: [1,\n  2\nb: 3\n", 3, "expected ',' or ']'"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 2026-13-45\n", 1, "month"),
        ("? [1]\n: 2\n", 1, "unhashable"),
        ("a: \x07\n", 1, "control characters"),
        (f"a: 1\nb: {'9' * 5000}\n", 2, "(4300 digits)"),
        (f"a: 1\nb: 0x{'f' * 5000}\n", 2, "(4300 digits)"),
        (f"a: 1\n? 0b{'1' * 20_000}\n: 2\n", 2, "(4300 digits)"),
    ],
)
def test_malformed_yaml_is_one_fault_with_its_line(text: str, line: int, part: str) -> None:
    document = parse_yaml("f.yaml", text)
    assert document.value is None
    assert [fault.line for fault in document.faults] == [line]
    assert part in document.faults[0].message


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a\n  <<: *a\n", "a: &a\n  <<: [*a, *a]\n  b: 1\n"])
def test_an_alias_inside_itself_is_not_followed_without_end(text: str) -> None:
    document = parse_yaml("f.yaml", text)
    assert (document.value is None) == bool(document.faults)


@pytest.mark.parametrize("opener", ["[", "- ", "? ", "{a: "])
def test_deep_nesting_is_refused_and_does_not_end_the_process(opener: str) -> None:
    document = parse_yaml("f.yaml", opener * 50_000)
    assert [fault.message for fault in document.faults] == ["not YAML: nested too deeply"]


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert parse_yaml("f.yaml", "[" + "[1], " * 500 + "2]").faults == ()


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ('{\n  "a": 1,\n}', 3, "Expecting property name"),
        ('{"a": 1} x', 1, "Extra data"),
        ('{"a": NaN}', 1, "NaN"),
        ("[" * 100_000, 1, "recursion"),
    ],
)
def test_malformed_json_is_one_fault_with_its_line(text: str, line: int, part: str) -> None:
    faults = parse_json("f.json", text).faults
    assert [fault.line for fault in faults] == [line]
    assert part in faults[0].message


def test_json_has_lines_with_tabs_and_escaped_emoji_too() -> None:
    document = parse_json("f.json", '{\n\t"face": "\\ud83d\\ude00",\n\t"b": [\n\t\t{"c": 1}]\n}')
    assert document.value["face"] == "😀"
    assert document.line(("b", 0, "c")) == 4


def test_duplicate_keys_of_json_are_faults() -> None:
    faults = parse_json("f.json", '{"a": 1,\n "b": {"c": 1,\n "c": 2}}').faults
    assert [(fault.line, fault.pointer) for fault in faults] == [(3, "/b/c")]


def test_text_that_is_not_utf8_is_a_fault_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"a: 1\nb: \xff\n")
    document = read_document(tmp_path, "f.yaml")
    assert document is not None
    assert [(fault.line, fault.message) for fault in document.faults] == [(2, "not UTF-8 text")]


def test_a_folder_in_place_of_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").mkdir()
    document = read_document(tmp_path, "f.yaml")
    assert document is not None
    assert "cannot be read" in document.faults[0].message


def test_a_missing_place_has_the_line_of_its_nearest_parent() -> None:
    document = parse_yaml("f.yaml", "a: 1\nb:\n  c:\n    - 1\n    - d: 2\n")
    assert document.line(()) == 1
    assert document.line(("b", "c", 1, "nothing", "here")) == 5
    assert document.line(("b", "c", 7)) == 3
    assert document.line(("b", "x")) == 2
    assert document.line(("x",)) == 1


def test_a_pointer_escapes_what_rfc_6901_says() -> None:
    assert pointer_of(("a/b", 0, "~c", "")) == "/a~1b/0/~0c/"


KEYS = st.text("abcdef/~ ", min_size=1, max_size=5).map(lambda text: f"k{text}k")
TREES = st.recursive(
    st.none(),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3) | st.lists(inner, min_size=1, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_every_leaf_is_found_on_its_line(tree: object) -> None:
    """Leaves are numbered and written one to a line, so the text itself says where each is."""
    import yaml

    leaves: dict[str, tuple[str | int, ...]] = {}

    def number(value: object, place: tuple[str | int, ...]) -> object:
        if isinstance(value, dict):
            return {key: number(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [number(item, (*place, index)) for index, item in enumerate(value)]
        leaves[f"leaf{len(leaves)}."] = place
        return f"leaf{len(leaves) - 1}."

    text = yaml.safe_dump(number(tree, ()), default_flow_style=False, sort_keys=False)
    document = parse_yaml("f.yaml", text)
    for leaf, place in leaves.items():
        expected = next(index for index, line in enumerate(text.splitlines(), start=1) if leaf in line)
        assert document.line(place) == expected


@given(st.text())
def test_any_text_is_values_or_faults(text: str) -> None:
    for document in (parse_yaml("f.yaml", text), parse_json("f.json", text)):
        lines = text.count("\n") + 2
        assert all(1 <= fault.line <= lines and fault.message for fault in document.faults)
