"""What ssh(1) says when it does not get in, told with `-v`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moorage.errors import MoorageError
from moorage.launch.remote import faults
from moorage.launch.remote.host_keys import host_key_fault
from moorage.launch.remote.ssh_config import Settings
from moorage.launch.remote.target import RemoteTarget

NOISE = ("debug1:", "debug2:", "debug3:", "OpenSSH_", "Warning: Permanently added", "Authenticated to ", "@@@")


def fault_of(said: str, settings: Settings, *, target: RemoteTarget, environ: Mapping[str, str]) -> MoorageError:
    """The fault that its stderr tells of."""
    shown = re.search(r"Server host key: (\S+) (SHA256:\S+)", said)
    kind, print_ = (shown[1], shown[2]) if shown else ("a key", "of unknown fingerprint")
    if "REVOKED HOST KEY" in said:
        return faults.host_key_revoked(settings.alias, settings.host_name, kind, print_)
    changed = "REMOTE HOST IDENTIFICATION HAS CHANGED" in said
    if changed or "Host key verification failed" in said:
        return host_key_fault(settings, kind, print_, target=target, changed=changed)
    denied = re.search(r"Permission denied \(([^)]*)\)", said)
    if denied and "publickey" not in denied[1]:
        return faults.needs_more(settings.alias, settings.user, denied[1].split(","))
    if denied or "Too many authentication failures" in said:
        tried = re.findall(r"Offering public key: (\S+)", said)
        return faults.login_refused(settings.alias, settings.user, tried, environ)
    return faults.unreachable(settings.place, reason_of(said))


def reason_of(said: str) -> str:
    """The last line that is meant for people; "" when there is none."""
    lines = [line.strip() for line in said.splitlines()]
    people = [line for line in lines if line and not line.startswith(NOISE)]
    # The first line of a chain says why; that a proxy's pipe broke is only what follows from it.
    telling = [line for line in people if "UNKNOWN port 65535" not in line]
    return (telling or people or [""])[-1]
