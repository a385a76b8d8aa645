"""A tiny random model that the real engine serves, kept in the user's cache by the digest of its maker's script."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "models" / "train" / "tiny_random.py"


def make_tiny_model(python: Path, cache: Path) -> Path:
    """The model's folder. `python` is an engine's."""
    folder = cache / f"tiny-random-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    made = subprocess.run([str(python), str(SCRIPT), str(folder)], capture_output=True, text=True, check=False)
    # Another run may have made it meanwhile.
    assert folder.exists(), made.stderr
    return folder
