"""Looking for what is missing, before something fails for want of it."""

from __future__ import annotations

import sys

from moorage.errors import MoorageError
from moorage.launch.plane import Plane
from moorage.launch.platforms import require_platform
from moorage.launch.platforms.base import Check
from moorage.launch.ports import choose_port, port_is_free


def examine(plane: Plane, platform: str) -> list[Check]:
    """Every check, good and bad. Changes nothing. Raises UsageError for an unknown platform."""
    require_platform(platform)
    version = sys.version.split()[0]
    good = sys.version_info >= (3, 11)
    checks = [Check(name="python", ok=good, message=version, hint="" if good else "Python 3.11 or newer")]
    checks += [_references(plane), _state_file(plane), _ports(plane), *plane.platform(platform).doctor()]
    return [*checks, _ray(plane)] if platform == "local-process" else checks


def _references(plane: Plane) -> Check:
    try:
        catalog = plane.catalog
    except MoorageError as fault:
        return Check(name="references", ok=False, message=fault.message, hint="moor validate")
    return Check(name="references", ok=True, message=f"{len(catalog.archs)} archs in {catalog.root}")


def _state_file(plane: Plane) -> Check:
    try:
        state = plane.registry.read(quarantine=False)
    except MoorageError as fault:
        return Check(name="state file", ok=False, message=fault.message, hint=fault.hint)
    return Check(name="state file", ok=True, message=f"{len(state.services)} services in {plane.registry.path}")


def _ray(plane: Plane) -> Check:
    """Nothing of the launch plane needs it, so its absence is no fault."""
    from moorage.catalog.engine_python import find_engine_python

    try:
        python = find_engine_python("ray", plane.environ)
    except MoorageError as fault:
        return Check(name="engine ray", ok=False, message=fault.message, hint=fault.hint)
    missing = "none: moor serve with a Ray of this machine needs it, and moor engine ray --install makes it"
    return Check(name="engine ray", ok=True, message=str(python or missing))


def _ports(plane: Plane) -> Check:
    try:
        docker = plane.catalog.service.docker_run_reference
        entries = plane.registry.read(quarantine=False).services.values()
        port = choose_port(entries, first=docker.port_first, last=docker.port_last, is_free=port_is_free)
    except MoorageError as fault:
        return Check(name="ports", ok=False, message=fault.message, hint=fault.hint)
    return Check(name="ports", ok=True, message=f"{port} is the next free one")
