"""A platform's folder with two users, and the rules that hold there."""

from __future__ import annotations

from pathlib import Path

from moorage.serving.spec.kwargs import KwargTable, load_kwargs
from moorage.serving.spec.rules import SpecRules

BUNDLE = Path(__file__).parents[4]


def real_table() -> KwargTable:
    """The table that is committed."""
    return load_kwargs(BUNDLE)


def make_root(folder: Path) -> Path:
    """`hf` and `datasets`, the users alice and bob, and a neighbour outside."""
    root = folder / "private"
    for name in ("hf/m", "hf-x/m", "datasets/d", "users/alice/m", "users/alicex/m", "users/bob/secret"):
        (root / name).mkdir(parents=True)
    (folder / "outside").mkdir()
    return root


def rules_of(root: Path, **changes: object) -> SpecRules:
    return SpecRules(**{"root": root, "engine_kwargs": real_table(), **changes})  # type: ignore[arg-type]
