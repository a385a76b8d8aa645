"""What a start on Slurm was asked for: flags first, then the variables that sites use. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.slurm.place import choose_workdir
from moorage.launch.remote.target import RemoteTarget, make_target

CONTAINERS = ("pyxis", "oci", "none")
NAME = re.compile(r"[A-Za-z0-9_][\w.,:+@/-]*", re.ASCII)
TIME = re.compile(r"\d+(?:-\d+(?::\d+){0,2}|(?::\d+){0,2})|UNLIMITED|infinite", re.IGNORECASE)
FALSE = frozenset({"0", "false", "no", "off"})


class SlurmOptions(NamedTuple):
    """None: not given, so the cluster's default holds."""

    partition: str | None
    account: str | None
    qos: str | None
    time: str | None
    """The wall time, as sbatch reads it: minutes, `HH:MM:SS`, `D-HH:MM`."""
    gpus_type: str | None
    cpus: str | None
    mem: str | None
    container: str
    """One of `CONTAINERS`."""
    workdir: str
    """Absolute, or relative to the login folder."""
    requeue: bool
    mounts: str
    """SLURM_CONTAINER_MOUNTS: `SRC:DST[:FLAGS]`, comma-separated, besides the mounts that were given; "" for none."""


def read_options(options: Mapping[str, Any], environ: Mapping[str, str]) -> SlurmOptions:
    """Flags win over `SLURM_*`. Raises UsageError for a value that Slurm could not read, or would read as more."""
    container = str(options.get("container") or "pyxis")
    if container not in CONTAINERS:
        raise UsageError(f"--container {container!r}: it is {', '.join(CONTAINERS)}", code="bad_container")
    hours = environ.get("SLURM_TIME_HOURS")
    return SlurmOptions(
        partition=_name("--partition", options.get("partition") or environ.get("SLURM_PARTITION")),
        account=_name("--account", options.get("account") or environ.get("SLURM_ACCOUNT")),
        qos=_name("--qos", options.get("qos")),
        time=_time(options.get("time")) or (_minutes(hours) if hours else None),
        gpus_type=_name("--gpus-type", options.get("gpus_type")),
        cpus=_name("--cpus", options.get("cpus")),
        mem=_name("--mem", options.get("mem")),
        container=container,
        workdir=choose_workdir(options.get("workdir"), environ),
        requeue=environ.get("SLURM_USE_REQUEUE", "").lower() not in FALSE,
        mounts=_mounts(environ.get("SLURM_CONTAINER_MOUNTS", "")),
    )


def login_target(options: Mapping[str, Any], environ: Mapping[str, str]) -> RemoteTarget:
    """Where to log in. Raises PreflightError when SLURM_HOSTNAME is not set, UsageError when it cannot be a host."""
    hosts = environ.get("SLURM_HOSTNAME", "")
    if not hosts.strip(", "):
        raise PreflightError(
            "no Slurm cluster is configured: SLURM_HOSTNAME is not set",
            code="not_configured",
            hint="set it to the login host, an alias of ~/.ssh/config, or several with commas between them",
            next=["export SLURM_HOSTNAME=login.cluster.example"],
        )
    return make_target(
        hosts,
        user=environ.get("SLURM_USER") or None,
        identity_file=environ.get("SSH_KEY_PATH") or None,
        client=str(options.get("ssh_client") or environ.get("MOORAGE_SSH_CLIENT") or "paramiko"),
    )


def _name(flag: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not NAME.fullmatch(str(value)):
        raise UsageError(
            f"{flag} {value!r} cannot be a name in Slurm", code="bad_option", hint="letters, digits and . , : + @ / - _"
        )
    return str(value)


def _time(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not TIME.fullmatch(str(value)):
        raise UsageError(
            f"--time {value!r} is no wall time",
            code="bad_option",
            hint="as sbatch reads it: minutes (240), HH:MM:SS (4:00:00) or days-hours (1-12)",
        )
    return str(value)


def _minutes(hours: str) -> str:
    try:
        minutes = round(float(hours) * 60)
    except (ValueError, OverflowError):
        minutes = 0
    if minutes < 1:
        raise UsageError(f"SLURM_TIME_HOURS {hours!r} is no number of hours", code="bad_option", hint="for example 4")
    return str(minutes)


def _mounts(text: str) -> str:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise UsageError(
            f"SLURM_CONTAINER_MOUNTS {text!r} cannot be mounts",
            code="bad_mount",
            hint="SRC:DST[:FLAGS], several with commas between them, without spaces",
        )
    return text.strip(",")
