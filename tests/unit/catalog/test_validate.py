"""Real files with one thing broken each: the fault is found, at its line, at its pointer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.catalog.catalog import load_catalog
from moorage.catalog.locations import Fault
from moorage.catalog.validate import validate
from moorage.errors import UsageError
from tests.unit.catalog.broken_references import BROKEN, REQUEST, SERVICE, TEMPLATES, VERSIONS
from tests.unit.catalog.checkout_copy import ROOT, copy_checkout, line_of, put, swap

SIDECAR = "references/vllm.config.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path)


def the_fault(root: Path) -> Fault:
    faults = validate(root).faults
    assert len(faults) == 1, faults
    return faults[0]


def test_the_real_references_have_no_faults(root: Path) -> None:
    report = validate(root, check=True)
    assert report.faults == ()
    readable = [path for path in (root / "references").rglob("*") if path.suffix in (".yaml", ".json")]
    assert report.files == len(readable) + len(["versions.yaml", "SKILL.md"])


@pytest.mark.parametrize(
    ("file", "old", "new", "pointer", "part"), BROKEN, ids=[f"{row[3]}: {row[4]}" for row in BROKEN]
)
def test_a_broken_thing_is_found_where_it_is(
    root: Path, file: str, old: str, new: str, pointer: str, part: str
) -> None:
    swap(root, file, old, new)
    faults = validate(root).faults
    found = [fault for fault in faults if fault.pointer == pointer and part in fault.message]
    assert len(found) == 1, faults
    assert found[0].file == file
    if "# HERE" in new:
        assert found[0].line == line_of(root, file, "# HERE")


def test_faults_of_several_files_are_told_at_once_in_order(root: Path) -> None:
    swap(root, SERVICE, "  shm_size: 8g", "  shm_syze: 8g")
    swap(root, SERVICE, "VLLM: vllm.openai", "VLLM: vllm.nothing")
    swap(root, REQUEST, "default: 77", "default: -77")
    swap(root, VERSIONS, "    runtime: lmsysorg/sglang:v0.5.23", "    runtime: [lmsysorg/sglang]")
    put(root, "references/sglang.config.json", '{\n  "api_params": {},\n}')
    put(root, "SKILL.md", "# no front matter\n")
    faults = validate(root).faults
    assert [(fault.file, fault.pointer) for fault in faults] == [
        ("SKILL.md", ""),
        (REQUEST, "/network_arch_constraints/cosmos-predict2.5/fields/max_tokens/default"),
        (SERVICE, "/docker_run_reference/shm_size"),
        (SERVICE, "/docker_run_reference/shm_syze"),
        ("references/sglang.config.json", ""),
        (VERSIONS, "/images/sglang/runtime"),
    ]
    swap(root, VERSIONS, "    runtime: [lmsysorg/sglang]", "    runtime: lmsysorg/sglang:v0.5.23")
    pointers = [fault.pointer for fault in validate(root).faults]
    assert "/docker_image_defaults/mapping/VLLM" in pointers  # found though another key of that file is wrong


def test_a_misspelt_key_gets_its_neighbour_as_a_hint(root: Path) -> None:
    swap(root, SERVICE, "  shm_size: 8g", "  shm_syze: 8g")
    hints = {fault.pointer: fault.hint for fault in validate(root).faults}
    assert "'shm_size'" in hints["/docker_run_reference/shm_syze"]
    swap(root, SERVICE, "    engine: vllm\n", "    engine: vllm\n    wholly_other: 1\n")
    hints = {fault.pointer: fault.hint for fault in validate(root).faults}
    assert "hf_prefix" in hints["/container_commands/vllm/wholly_other"]


@pytest.mark.parametrize("file", [SERVICE, REQUEST, TEMPLATES, VERSIONS, SIDECAR, "SKILL.md"])
def test_a_missing_file_is_a_fault(root: Path, file: str) -> None:
    (root / file).unlink()
    assert [fault.file for fault in validate(root).faults if "missing" in fault.message] == [file]


def test_an_empty_folder_has_a_fault_for_every_required_file(tmp_path: Path) -> None:
    report = validate(tmp_path, check=True)
    assert {SERVICE, REQUEST, TEMPLATES, VERSIONS, "SKILL.md"} <= {fault.file for fault in report.faults}
    assert report.files == 0


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text\n", "3\n"])
def test_a_file_that_is_no_mapping_is_one_fault(root: Path, text: str) -> None:
    put(root, VERSIONS, text)
    fault = the_fault(root)
    assert (fault.file, fault.line, fault.pointer) == (VERSIONS, 1, "")


def test_a_key_that_is_there_twice_is_told_beside_other_faults(root: Path) -> None:
    swap(root, SERVICE, "  port_first: 8080", "  port_first: 8080\n  port_first: 8200 # HERE")
    faults = validate(root).faults
    assert {(fault.line, fault.pointer) for fault in faults} == {
        (line_of(root, SERVICE, "# HERE"), "/docker_run_reference/port_first")
    }
    assert {"twice" in fault.message for fault in faults} == {True, False}


def test_a_sidecar_is_checked_like_the_others(root: Path) -> None:
    put(root, SIDECAR, '{\n  "api_params": {\n    "image": "VLM"\n  },\n  "spec_params": {"inference": {}}\n}')
    assert [(fault.line, fault.pointer) for fault in validate(root).faults] == [
        (5, "/spec_params/inference/model_path")
    ]
    put(root, SIDECAR, '{\n"api_params": {\n"image": "VLM"},\n"spec_params": {"inference": {"model_path": "folder"}}}')
    fault = the_fault(root)
    assert (fault.line, fault.pointer, "VLLM" in fault.hint) == (3, "/api_params/image", True)
    put(root, SIDECAR, '{"api_params": {},\n"spec_params": {"inference": {"model_path": "folder"}}}')
    assert "names no image" in the_fault(root).message


def test_a_sidecar_may_name_an_image_by_its_uri(root: Path) -> None:
    swap(root, SIDECAR, '"VLLM"', '"registry.example/vllm:1"')
    assert validate(root).faults == ()


def test_a_mapping_may_name_an_image_by_its_uri_or_with_the_prefix(root: Path) -> None:
    swap(root, SERVICE, "VLLM: vllm.openai", "VLLM: registry.example/vllm:1")
    swap(root, SERVICE, "SGLANG: sglang.runtime", "SGLANG: images.sglang.runtime")
    assert validate(root).faults == ()


def test_a_sidecar_of_no_arch_is_a_fault(root: Path) -> None:
    shutil.copy(root / SIDECAR, root / "references/vlm.config.json")
    fault = the_fault(root)
    assert (fault.file, "vllm" in fault.hint) == ("references/vlm.config.json", True)


def test_files_without_a_shape_must_be_readable_at_least(root: Path) -> None:
    put(root, "references/more/notes.yaml", "a: 1\na: 2\n")
    put(root, "references/extra.json", "{")
    files = [(fault.file, fault.line) for fault in validate(root).faults]
    assert files == [("references/extra.json", 1), ("references/more/notes.yaml", 2)]


def test_a_family_without_a_readiness_contract_is_a_fault(root: Path) -> None:
    text = (root / SERVICE).read_text()
    start = text.index("    engine:\n      paths:")
    end = text.index("  retry_reasons:")
    put(root, SERVICE, text[:start] + text[end:])
    fault = the_fault(root)
    assert fault.pointer == "/readiness/contracts/engine"
    assert fault.line == line_of(root, SERVICE, "  contracts:")


def test_a_secret_is_for_containers_or_for_this_machine(root: Path) -> None:
    text = (root / SERVICE).read_text()
    put(root, SERVICE, re.sub(r"(host_secret_env_vars:\s*\[)", r"\1HF_TOKEN, ", text))
    assert the_fault(root).message == "HF_TOKEN is in secret_env_vars too"


def test_a_word_that_yaml_takes_for_a_truth_value_gets_a_hint(root: Path) -> None:
    swap(root, VERSIONS, "openai: vllm/vllm-openai:v0.32.0", "openai: off")
    assert "quotes" in the_fault(root).hint


LINES = {file: (ROOT / file).read_text().splitlines(keepends=True) for file in (SERVICE, REQUEST, VERSIONS)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_cut_or_moved_it_is_faults_and_never_a_crash(root: Path, data: st.DataObject) -> None:
    """And a catalog loads exactly when `validate` finds nothing in the files that it reads, code examples aside."""
    file = data.draw(st.sampled_from(sorted(LINES)))
    lines = list(LINES[file])
    index = data.draw(st.integers(0, len(lines) - 1))
    cut = lines.pop(index)
    if data.draw(st.booleans()):
        lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from([cut, "  " + cut, cut.strip()])))
    put(root, file, "".join(lines))
    try:
        faults = [fault for fault in validate(root).faults if fault.file != TEMPLATES]
        assert all(fault.message and 1 <= fault.line <= len(lines) + 1 for fault in faults)
        faults = [fault for fault in faults if not fault.message.startswith("not Python")]
        if faults:
            with pytest.raises(UsageError):
                load_catalog(root)
        else:
            load_catalog(root)
    finally:
        put(root, file, "".join(LINES[file]))
