"""What the platform holds specs to: given once, when the API starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moorage.serving.spec.kwargs import KwargTable

__all__ = ["Limits", "SpecRules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one model may ask for."""

    replicas: int = 1024
    gpus_per_replica: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRules:
    """Everything that `check_spec` must know beside the spec and its user."""

    root: Path
    """The folder that holds `hf`, `datasets` and `users`; absolute."""
    engine_kwargs: KwargTable
    """What the engine takes: `kwargs.load_kwargs`."""
    limits: Limits = field(default_factory=Limits)
    has_lora: bool = True
    """Whether the backend serves LoRA adapters."""
    has_autoscaling: bool = True
    """Whether the backend follows the load."""
    by_command_line: bool = False
    """Whether the backend starts engines by a command line: what has no flag cannot be said then."""
