"""Skill files and manifests: every rule once, on the line where it is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skills_ref.validator import validate as reference_validate

from moorage.catalog.locations import Fault
from moorage.catalog.skill_checks import skill_faults
from moorage.catalog.validate import validate
from tests.unit.catalog.checkout_copy import copy_checkout, put

GOOD = "---\nname: moorage\ndescription: Start a service.\n---\n# Text\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path)


def found(root: Path, text: str, file: str = "SKILL.md") -> list[tuple[int, str]]:
    put(root, file, text)
    return [(fault.line, fault.pointer) for fault in validate(root).faults if fault.file == file]


def messages(root: Path, text: str) -> str:
    put(root, "SKILL.md", text)
    return "; ".join(fault.message for fault in validate(root).faults)


def test_a_skill_with_every_key_of_the_specification_is_good(root: Path) -> None:
    text = (
        "---\nname: moorage\ndescription: >-\n  Start a service,\n  and stop it.\nlicense: Apache-2.0\n"
        'compatibility: Python 3.11\nmetadata:\n  version: "1.0"\nallowed-tools: Bash\n---\nText\n'
    )
    assert found(root, text) == []


@pytest.mark.parametrize(
    ("text", "line", "pointer"),
    [
        ("# Text\n", 1, ""),
        ("---\nname: moorage\n", 1, ""),
        ("---\nname: moorage\ndescription: a: b\n---\nText\n", 3, ""),
        ("---\n- name\n---\nText\n", 2, ""),
        (GOOD.replace("name: moorage\n", ""), 2, "/name"),
        (GOOD.replace("moorage", "3"), 2, "/name"),
        (GOOD.replace("moorage", "Moorage"), 2, "/name"),
        (GOOD.replace("description: Start a service.\n", ""), 2, "/description"),
        (GOOD.replace("Start a service.", "''"), 3, "/description"),
        (GOOD.replace("Start a service.", "x" * 1025), 3, "/description"),
        (GOOD.replace("name: moorage\n", "name: moorage\nname: moorage\n"), 3, "/name"),
        (GOOD.replace("---\n# T", "version: 1\n---\n# T"), 4, "/version"),
        (GOOD.replace("---\n# T", "license: 2.0\n---\n# T"), 4, "/license"),
        (GOOD.replace("---\n# T", "allowed-tools: [Bash]\n---\n# T"), 4, "/allowed-tools"),
        (GOOD.replace("---\n# T", f"compatibility: {'x' * 501}\n---\n# T"), 4, "/compatibility"),
        (GOOD.replace("---\n# T", "metadata: x\n---\n# T"), 4, "/metadata"),
        (GOOD.replace("---\n# T", "metadata:\n  version: 1.0\n---\n# T"), 5, "/metadata/version"),
        (GOOD.replace("# Text\n", "\n  \n"), 7, ""),
        (GOOD + "x" * 20_000, 1, ""),
        (GOOD + "See [the\nmore](docs/gone.md).\n", 7, ""),
        (GOOD + "![picture](./gone.png)\n", 6, ""),
        (GOOD + "[out](../../etc)\n", 6, ""),
    ],
)
def test_a_broken_skill_is_found_on_its_line(root: Path, text: str, line: int, pointer: str) -> None:
    assert (line, pointer) in found(root, text)


def test_a_long_skill_is_refused_at_five_thousand_tokens_and_not_before(root: Path) -> None:
    assert found(root, GOOD + "x" * (4 * 4999 - len(GOOD))) == []
    assert "about 5000 tokens" in messages(root, GOOD + "x" * (4 * 5000 - len(GOOD)))


def test_links_that_lead_somewhere_are_good(root: Path) -> None:
    put(root, "docs/a file.md", "text")
    links = [
        "[a](docs/a%20file.md#part)",
        "[b](<references/service.yaml>)",
        '[c](versions.yaml "title")',
        "[d](#text)",
        "[e](https://example.org/gone)",
        "[f](mailto:a@example.org)",
        "[g](./docs)",
        "`[h](gone.md)`",
    ]
    fenced = "```bash\necho '[i](gone.md)'\n~~~\n[j](gone.md)\n```\n\n~~~~\n```\n[k](gone.md)\n~~~~\n"
    assert found(root, GOOD + "\n".join(links) + "\n" + fenced) == []
    assert [line for line, _ in found(root, GOOD + fenced + "[l](gone.md)\n")] == [16]


def test_a_platform_skill_is_named_like_its_folder(root: Path) -> None:
    file = "skills/platform/local-docker/SKILL.md"
    assert found(root, GOOD.replace("moorage", "local-docker"), file) == []
    assert found(root, GOOD, file) == [(2, "/name")]
    assert found(root, GOOD.replace("moorage", "local-docker") + "[up](../../../SKILL.md)\n", file) == []


def test_a_folder_that_is_no_name_is_told(root: Path) -> None:
    name = "Local_Docker"
    put(root, f"skills/platform/{name}/SKILL.md", GOOD.replace("moorage", name))
    assert [fault.pointer for fault in validate(root).faults] == ["/name"]


def test_a_skill_that_is_no_text_is_one_fault(root: Path) -> None:
    (root / "SKILL.md").write_bytes(b"---\nname: \xff\n---\n")
    assert skill_faults(root, "SKILL.md") == [
        Fault(file="SKILL.md", line=2, pointer="", message="not UTF-8 text", hint="save the file as UTF-8")
    ]


@settings(deadline=None)
@given(
    name=st.from_regex(r"[a-z0-9-]{1,66}", fullmatch=True),
    description=st.text("ab \u00e9", max_size=1030),
    key=st.sampled_from(["license", "version", "compatibility"]),
    length=st.integers(1, 510),
)
def test_front_matter_is_judged_as_the_reference_library_does(
    tmp_path_factory: pytest.TempPathFactory, name: str, description: str, key: str, length: int
) -> None:
    folder = tmp_path_factory.mktemp("skills") / "skills" / "platform" / name
    front = f"name: {json.dumps(name)}\ndescription: {json.dumps(description)}\n{key}: {'x' * length}\n"
    put(folder, "SKILL.md", f"---\n{front}---\nText\n")
    ours = skill_faults(folder.parents[2], f"skills/platform/{name}/SKILL.md")
    theirs = reference_validate(folder)
    assert bool(ours) == bool(theirs), (ours, theirs)


# ---- manifests ---------------------------------------------------------------------------------------------------

PLUGIN, MARKET = ".claude-plugin/plugin.json", ".claude-plugin/marketplace.json"
PROJECT = '[project]\nname = "moorage"\nversion = "1.2.3"\n'


def test_manifests_that_agree_are_good(root: Path) -> None:
    put(root, "pyproject.toml", PROJECT)
    put(root, "skills/platform/local-docker/SKILL.md", GOOD.replace("moorage", "local-docker"))
    put(root, PLUGIN, '{"name": "moorage", "version": "1.2.3", "skills": "./"}')
    put(root, MARKET, '{"metadata": {"version": "1.2.3"}, "plugins": [{"skills": ["./", "./skills/platform"]}]}')
    report = validate(root)
    assert report.faults == ()


def test_every_fault_of_the_manifests_is_told(root: Path) -> None:
    put(root, "pyproject.toml", PROJECT)
    put(root, PLUGIN, '{\n"version": "1.2.2",\n"skills": "./gone"}')
    put(
        root,
        MARKET,
        '{"metadata":\n{"version": "1.2.2"},\n"plugins": [\n{"version": "1",\n"skills": [\n"./",\n"./gone",\n3]}, 4]}',
    )
    assert [(fault.file, fault.line, fault.pointer) for fault in validate(root).faults] == [
        (MARKET, 2, "/metadata/version"),
        (MARKET, 4, "/plugins/0/version"),
        (MARKET, 7, "/plugins/0/skills/1"),
        (MARKET, 8, "/plugins/0/skills/2"),
        (PLUGIN, 2, "/version"),
        (PLUGIN, 3, "/skills"),
    ]


def test_without_a_project_file_versions_are_not_compared(root: Path) -> None:
    put(root, PLUGIN, '{"version": "9"}')
    assert validate(root).faults == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[project\n", 1),
        ('[project]\nversion = "1"\nversion = "2"\n', 3),
        ("[project]\nname = 'x'\n", 1),
        (f"[project]\nversion = {'1' * 5000}\n", 1),
    ],
)
def test_a_project_file_without_a_version_is_a_fault(root: Path, text: str, line: int) -> None:
    put(root, "pyproject.toml", text)
    assert [(fault.file, fault.line) for fault in validate(root).faults] == [("pyproject.toml", line)]


@pytest.mark.parametrize(("text", "line"), [('{\n"version": 1,\n}', 3), ("[]", 1)])
def test_a_manifest_that_is_no_object_is_a_fault(root: Path, text: str, line: int) -> None:
    put(root, PLUGIN, text)
    assert [(fault.file, fault.line) for fault in validate(root).faults] == [(PLUGIN, line)]
