"""Whether the key that a host shows is let through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moorage.errors import PreflightError
from moorage.launch.remote import faults
from moorage.launch.remote.known_hosts import CHANGED, KNOWN, REVOKED, HostKey, fingerprint, line_for, verdict
from moorage.launch.remote.ssh_config import Settings
from moorage.launch.remote.target import RemoteTarget
from moorage.launch.remote.user_config import add_known_host


def check_host_key(
    settings: Settings, known: Sequence[HostKey], kind: str, blob: bytes, *, target: RemoteTarget
) -> None:
    """Raises PreflightError (`host_key_unknown`, `host_key_changed`) with the fingerprint and what to do.

    `StrictHostKeyChecking no` and `accept-new` of the user's own configuration are honoured; new keys are noted then.
    """
    found = verdict(known, settings.known_name, kind, blob)
    if found == KNOWN:
        return
    if found == REVOKED:
        raise faults.host_key_revoked(settings.alias, settings.place, kind, fingerprint(blob))
    if settings.strict == "no" or (settings.strict == "accept-new" and found != CHANGED):
        if found != CHANGED:
            add_known_host(settings.user_known_hosts, line_for(settings.known_name, kind, blob))
        return
    raise host_key_fault(settings, kind, fingerprint(blob), target=target, changed=found == CHANGED)


def host_key_fault(
    settings: Settings, kind: str, print_: str, *, target: RemoteTarget, changed: bool
) -> PreflightError:
    """The fault for a key that is not known, or not the known one."""
    ask = ["ssh", "-o", "StrictHostKeyChecking=ask"]
    ask += ["-p", str(target.port)] if target.port else []
    ask += [f"{target.user}@{settings.alias}" if target.user else settings.alias, "true"]
    if not changed:
        return faults.host_key_unknown(settings.alias, settings.host_name, kind, print_, command=ask)
    known_file = next((file for file in settings.known_hosts_files if Path(file).exists()), "known_hosts")
    return faults.host_key_changed(
        settings.alias,
        settings.host_name,
        kind,
        print_,
        known_file=known_file,
        name=settings.known_name,
        command=ask,
    )
