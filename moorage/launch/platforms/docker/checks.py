"""Lines of `doctor` about Docker: what was found in, a check out. Shared by the platforms that run containers."""

from __future__ import annotations

from collections.abc import Mapping

from moorage.errors import PreflightError
from moorage.extras import install_command
from moorage.launch.platforms.docker.container import gpu_support
from moorage.launch.platforms.life import Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def package_check(name: str, extra: str) -> Check:
    """Whether a Python package is installed; `extra` installs it."""
    from importlib.util import find_spec

    ok = find_spec(name) is not None
    message = "installed" if ok else "not installed"
    hint = "" if ok else install_command(extra)
    return Check(name=f"python package {name}", ok=ok, message=message, hint=hint)


def version_check(version: Mapping[str, Any], *, name: str = "docker engine") -> Check:
    """Whether an engine is new enough, from what it says of its version."""
    from moorage.launch.platforms.docker.engine import require_api

    message = f"{version.get('Version')}, API {version.get('ApiVersion')}"
    try:
        require_api(version)
    except PreflightError as fault:
        return Check(name=name, ok=False, message=message, hint=fault.hint)
    return Check(name=name, ok=True, message=message)


def gpu_check(info: Mapping[str, Any], *, name: str = "docker GPUs") -> Check:
    """Never a failed check: an engine without GPUs is a good one, for services that need none."""
    from moorage.launch.platforms.docker.faults import NO_GPU_HINT

    support = gpu_support(info)
    if support is not None:
        return Check(name=name, ok=True, message=support)
    return Check(name=name, ok=True, message="the engine names no NVIDIA support", hint=NO_GPU_HINT)
