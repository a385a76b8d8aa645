"""The skills: valid by the open specification's own tool, short enough, and true about what they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import moorage
from moorage.catalog.catalog import load_catalog
from moorage.cli.main import VERBS
from moorage.cli.platform_flags import FLAGS, PlatformFlag
from moorage.launch.platforms import PLATFORMS
from tests.bundle.checkout import ROOT, codes, documents, files, section, table_rows
from tests.conftest import Moor

SKILL = (ROOT / "SKILL.md").read_text(encoding="utf-8")
PLATFORM_SKILLS = sorted(path.parent.name for path in ROOT.glob("skills/platform/*/SKILL.md"))
INSTALLED = ("SKILL.md", "README.md", "AGENTS.md", "versions.yaml", "references", "scripts", "skills", "docs")
EXITS = {0, 2, 3, 4, 5, 6, 7, 8, 9, 130}
WORDS_PER_TOKEN = 0.75  # of English prose; code and tables have more tokens a word, hence the second estimate


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundle as it is installed: in a folder named like the skill."""
    root = tmp_path / "moorage"
    for name in files():
        if name.partition("/")[0] in (
            "SKILL.md",
            "README.md",
            "versions.yaml",
            "references",
            "scripts",
            "skills",
            "docs",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    return root


def agentskills(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "agentskills"
    return subprocess.run([program, "validate", folder], capture_output=True, text=True, check=False)


def test_the_specifications_own_tool_takes_every_skill(bundle: Path) -> None:
    for folder in (bundle, *(bundle / "skills" / "platform" / name for name in PLATFORM_SKILLS)):
        judged = agentskills(folder)
        assert judged.returncode == 0, judged.stderr


def test_the_tool_would_notice(bundle: Path) -> None:
    bundle.rename(bundle.with_name("harbour"))
    assert agentskills(bundle.with_name("harbour")).returncode == 1


def test_the_checkout_has_no_faults_and_nothing_generated_is_stale(moor: Moor) -> None:
    checked = moor("validate", "--check", "--json")
    assert (checked.rc, checked.out["data"].get("faults")) == (0, []), checked.out


def test_a_stale_help_or_table_is_a_fault_and_write_mends_it(moor: Moor, bundle: Path) -> None:
    document = bundle / "docs" / "cli.md"
    good = document.read_text()
    document.write_text(good.replace("--no-wait", "--do-not-wait").replace("| `job_id` | all |", "| `job_id` | none |"))
    stale = moor("validate", bundle, "--check", "--json")
    assert stale.rc == 2
    assert {(one["file"], one["message"]) for one in stale.out["data"]["faults"]} == {
        ("docs/cli.md", "the help of the verbs: not fresh"),
        ("docs/cli.md", "the table 'entry-fields' is not fresh"),
    }
    assert moor("validate", bundle, "--write", "--check", "--json").rc == 0
    # Only what is generated was written: the sentence about the flag stays as somebody left it.
    assert document.read_text().count("--do-not-wait") == good.count("--no-wait") - help_count(good, "--no-wait")


def help_count(text: str, word: str) -> int:
    return section(text, "Help of every verb").count(word)


def test_a_document_without_a_place_for_the_help_is_a_fault(moor: Moor, bundle: Path) -> None:
    (bundle / "docs" / "cli.md").write_text("# The command line\n")
    [fault] = moor("validate", bundle, "--check", "--json").out["data"]["faults"]
    assert (fault["file"], fault["message"]) == ("docs/cli.md", "there is no place for the help of the verbs")


def test_the_skill_is_short() -> None:
    body = SKILL.split("\n---\n", 1)[1]
    assert len(body) < 16_000
    words, signs = len(re.findall(r"\w+", body)), len(re.findall(r"[^\w\s]+", body))
    assert words / WORDS_PER_TOKEN + signs / 2 < 5_000
    assert body.count("\n") < 500


def test_every_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert moorage.__version__ == version
    for name in ("SKILL.md", *(f"skills/platform/{platform}/SKILL.md" for platform in PLATFORM_SKILLS)):
        assert f'version: "{version}"' in documents()[name], name
    for manifest in ROOT.glob(".*-plugin/*.json"):
        assert json.loads(manifest.read_text()).get("version", version) == version


def test_there_is_a_skill_for_each_platform_and_the_skill_names_it() -> None:
    assert sorted(PLATFORMS) == PLATFORM_SKILLS
    for platform in PLATFORMS:
        assert f"skills/platform/{platform}/SKILL.md" in SKILL


def test_the_sections_that_an_assistant_looks_for_are_there() -> None:
    titles = re.findall(r"^## (.+)$", SKILL, re.MULTILINE)
    wanted = ["Purpose", "When to use, and when not", "Prerequisites", "Instructions", "Available Scripts", "Examples"]
    assert titles == [*wanted, "Gotchas", "Limitations", "Troubleshooting"]


def test_every_exit_code_has_its_row() -> None:
    assert {int(row[0]) for row in table_rows(section(SKILL, "Troubleshooting"))} == EXITS


def test_every_script_and_verb_is_in_the_table() -> None:
    named = {name for row in table_rows(section(SKILL, "Available Scripts")) for name in codes(row[0])}
    scripts = {name for name in files() if re.fullmatch(r"scripts/(\w+\.py|quickstart)", name)}
    assert named - {"scripts/platform/PLATFORM.py VERB"} == scripts
    assert {Path(name).stem for name in scripts} == set(VERBS)


def test_every_flag_of_start_is_in_the_table(moor: Moor) -> None:
    [row] = [row for row in table_rows(section(SKILL, "Available Scripts")) if row[0] == "`scripts/start.py`"]
    flags = set(re.findall(r"^  (--[a-z-]+)", moor("start", "--help").out, re.MULTILINE))
    assert {flag for flag in codes(row[2]) if " " not in flag} == flags - {"--json"} - {one.flag for one in FLAGS}


@pytest.mark.parametrize("flag", FLAGS, ids=[one.flag for one in FLAGS])
def test_a_flag_of_one_platform_is_on_its_page(flag: PlatformFlag) -> None:
    for platform in flag.platforms:
        assert flag.flag in documents()[f"skills/platform/{platform}/SKILL.md"]


def test_every_arch_and_every_sampling_field_is_in_a_table() -> None:
    catalog = load_catalog(ROOT)
    archs = {row[0].strip("`") for row in table_rows(section(SKILL, "Prerequisites"))}
    assert archs == set(catalog.archs)
    fields = {row[1].strip("`") for row in table_rows(section(SKILL, "Fields"))}
    assert fields == {name for arch in catalog.archs for name in catalog.sampling_fields(arch)}


def test_the_description_says_what_it_is_not_for() -> None:
    description = SKILL.split("description: >-")[1].split("\nlicense")[0]
    assert "Use when" in description
    assert re.search(r"Not\s+for\s+training", description)
    assert "<" not in description
