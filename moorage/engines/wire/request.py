"""The head of a request as bytes: what is ours to say, and what of the caller's headers may go along."""

from __future__ import annotations

import re
from collections.abc import Iterable

from moorage.errors import UsageError

__all__ = ["HOP_BY_HOP", "first_lines", "head_of"]

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Said from hop to hop, never passed on, in either direction."""

OURS = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding"}
"""What this client says itself. Replies are asked for uncompressed: they are read on the way."""

METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
TARGET = re.compile(r"/[!-~]*", re.ASCII)


def first_lines(method: str, target: str, authority: str, fixed: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The request line, Host, and headers that every request to this origin carries.

    Raises UsageError for a method or target that could not be one line.
    """
    if method not in METHODS:
        raise UsageError(f"{method!r} is no method to ask an upstream with", code="bad_method")
    if not TARGET.fullmatch(target):
        raise UsageError(f"{target!r} is no request target", code="bad_target")
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {authority}\r\n".encode("ascii")]
    lines += [b"%s: %s\r\n" % pair for pair in fixed]
    return b"".join(lines)


def head_of(lines: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head but for the length of the body (`b"content-length: 5\\r\\n\\r\\n"`); `headers`: names in lower case.

    Raises UsageError for a line break inside a header, which would begin a header or a request of its own.
    """
    passed = [b"%s: %s\r\n" % pair for pair in headers if pair[0] not in OURS]
    head = lines + b"".join(passed)
    if head.count(b"\n") != lines.count(b"\n") + len(passed) or head.count(b"\r") != head.count(b"\n"):
        raise UsageError("a header holds a line break", code="bad_header")
    return head
