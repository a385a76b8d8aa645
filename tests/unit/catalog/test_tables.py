"""Generated tables: what is in them, and how documents are kept fresh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.tables import render_tables, sampling_table, stale_tables, write_tables
from moorage.catalog.validate import validate
from moorage.errors import UsageError
from tests.unit.catalog.checkout_copy import ROOT, SKILL, copy_checkout, line_of, put, swap

PLACE = "<!-- generated:{} -->\n{}<!-- /generated -->\n"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_every_table_is_rectangular_markdown(catalog: Catalog) -> None:
    for name, table in render_tables(catalog).items():
        rows = cells(table)
        assert len(rows) >= 3, name
        assert {len(row) for row in rows} == {len(rows[0])}, name
        assert set(rows[1]) == {"---"}


def test_every_arch_has_its_row(catalog: Catalog) -> None:
    rows = {row[0].strip("`"): row for row in cells(render_tables(catalog)["archs"])[2:]}
    assert sorted(rows) == catalog.archs
    assert rows["cosmos-rl"][1:4] == [
        "`nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl`",
        "model, or `hf_model://`",
        "required",
    ]
    assert "--model-key" in rows["cosmos-predict2.5"][2]
    assert rows["vllm"][5] == "`/health` and `/v1/models`"


def test_an_arch_without_a_sidecar_shows_the_fallback(catalog: Catalog) -> None:
    sidecars = {arch: sidecar for arch, sidecar in catalog.sidecars.items() if arch != "tao-dataservices"}
    table = render_tables(replace(catalog, sidecars=sidecars))["archs"]
    row = next(row for row in cells(table) if row[0] == "`tao-dataservices`")
    assert row[1] == "`nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl`"


def test_a_sampling_table_shows_defaults_and_ranges(catalog: Catalog) -> None:
    rows = {row[0].strip("`"): row for row in cells(sampling_table(catalog, ["cosmos-predict2.5"]))[2:]}
    assert rows["guidance"][1:5] == ["`--guidance`", "integer", "7", "0 to 7"]
    assert rows["num_steps"][4] == "≥ 1"
    assert rows["negative_prompt"][3:5] == ["none", "any"]
    assert "temperature" not in rows
    assert cells(sampling_table(catalog, ["vllm"]))[3][4] == "> 0, ≤ 1"


def test_archs_that_agree_on_a_field_share_its_row(catalog: Catalog) -> None:
    rows = cells(sampling_table(catalog, catalog.archs))[2:]
    fields = [row[1] for row in rows]
    assert fields == sorted(fields, key=fields.index)  # rows of a field stand together
    said = {(arch.strip("` "), row[1].strip("`")) for row in rows for arch in row[0].split(",")}
    assert said == {(arch, name) for arch in catalog.archs for name in catalog.sampling_fields(arch)}


def test_every_secret_is_in_the_table(catalog: Catalog) -> None:
    assert all(f"`{name}`" in render_tables(catalog)["secrets"] for name in catalog.secret_names)


def test_documents_are_written_and_then_fresh(root: Path) -> None:
    documents = {
        "SKILL.md": SKILL + PLACE.format("archs", "old\n"),
        "README.md": "top\n"
        + PLACE.format("secrets", "")
        + "between\n"
        + PLACE.format("sampling-vllm", "x\n")
        + "end\n",
        "docs/more.md": PLACE.format("responses", ""),
        "skills/platform/local-docker/SKILL.md": "---\nname: local-docker\ndescription: d\n---\n"
        + PLACE.format("images", ""),
        "docs/deeper/still.md": PLACE.format("archs", "not looked at\n"),
    }
    for file, text in documents.items():
        put(root, file, text)
    stale = {(fault.file, fault.line) for fault in validate(root, check=True).faults}
    assert stale == {
        ("SKILL.md", 6),
        ("README.md", 2),
        ("README.md", 5),
        ("docs/more.md", 1),
        ("skills/platform/local-docker/SKILL.md", 5),
    }
    assert validate(root).faults == ()
    assert write_tables(root) == sorted(set(documents) - {"docs/deeper/still.md"})
    assert validate(root, check=True).faults == ()
    assert write_tables(root) == []
    readme = (root / "README.md").read_text()
    assert readme.startswith("top\n<!-- generated:secrets -->\n\n| Variables |")
    assert "<!-- /generated -->\nbetween\n<!-- generated:sampling-vllm -->\n\n| Field |" in readme
    assert readme.endswith("<!-- /generated -->\nend\n")


def test_a_table_goes_stale_with_the_data(root: Path) -> None:
    put(root, "README.md", PLACE.format("sampling-cosmos-predict2.5", ""))
    write_tables(root)
    swap(root, "references/request.yaml", "default: 77", "default: 93")
    assert [fault.message for fault in stale_tables(root)] == ["the table 'sampling-cosmos-predict2.5' is not fresh"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x\n<!-- generated:arch -->\n<!-- /generated -->\n", "no table 'arch'"),
        ("x\n<!-- generated:archs -->\ny\n", "does not end"),
        ("x\n<!-- generated:archs -->\n<!-- generated:images -->\n<!-- /generated -->\n", "does not end"),
        ("x\n<!-- /generated -->\n", "does not begin"),
    ],
)
def test_a_place_that_is_none_is_a_fault_and_left_alone(root: Path, text: str, part: str) -> None:
    put(root, "README.md", text)
    assert [part in fault.message for fault in stale_tables(root) if fault.line == 2] == [True]
    write_tables(root)
    assert (root / "README.md").read_text().startswith("\n".join(text.splitlines()[:2]))
    assert [part in fault.message for fault in stale_tables(root) if fault.line == 2] == [True]


def test_an_unknown_table_names_its_neighbour(root: Path) -> None:
    put(root, "README.md", PLACE.format("arch", ""))
    [fault] = stale_tables(root)
    assert fault.line == line_of(root, "README.md", "generated:arch")
    assert "'archs'" in fault.hint


def test_tables_of_references_with_faults_are_not_judged(root: Path) -> None:
    put(root, "README.md", PLACE.format("archs", "old\n"))
    swap(root, "references/request.yaml", "default: 77", "default: 0")
    assert [fault.file for fault in validate(root, check=True).faults] == ["references/request.yaml"]
    with pytest.raises(UsageError):
        write_tables(root)


PIECES = ["a\n", "| x |\n", PLACE.format("archs", "b\n"), PLACE.format("media", "")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6))
def test_writing_changes_tables_alone_and_only_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    copy_checkout(folder)
    put(folder, "README.md", "".join(pieces))
    write_tables(folder)
    assert stale_tables(folder) == []
    kept = [line for line in (folder / "README.md").read_text().splitlines() if line == "a"]
    assert len(kept) == pieces.count("a\n")
