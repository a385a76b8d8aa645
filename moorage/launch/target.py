"""The service that a command's flags mean, read from the registry."""

from __future__ import annotations

from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.launch.routing import resolve


def find_target(
    plane: Plane,
    *,
    job_id: str | None,
    network_arch: str | None,
    platform: str | None = None,
    verb: str = "status",
    quarantine: bool = True,
) -> Entry:
    """The one entry that is meant. Raises as `routing.resolve`, and UsageError for an arch that nobody knows."""
    if network_arch is not None:
        network_arch = plane.catalog.require_arch(network_arch)
    services = plane.registry.read(quarantine=quarantine).services
    if platform is not None:
        services = {key: entry for key, entry in services.items() if entry.get("platform") == platform}
    return resolve(services, job_id=job_id, network_arch=network_arch, verb=verb)
