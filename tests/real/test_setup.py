"""What the two set-up commands do on a machine that lacks something: real shell, stubs only for what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "cat", "date", "dirname", "flock", "grep", "mktemp", "rm", "tail", "uname")
SCRIPT = 'set -eu; root=$1; . "$root/scripts/setup.sh"; ensure_environment base; say finished'


class Machine:
    """A PATH with nothing on it but a few tools and what a test adds."""

    def __init__(self, folder: Path, *, root_user: bool) -> None:
        self.bin, self.checkout = folder / "bin", folder / "check out"
        self.bin.mkdir()
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup.sh", self.checkout / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.add("id", f"echo {0 if root_user else 1000}")

    def add(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def add_python(self, *, ensurepip: str) -> None:
        """A python3 whose `import ensurepip` works when the shell condition `ensurepip` holds."""
        real = getattr(sys, "_base_executable", sys.executable)
        check = f'case "$*" in *"import ensurepip"*) {ensurepip} || exit 1;; esac'
        self.add("python3", f'{check}\nexec "{real}" "$@"')

    def set_up(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", SCRIPT, "set-up", str(self.checkout)],
            env={"PATH": str(self.bin), "HOME": str(self.bin.parent)} | pip_settings(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )


def pip_settings() -> dict[str, str]:
    """Where pip finds packages on this machine."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "http", "SSL"))}


def test_no_python_and_no_rights_names_the_command(tmp_path: Path) -> None:
    done = Machine(tmp_path, root_user=False).set_up()
    assert (done.returncode, done.stdout) == (5, "")
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "apt-get install -y python3 python3-venv" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root_user=False)
    machine.add("python3", "exit 1")
    machine.add("python3.12", "exit 1")
    assert machine.set_up().returncode == 5


def test_debian_without_its_venv_package_and_without_rights_names_the_command(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root_user=False)
    machine.add_python(ensurepip="false")
    done = machine.set_up()
    assert (done.returncode, done.stdout) == (5, "")
    assert "sudo apt-get install -y python3-venv" in done.stderr


@pytest.mark.slow
def test_as_root_on_debian_it_is_installed_and_the_environment_is_made_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root_user=True)
    left_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "bench")
    shutil.copytree(ROOT, machine.checkout, ignore=left_out, dirs_exist_ok=True)
    installed = tmp_path / "installed"
    machine.add_python(ensurepip=f"test -e {installed}")
    # The first try fails as it does where the lists are old.
    machine.add("apt-get", f'echo "$*" >> {tmp_path}/asked; grep -q update {tmp_path}/asked && : > {installed}')

    first = machine.set_up()
    assert first.returncode == 0, first.stderr
    assert [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()] == [
        "python3-venv",
        "update",
        "python3-venv",
    ]
    assert (machine.checkout / ".venv" / "bin" / "moor").exists()

    second = machine.set_up()
    assert second.stderr.splitlines() == [second.stderr.splitlines()[-1]], "it was good and had to be left alone"
    assert second.stderr.endswith("finished\n")

    with (machine.checkout / "pyproject.toml").open("a") as project:
        project.write("# changed\n")
    third = machine.set_up()
    assert "making a Python environment" not in third.stderr
    assert "installing moorage" in third.stderr

    moved = machine.checkout.rename(tmp_path / "moved")
    machine.checkout = moved
    assert "making a Python environment" in machine.set_up().stderr
