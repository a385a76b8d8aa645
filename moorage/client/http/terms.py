"""How a client talks to its gateway."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.client.http.place import KEY_ENV, KEY_HINT, address_of, key_headers
from moorage.errors import UsageError

__all__ = ["Terms", "terms_of"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Times are seconds."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """The key among them."""
    timeout_s: float
    """Without a byte of a reply; of a model call the whole generation."""
    patience_s: float
    """How long pauses before further attempts may take, all of them together."""
    max_connections: int
    server: str = "gateway"
    """What is asked, as messages call it."""
    key_hint: str = KEY_HINT
    """What to do when it wants another key."""


def terms_of(
    url: str,
    *,
    key_env: str | None = KEY_ENV,
    environ: Mapping[str, str] = os.environ,
    timeout_s: float = 600.0,
    patience_s: float = 30.0,
    max_connections: int = 1000,
) -> Terms:
    """Raises UsageError for a wrong address or time, PreflightError for a key's variable that is not set."""
    for name, value in (("timeout_s", timeout_s), ("max_connections", max_connections)):
        if not value > 0:
            raise UsageError(f"{name} is {value!r}: it is above 0", code="bad_value")
    if not patience_s >= 0:
        raise UsageError(f"patience_s is {patience_s!r}: it is not below 0", code="bad_value")
    return Terms(address_of(url), key_headers(key_env, environ), timeout_s, patience_s, max_connections)
