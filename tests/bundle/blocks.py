"""Blocks of the references, run as a person would: from a file in an empty folder, inputs by environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from moorage.catalog.catalog import load_catalog, load_templates
from moorage.catalog.shapes import CodeExample, CodeTemplate
from tests.bundle.checkout import ROOT

Block = CodeTemplate | CodeExample
INHERITED = ("HOME", "TMPDIR", "XDG_STATE_HOME", "DOCKER_HOST", "MOORAGE_STATE_FILE")


def templates() -> dict[str, CodeTemplate]:
    """`section.name` → block of code-templates.yaml."""
    found = load_templates(ROOT)
    sections = {
        "job_payload_builder": found.job_payload_builder,
        "registry_write": found.registry_write,
        "stop": found.stop,
        "request": found.request,
    }
    named = {f"{section}.{name}": block for section, blocks in sections.items() for name, block in blocks.items()}
    return {**named, "readiness_check": found.readiness_check}


def examples() -> dict[str, CodeExample]:
    """Name → block of request.yaml."""
    return dict(load_catalog(ROOT).request.code_examples)


class Runner:
    """Runs blocks with the test's registry and PATH. Each block sees the inputs that it lists, and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.inputs: dict[str, str] = {}
        """What is known so far; a block takes from it what it lists."""

    def __call__(self, block: Block, **more: str) -> str:
        """What the block prints. Fails the test when the block fails."""
        done = self.attempt(block, **more)
        assert done.returncode == 0, f"{block.description}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def attempt(self, block: Block, **more: str) -> subprocess.CompletedProcess[str]:
        known = {**self.inputs, **more}
        inputs = {name: known[name] for name in block.inputs if name in known}
        file = self.folder / ("block.py" if block.language == "python" else "block.sh")
        file.write_text(block.code)
        return subprocess.run(
            [sys.executable if block.language == "python" else "bash", file.name],
            env={**self._inherited(), "PYTHONPATH": str(ROOT), **inputs},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _inherited(self) -> Mapping[str, str]:
        return {name: os.environ[name] for name in ("PATH", *INHERITED) if name in os.environ}
