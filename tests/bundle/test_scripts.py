"""The scripts: runnable as they are checked out, and the same as the command."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.cli.main import PLATFORMLESS, VERBS
from moorage.launch.platforms import PLATFORMS
from tests.bundle.checkout import ROOT, files
from tests.conftest import Moor

SOURCED = "scripts/setup.sh"
SCRIPTS = [name for name in files() if name.startswith("scripts/") and name != SOURCED]
VERB_SCRIPTS = [name for name in SCRIPTS if name.count("/") == 1 and name.endswith(".py")]


def run(script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """From another folder, as an assistant does, and with nothing of this checkout in the environment."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")} | env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_executed_and_stays_so_in_git(script: str) -> None:
    assert (ROOT / script).stat().st_mode & stat.S_IXUSR
    assert (ROOT / script).read_bytes().startswith(b"#!")
    listed = subprocess.run(["git", "ls-files", "-s", script], cwd=ROOT, capture_output=True, text=True, check=True)
    if listed.stdout:  # a file of the next commit takes its mode from the disk
        assert listed.stdout.startswith("100755")


def test_there_is_a_script_for_every_verb_and_every_platform() -> None:
    with_sets_up = {"quickstart"}
    assert {Path(script).stem for script in VERB_SCRIPTS} == set(VERBS) - with_sets_up
    assert {Path(script).stem for script in SCRIPTS if script.startswith("scripts/platform/")} == set(PLATFORMS)
    assert {f"scripts/{name}" for name in (*with_sets_up, "test")} <= set(SCRIPTS)


@pytest.mark.parametrize("script", VERB_SCRIPTS)
def test_a_scripts_help_is_the_verbs(script: str, moor: Moor) -> None:
    shown = run(script, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == moor(Path(script).stem, "--help", env={"COLUMNS": None}).out
    assert f"usage: moor {Path(script).stem} " in shown.stdout


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platforms_script_has_the_same_verbs(platform: str, moor: Moor) -> None:
    script = f"scripts/platform/{platform}.py"
    assert run(script, "--help").stdout == moor("--help").out
    for verb in sorted(set(VERBS) - PLATFORMLESS):
        if verb != "request":
            assert run(script, verb, "--help").stdout == moor(verb, "--help", env={"COLUMNS": None}).out


def test_a_platforms_script_fixes_the_platform(state_file: Path) -> None:
    flags = ("start", "--network-arch", "vllm", "--model-path", "hf_model://org/model", "--dry-run", "--json")
    for platform in PLATFORMS:
        needed = ("--resource-shape", "gpu.a10") if platform == "lepton" else ()
        plan = json.loads(run(f"scripts/platform/{platform}.py", *flags, *needed).stdout)["data"]["plan"]
        assert plan["platform"] == platform
    for words in (["--platform", "local-process"], ["--platform=local-docker"]):
        refused = run("scripts/platform/local-docker.py", *flags, *words)
        assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "usage")


def test_a_script_prints_what_the_command_prints(moor: Moor) -> None:
    assert json.loads(run("scripts/archs.py", "--json").stdout) == moor("archs", "--json").out
    assert json.loads(run("scripts/list.py", "--json").stdout) == moor("list", "--json").out


def test_without_the_base_packages_the_error_says_how_to_get_them(state_file: Path) -> None:
    """As on a machine where nothing was set up: `-S` hides every installed package."""
    bare = subprocess.run(
        [sys.executable, "-S", str(ROOT / "scripts/archs.py"), "--json"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(bare.stdout)
    assert (bare.returncode, answer["error"]["code"]) == (5, "package_missing")
    assert "scripts/quickstart" in answer["error"]["hint"]
