"""Which machine to reach, and how: what an entry or a tunnel's specification keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.errors import UsageError

CLIENTS = ("paramiko", "openssh")
FORBIDDEN = frozenset(" \t\r\n\"'`$\\;&|<>(){}*?!#")
"""None of them is part of a host's or a user's name, and a shell or ssh would read more into them."""


class RemoteTarget(NamedTuple):
    """Login hosts and how to log in. `make_target` checks what people typed."""

    hosts: tuple[str, ...]
    """Names, or aliases of ~/.ssh/config, tried in turn."""
    user: str | None = None
    """This and the next two win over that file; None leaves them to it."""
    port: int | None = None
    identity_file: str | None = None
    client: str = "paramiko"
    """One of `CLIENTS`."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {**self._asdict(), "hosts": list(self.hosts)}

    @classmethod
    def from_dict(cls, field: Mapping[str, Any]) -> RemoteTarget:
        """What `as_dict` made. Raises UsageError when it is something else."""
        hosts, user, port, key, client = (field.get(name) for name in cls._fields)
        texts = isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)
        whole = port is None or (isinstance(port, int) and not isinstance(port, bool))
        named = isinstance(user, str | None) and isinstance(key, str | None) and isinstance(client, str)
        if not (texts and whole and named):
            raise UsageError(f"this is no remote host: {dict(field)!r}")
        return make_target(tuple(hosts or ()), user=user, port=port, identity_file=key, client=str(client))


def make_target(
    hosts: str | tuple[str, ...],
    *,
    user: str | None = None,
    port: int | None = None,
    identity_file: str | None = None,
    client: str = "paramiko",
) -> RemoteTarget:
    """A checked target; `hosts` may be one text with commas. Raises UsageError naming what cannot be."""
    names = tuple(name.strip() for name in hosts.split(",")) if isinstance(hosts, str) else tuple(hosts)
    names = tuple(name for name in names if name)
    if not names:
        raise UsageError("no login host is given", hint="a name, or several with commas between them")
    for what, text in [*(("login host", name) for name in names), ("user", user)]:
        if text is not None and (not text or text.startswith("-") or not FORBIDDEN.isdisjoint(text)):
            raise UsageError(f"{what} {text!r} cannot be the name of one", hint="see `ssh` for what it takes")
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"port {port} is none: ports are 1 to 65535")
    if client not in CLIENTS:
        raise UsageError(f"unknown SSH client {client!r}: it is {' or '.join(CLIENTS)}")
    return RemoteTarget(names, user or None, port, identity_file or None, client)
