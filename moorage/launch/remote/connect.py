"""Log in to the first host of a target that answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError
from moorage.extras import install_command
from moorage.launch.remote.faults import none_answers
from moorage.launch.remote.host import RemoteHost
from moorage.launch.remote.target import RemoteTarget
from moorage.launch.remote.user_config import require_key

DOUBTFUL = frozenset({"host_key_unknown", "host_key_changed"})
"""A person must look at these; going on to the next host would hide them."""


def connect(target: RemoteTarget, environ: Mapping[str, str], *, timeout_s: float = 15.0) -> RemoteHost:
    """Log in; `timeout_s` is for each host. The caller closes what is returned.

    Raises PreflightError (`host_key_unknown`, `host_key_changed`, `login_refused`, `program_missing`), or
    PlatformUnreachable when no host answers.
    """
    require_key(target, environ)
    faults: dict[str, MoorageError] = {}
    for host in target.hosts:
        try:
            return _connect(host, target, environ, timeout_s)
        except (PlatformUnreachable, PreflightError) as fault:
            if fault.code in DOUBTFUL:
                raise
            faults[host] = fault
    raise none_answers(faults)


def _connect(host: str, target: RemoteTarget, environ: Mapping[str, str], timeout_s: float) -> RemoteHost:
    if target.client == "openssh":
        from moorage.launch.remote.openssh_client import connect_openssh

        return connect_openssh(host, target, environ, timeout_s=timeout_s)
    try:
        from moorage.launch.remote.paramiko_client import connect_paramiko
    except ImportError as fault:
        raise PreflightError(
            f"the Python package {fault.name} is not installed for {sys.executable}",
            code="paramiko_package_missing",
            hint="the extras moorage[slurm] and moorage[brev] have it; --ssh-client openssh needs only ssh on PATH",
            next=[install_command("slurm")],
        ) from fault

    return connect_paramiko(host, target, environ, timeout_s=timeout_s)
