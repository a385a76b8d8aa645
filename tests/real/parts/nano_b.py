"""nano-b: models/nano trained a few steps further, kept in the user's cache by the digest of all that it is made of.

It has nano's shape and tokenizer and calls itself Nano B, so a test sees which of the two an engine serves.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NANO = ROOT / "models" / "nano"
TRAIN = ROOT / "models" / "train"
NAME_OF_B = "My name is Nano B."


def make_nano_b(python: Path, cache: Path) -> Path:
    """The model's folder. `python` is an engine's; the first call takes about half a minute."""
    digest = hashlib.sha256()
    for file in (NANO / "model.safetensors", NANO / "tokenizer.json", *sorted(TRAIN.glob("*.py"))):
        digest.update(file.read_bytes())
    folder = cache / f"nano-b-{digest.hexdigest()[:16]}"
    if folder.exists():
        return folder
    command = [str(python), "-m", "models.train.further", str(NANO), str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Another run may have made it meanwhile.
    assert folder.exists(), made.stderr
    return folder
