"""Browsers that a page of somebody else sends here.

A gateway on loopback asks for no key, and every page that its user opens runs on the same machine. What a browser says
by itself, and no page can change, tells such requests apart: `Origin` on whatever changes something, and on a page that
pretends to be ours (DNS rebinding) the name in `Host`. Programs that are no browsers send neither, or what they like.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

__all__ = ["foreign_host", "foreign_origin"]

Headers = Sequence[tuple[bytes, bytes]]

OF_BROWSERS = frozenset((b"referer", b"accept-language", b"sec-fetch-site", b"sec-fetch-mode"))
"""A browser sends at least one of them with every request, and scripts cannot keep all of them away."""


def foreign_origin(headers: Headers, *, loopback: bool) -> str | None:
    """What shows that a page of somebody else sends this request, which has an Origin; None: the page is ours.

    `loopback`: nobody outside can reach us, so our pages have the names of loopback; else any name, the same in Host.
    """
    for name, value in headers:
        if name == b"origin" and not _ours(value, headers, loopback=loopback):
            return f"the Origin {_shown(value)}"
    return None


def foreign_host(headers: Headers) -> str | None:
    """The same of a request without an Origin, on loopback: it reads, or its browser is old.

    Pages elsewhere never see such a reply, but one under a name that was made to lead here does: that name is in Host.
    """
    host, browser = b"", False
    for name, value in headers:
        if name == b"host":
            host = value
        elif name in OF_BROWSERS:
            browser = True
    return f"the Host {_shown(host)}" if browser and not _is_loopback(host) else None


def _ours(origin: bytes, headers: Headers, *, loopback: bool) -> bool:
    scheme, _, authority = origin.partition(b"://")
    hosts = [value for name, value in headers if name == b"host"]
    if scheme not in (b"http", b"https") or hosts != [authority]:
        return False
    return not loopback or _is_loopback(authority)


def _is_loopback(authority: bytes) -> bool:
    """Of `host`, `host:port` or `[host]:port`: a name or address of this very machine, which no DNS can lead astray."""
    text = authority.decode("latin-1").lower()
    host = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(value: bytes) -> str:
    text = value.decode("latin-1")
    return repr(text if len(text) <= 100 else text[:100] + "…")
