"""Through a login host to an address that it reaches."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from moorage.errors import MoorageError, TryAgainError, UsageError
from moorage.launch.remote.connect import connect
from moorage.launch.remote.faults import unreachable
from moorage.launch.remote.host import RemoteHost
from moorage.launch.remote.target import RemoteTarget
from moorage.launch.tunnel.route import Stream

CONNECT_S = 10.0
ANSWER_S = 6.0
"""A login host that is silent for so long is as good as gone."""
ADDRESS_S = 2.0
"""How old what the address file said may be."""

Place = tuple[str, int]


class SshRoute:
    """See `tunnel.route.Route`."""

    def __init__(self, route: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._remote_target = RemoteTarget.from_dict(route.get("remote") or {})
        self._environ = environ
        self._address_file = str(route["address_file"]) if route.get("address_file") else None
        self._place = None if self._address_file else parse_place(route.get("address"), route.get("port"))
        self._read_at_s = float("-inf")
        self._remote: RemoteHost | None = None
        if self._address_file is None and self._place is None:
            raise UsageError(f"a tunnel over SSH leads nowhere: {dict(route)!r}")

    @property
    def target(self) -> str | None:
        return f"{self._place[0]}:{self._place[1]}" if self._place else None

    def connect(self) -> None:
        self.close()
        self._remote = connect(self._remote_target, self._environ, timeout_s=CONNECT_S)
        self._read_place(self._remote)

    def open(self) -> Stream:
        remote, place = self._remote, self._place
        if remote is None or place is None:
            raise unreachable(", ".join(self._remote_target.hosts), "no connection")
        try:
            return remote.open_stream(*place)
        except TryAgainError:
            self._read_place(remote)  # the service may have moved
            if self._place in (None, place):
                raise
            return remote.open_stream(*(self._place or place))

    def check(self) -> None:
        remote = self._remote
        if remote is None or not remote.is_alive(ANSWER_S):
            raise unreachable(remote.name if remote else "the login host", f"silent for {ANSWER_S:g} s")
        if self._place is None or time.monotonic() - self._read_at_s >= ADDRESS_S:
            self._read_place(remote)

    def close(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            with suppress(OSError, MoorageError):
                remote.close()

    def _read_place(self, remote: RemoteHost) -> None:
        """What cannot be read, or is being written just now, leaves the place as it was."""
        if self._address_file is None:
            return
        self._read_at_s = time.monotonic()
        self._place = read_place(remote.get(self._address_file)) or self._place
        if self._place is None:
            raise TryAgainError(
                f"the job has not said yet where it listens: {self._address_file} is not on {remote.name}",
                code="address_unknown",
            )


def read_place(data: bytes | None) -> Place | None:
    """Parse an address file; None when it is not there, or not whole."""
    try:
        found = json.loads(data or b"null")
    except ValueError:
        return None
    return parse_place(found.get("node"), found.get("port")) if isinstance(found, dict) else None


def parse_place(address: object, port: object) -> Place | None:
    whole = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536
    return (address, port) if isinstance(address, str) and address and whole else None  # type: ignore[return-value]
