"""A Python that has the packages of another one and starts an engine sooner."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

__all__ = ["quick_python"]

ASK = """
import importlib.util, json, pathlib, sys
packages = pathlib.Path(importlib.util.find_spec("ray").origin).parents[1]
print(json.dumps([sys._base_executable, f"python{sys.version_info.major}.{sys.version_info.minor}", str(packages)]))
"""
SELDOM = "import gc; gc.set_threshold(100_000, 20, 20)\n"
"""Six processes of an engine import five thousand modules each, and a fifth of that is looking for garbage."""


def quick_python(folder: Path, python: Path) -> Path:
    """An environment in `folder`, which is made, over the packages that `python` finds Ray in."""
    told = subprocess.run([str(python), "-c", ASK], check=True, capture_output=True, text=True, timeout=60)
    base, version, packages = json.loads(told.stdout)
    site = folder / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(base).parent}\ninclude-system-site-packages = false\n")
    (site / "quick.pth").write_text(f"{SELDOM}import site; site.addsitedir({packages!r})\n")
    return folder / "bin" / "python"
