"""Opening a connection without holding up anybody else: name look-up and waiting give the interpreter away.

libpq's own connecting does not, and what it does step by step knows no time limit and no second host. So the hosts of
the URL, and the addresses of a host, are tried here one by one.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from collections.abc import Iterator, Mapping

from psycopg import conninfo, pq

from moorage.pool.postgres.pipe import Lost

__all__ = ["dial"]

_LONGEST_S = 60


def dial(words: Mapping[str, str], timeout_s: float) -> pq.abc.PGconn:
    """The first that answers. `timeout_s`: of each address. Raises Lost with the last one's reason."""
    fault = Lost("no host is named")
    for attempt in _attempts(words):
        try:
            return _connect(conninfo.make_conninfo(**attempt).encode(), timeout_s)
        except Lost as lost:
            fault = lost
    raise fault


def _attempts(words: Mapping[str, str]) -> Iterator[dict[str, str]]:
    hosts = words.get("host", "").split(",")
    ports = words.get("port", "").split(",")
    if "hostaddr" in words:
        yield dict(words)
        return
    for place, host in enumerate(hosts):
        port = ports[place] if len(ports) == len(hosts) else ports[0]
        one = {**words, "host": host, "port": port}
        one = {name: value for name, value in one.items() if value}
        addresses = _addresses(host, port)
        if addresses is None:
            yield one
            continue
        for address in addresses:
            yield {**one, "hostaddr": address}


def _addresses(host: str, port: str) -> list[str] | None:
    """None: nothing to look up. Empty names and folders of sockets are libpq's to know."""
    if not host or host.startswith(("/", "@")):
        return None
    try:
        ipaddress.ip_address(host)
        return None
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, int(port or 5432), type=socket.SOCK_STREAM)
    except OSError as fault:
        raise Lost(f"the host {host!r} is not known: {fault.strerror or fault}") from fault
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _connect(words: bytes, timeout_s: float) -> pq.abc.PGconn:
    deadline = time.monotonic() + min(timeout_s or _LONGEST_S, _LONGEST_S)
    connection = pq.PGconn.connect_start(words)
    try:
        while connection.status != pq.ConnStatus.BAD:
            state = connection.connect_poll()
            if state == pq.PollingStatus.OK:
                return connection
            if state == pq.PollingStatus.FAILED:
                break
            waiting = select.poll()
            waiting.register(connection.socket, select.POLLIN if state == pq.PollingStatus.READING else select.POLLOUT)
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not waiting.poll(left_s * 1000):
                raise Lost("the server does not answer")
        raise Lost(" ".join(connection.error_message.decode(errors="replace").split()) or "it cannot be reached")
    except BaseException:
        connection.finish()
        raise
