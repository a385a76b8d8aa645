"""Where a service runs: one file a platform, over the small contract in `base`.

Platforms never import each other, never write the registry, and are imported only when a command needs them.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.platforms.base import Platform

HOMES = {
    "local-process": ("local_process", "LocalProcess"),
    "local-docker": ("local_docker", "LocalDocker"),
    "slurm": ("slurm.platform", "Slurm"),
    "kubernetes": ("kubernetes.platform", "Kubernetes"),
    "brev": ("brev.platform", "Brev"),
    "lepton": ("lepton.platform", "Lepton"),
}
"""Platform → its module here and its class."""
PLATFORMS = tuple(HOMES)
"""The default first."""

NEAR_PLATFORMS = ("local-process", "local-docker")
"""On this machine: asking them costs next to nothing, and their services are on loopback.

A tuple, since an entry of another tool may hold anything as its platform, also what no set can be asked for."""

LOCAL_PORT_PLATFORMS = ("local-process", "local-docker", "slurm", "brev")
"""Where a service is reached by a port of this machine: published there, or a tunnel's end."""


def require_platform(name: str) -> str:
    """The name itself. Raises UsageError listing the valid ones."""
    if name in PLATFORMS:
        return name
    import difflib

    near = difflib.get_close_matches(name, PLATFORMS, n=1, cutoff=0.4)
    raise UsageError(
        f"unknown platform {name!r}: the platforms are {', '.join(PLATFORMS)}",
        code="unknown_platform",
        hint=f"did you mean {near[0]}?" if near else "",
    )


def open_platform(name: str, environ: Mapping[str, str]) -> Platform:
    """The platform of that name, ready to be asked; connects to nothing yet."""
    from importlib import import_module

    module, kind = HOMES[require_platform(name)]
    platform: Platform = getattr(import_module(f"moorage.launch.platforms.{module}"), kind)(environ)
    return platform
