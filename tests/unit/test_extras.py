"""The commands that errors name for packages that are missing."""

from __future__ import annotations

import shlex
import sys

import pytest

from moorage.extras import install_command, package_missing, upgrade_command


def test_they_are_for_the_python_that_runs_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my place/python")
    assert shlex.split(install_command("gateway", "arrow")) == [
        *("/my place/python", "-m", "pip", "install", "moorage[gateway,arrow]"),
    ]
    assert shlex.split(upgrade_command("it")) == ["/my place/python", "-m", "pip", "install", "--upgrade", "it"]


def test_the_error_names_the_package_and_the_command() -> None:
    fault = package_missing("uvloop", "the gateway needs its extra", "gateway")
    assert fault.message == "the Python package 'uvloop' is not installed: the gateway needs its extra"
    assert fault.next == [install_command("gateway")]
