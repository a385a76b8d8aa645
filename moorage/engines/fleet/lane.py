"""Training and evaluation: each has slots of its own at every endpoint."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["LANES", "Lane"]

Lane = Literal["train", "eval"]
LANES: tuple[str, ...] = get_args(Lane)
