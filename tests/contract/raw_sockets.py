"""Clients without a library: sockets that say what they like, and a reply that is too big to be read at once."""

from __future__ import annotations

import contextlib
import socket

from tests.contract.gateway_process import GatewayProcess
from tests.stand_ins.stub_reply import StubReply

BIG = 60 * 1024 * 1024


class BigReplies:
    """A reply of 60 MB."""

    def __call__(self, path: str, body: bytes) -> StubReply:
        del path, body
        return StubReply(200, b'{"text":"' + b"a" * BIG + b'"}')


def connect(gateway: GatewayProcess, *, small: bool = False) -> socket.socket:
    """`small`: with a receive buffer that holds next to nothing, so that what is not read stays with the gateway."""
    made = socket.socket()
    if small:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(30)
    made.connect(("127.0.0.1", gateway.port))
    return made


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 20):
            found += part
    return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
