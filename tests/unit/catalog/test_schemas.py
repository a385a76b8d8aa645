from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from moorage.catalog.schemas import FOLDER, drift, schema_texts, write
from moorage.catalog.validate import validate
from tests.unit.catalog.checkout_copy import ROOT, copy_checkout, put, swap

FILES = {
    "service": ["references/service.yaml"],
    "request": ["references/request.yaml"],
    "code-templates": ["references/code-templates.yaml"],
    "versions": ["versions.yaml"],
    "network-arch-config": sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("references/*.config.json")),
}


def schema(name: str) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(schema_texts()[f"{FOLDER}/{name}.schema.json"])
    return text


def test_the_committed_schemas_are_what_the_shapes_say() -> None:
    assert drift(ROOT) == []


def test_the_text_is_the_same_every_time() -> None:
    assert schema_texts() == schema_texts()


@pytest.mark.parametrize("name", FILES)
def test_a_schema_accepts_the_real_files(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert FILES[name]
    for file in FILES[name]:
        Draft202012Validator(schema(name)).validate(yaml.safe_load((ROOT / file).read_text()))


@pytest.mark.parametrize("name", FILES)
def test_a_schema_refuses_unknown_keys_at_every_level_that_has_names(name: str) -> None:
    value = yaml.safe_load((ROOT / FILES[name][0]).read_text())
    assert list(Draft202012Validator(schema(name)).iter_errors(value | {"nonsense": 1}))
    for definition in [schema(name), *schema(name).get("$defs", {}).values()]:
        if "properties" in definition:
            assert definition["additionalProperties"] is False


def test_a_schema_says_what_a_field_means() -> None:
    properties = schema("service")["$defs"]["ContainerCommand"]["properties"]
    assert properties["program"]["description"] == "What must be on PATH where there is no container."


def test_drift_of_every_kind_is_a_fault_with_its_line(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path)
    swap(root, f"{FOLDER}/versions.schema.json", '"title": "versions.yaml"', '"title": "other.yaml"')
    (root / FOLDER / "request.schema.json").unlink()
    (root / FOLDER / "service.schema.json").write_bytes(b"\xff")
    put(root, f"{FOLDER}/left-over.schema.json", "{}")
    found = {(fault.file, fault.line, fault.message) for fault in drift(root)}
    assert found == {
        (f"{FOLDER}/versions.schema.json", 3, "not what the shapes say"),
        (f"{FOLDER}/request.schema.json", 1, "the schema is missing"),
        (f"{FOLDER}/service.schema.json", 1, "not UTF-8 text"),
        (f"{FOLDER}/left-over.schema.json", 1, "no shape has this schema"),
    }


def test_drift_is_a_fault_of_validate_only_when_asked_for(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path)
    swap(root, f"{FOLDER}/versions.schema.json", '"title": "versions.yaml"', '"title": "other.yaml"')
    assert validate(root).faults == ()
    assert [fault.file for fault in validate(root, check=True).faults] == [f"{FOLDER}/versions.schema.json"]


def test_write_makes_every_schema_fresh_and_touches_no_other(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path)
    (root / FOLDER / "request.schema.json").unlink()
    assert write(root) == [f"{FOLDER}/request.schema.json"]
    assert write(root) == []
    assert drift(root) == []
    assert sorted(write(tmp_path / "empty")) == sorted(schema_texts())
