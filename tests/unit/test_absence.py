"""A run without its real parts is green and says so, or red where they are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = """\
import pytest
from tests.real.parts.absence import require_real

@pytest.mark.docker
def test_marked():
    require_real("no frobnicator")

def test_unmarked():
    require_real("no frobnicator")

@pytest.mark.docker
def test_marked_that_skips_by_itself():
    pytest.skip("cannot be bothered")

@pytest.mark.docker
@pytest.mark.xfail
def test_known_to_fail():
    assert False

def test_of_no_real_part():
    pytest.skip("not here")
"""


def run_suite(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(SUITE)
    environ = {name: value for name, value in os.environ.items() if name != "MOORAGE_REQUIRE_REAL"}
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "tests.conftest", "-rA"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(folder)],
        env=environ | {"PYTHONPATH": str(ROOT)} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_parts_are_skipped_counted_and_named(tmp_path: Path) -> None:
    done = run_suite(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 skipped, real part missing: no frobnicator" in done.stdout.splitlines()
    assert "4 skipped, 1 xfailed" in done.stdout.splitlines()[-1]


def test_where_they_are_required_they_fail(tmp_path: Path) -> None:
    done = run_suite(tmp_path, MOORAGE_REQUIRE_REAL="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 1 skipped, 1 xfailed" in done.stdout.splitlines()[-1]
    assert "no frobnicator" in done.stdout
    assert "cannot be bothered" in done.stdout
