"""Where an upstream is: scheme, host, port and path prefix, parsed once and never by substring."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from moorage.errors import UsageError

__all__ = ["Origin"]

DEFAULT_PORTS = {"http": 80, "https": 443}
SAFE_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", re.ASCII)
SAFE_HOST = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)


class Origin(NamedTuple):
    """`prefix` begins with a slash, or is empty, and never ends with `/v1`: targets say that themselves."""

    scheme: str
    host: str
    """Without brackets, also for IPv6."""
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Of an upstream's base URL, which may or may not end in `/v1`.

        Raises UsageError `bad_upstream_url` for anything else than http(s)://host[:port][/prefix].
        """
        try:
            split = urlsplit(url)
            host, port = split.hostname, split.port
        except ValueError as error:
            raise _refused(_without_secrets(url), str(error)) from None
        if split.scheme not in DEFAULT_PORTS:
            raise _refused(_without_secrets(url), "it must begin with http:// or https://")
        if not host or not SAFE_HOST.fullmatch(host):
            raise _refused(_without_secrets(url), "it has no host that can be looked up")
        if split.username is not None or split.password is not None:
            raise _refused(_without_secrets(url), "it holds a user or a password: give the key as api_key_env")
        if split.query or split.fragment or not SAFE_PATH.fullmatch(split.path):
            raise _refused(_without_secrets(url), "only a path may follow the host")
        return cls(split.scheme, host, port or DEFAULT_PORTS[split.scheme], _prefix(split.path))

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """One spelling for all that mean the same: neither a trailing slash nor `/v1`."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def _without_secrets(url: str) -> str:
    """The URL without user, password and query, for messages."""
    head, _, rest = url.partition("://")
    if not rest:
        return re.split(r"[?#@]", head)[0]
    place, slash, path = rest.partition("/")
    return f"{head}://{place.rpartition('@')[2]}{slash}{re.split(r'[?#]', path)[0]}"


def _prefix(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if parts and parts[-1] == "v1":
        parts.pop()
    return "".join(f"/{part}" for part in parts)


def _refused(url: str, why: str) -> UsageError:
    return UsageError(
        f"{url!r} is no upstream URL: {why}",
        code="bad_upstream_url",
        hint="for example http://127.0.0.1:8000/v1",
    )
