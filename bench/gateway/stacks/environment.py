"""Peers live in environments of their own: what they pin is not what this package pins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.gateway.stacks.contract import PeerMissing

__all__ = ["cache_folder", "ensure_environment", "version_of"]

INSTALL_WITHIN_S = 1200


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/moorage/bench`, or the same below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "moorage" / "bench"


def ensure_environment(name: str, requirement: str, *, install: bool) -> Path:
    """The folder of an environment with this requirement; made when it is missing and `install` is set."""
    folder = cache_folder() / name
    mark = folder / "installed"
    if mark.exists() and mark.read_text() == requirement:
        return folder
    if not install:
        raise PeerMissing(f"{requirement} is not installed (the long form installs it)")
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {requirement} in {folder}", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", str(folder)], requirement)
    _run([str(folder / "bin" / "pip"), "install", "--quiet", requirement], requirement)
    mark.write_text(requirement)
    return folder


def version_of(folder: Path, package: str) -> str:
    """Of a package in an environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    found = subprocess.run([str(folder / "bin" / "python"), "-c", code], capture_output=True, text=True)
    return found.stdout.strip()


def _run(argv: list[str], requirement: str) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"{requirement}: not installed within {INSTALL_WITHIN_S} s") from None
    except subprocess.CalledProcessError as fault:
        last = (fault.stderr or fault.stdout).strip().splitlines()[-1:]
        raise PeerMissing(f"{requirement} cannot be installed: {' '.join(last)}") from None
