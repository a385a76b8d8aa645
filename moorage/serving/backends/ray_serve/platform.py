"""What the platform decides for every model on Ray, whatever its user declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["RayPlatform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlatform:
    """Of one control plane."""

    owner: str
    """Marks its applications among others of the same cluster: the first part of their routes. Letters, digits and
    dashes; two control planes of one cluster have two owners, two processes of one control plane have one."""
    accelerator_type: str | None = None
    """As Ray names it (`H20`); None: any."""
    accelerator: Literal["gpu", "cpu"] = "gpu"
    """cpu: `gpus_per_replica` counts workers, each with a CPU bundle."""
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Defaults under the user's."""
    target_ongoing_requests: int = 16
    """Requests at a time that autoscaling gives to one replica."""
    proxy_host: str = "127.0.0.1"
    proxy_port: int = 8001
    """Where Serve's HTTP proxy is to listen, when this control plane is the one that starts Serve."""
    proxy_url: str | None = None
    """How the gateway reaches that proxy; None: under the address where Ray says that it listens."""
