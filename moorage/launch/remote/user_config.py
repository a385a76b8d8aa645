"""The user's SSH files on this machine. `~` is HOME of the environment that is handed in."""

from __future__ import annotations

import glob
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from moorage.errors import PreflightError
from moorage.launch.remote.ssh_config import Settings, settings_of
from moorage.launch.remote.target import RemoteTarget

SYSTEM_FOLDER = "/etc/ssh"


def read_settings(alias: str, target: RemoteTarget, environ: Mapping[str, str]) -> Settings:
    """How to reach `alias`, by ~/.ssh/config and /etc/ssh/ssh_config; what `target` says wins."""
    home = home_of(environ)
    folder = f"{home}/.ssh"

    def include(pattern: str) -> Sequence[str]:
        pattern = f"{home}{pattern[1:]}" if pattern.startswith("~/") else pattern
        places = [pattern] if pattern.startswith("/") else [f"{folder}/{pattern}", f"{SYSTEM_FOLDER}/{pattern}"]
        found = next((names for names in map(glob.glob, places) if names), [])
        return [read_text(name) for name in sorted(found)]

    return settings_of(
        alias,
        [read_text(f"{folder}/config"), read_text(f"{SYSTEM_FOLDER}/ssh_config")],
        home=home,
        local_user=user_of(environ),
        local_host=socket.gethostname(),
        user=target.user,
        port=target.port,
        identity_file=expand_home(target.identity_file, environ),
        include=include,
        environ=environ,
    )


def config_arguments(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Arguments that make ssh(1) go by HOME: it takes the home folder of the user table instead, where they differ."""
    import pwd

    home = Path(home_of(environ))
    with suppress(KeyError):  # a user without a name, as in a container
        if Path(pwd.getpwuid(os.getuid()).pw_dir).resolve() == home.resolve():
            return []
    config = home / ".ssh/config"
    known = " ".join(f'"{path}"' for path in settings.user_known_hosts) or "none"
    arguments = ["-F", str(config) if config.exists() else os.devnull, "-o", f"UserKnownHostsFile={known}"]
    return arguments + [word for path in settings.identity_files for word in ("-o", f'IdentityFile="{path}"')]


def require_key(target: RemoteTarget, environ: Mapping[str, str]) -> None:
    """Raises PreflightError (`login_refused`) when the target names a private key that cannot be read."""
    path = expand_home(target.identity_file, environ)
    if path is None or os.access(path, os.R_OK):
        return
    raise PreflightError(
        f"the private key {path} cannot be read",
        code="login_refused",
        hint="SSH_KEY_PATH names a private key; without it, those of ~/.ssh and of an agent (SSH_AUTH_SOCK) are tried",
    )


def home_of(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or "/"


def user_of(environ: Mapping[str, str]) -> str:
    """Who we are here: OpenSSH's name for the other side when nothing else says one."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return environ.get("USER") or environ.get("LOGNAME") or str(os.getuid())


def expand_home(path: str | None, environ: Mapping[str, str]) -> str | None:
    return f"{home_of(environ)}{path[1:]}" if path and path.startswith("~/") else path


def read_text(path: str) -> str:
    """A text file; "" when it cannot be read, as OpenSSH takes it."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def add_known_host(files: Sequence[str], line: str) -> None:
    """Note a new host key in the first of the known_hosts files; not being able to is no fault."""
    if not files or files[0] == os.devnull:
        return
    path = Path(files[0])
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError:
        return
