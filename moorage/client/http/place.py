"""Where a gateway is, and the key that is shown to it: names of variables, never values, are passed around."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from moorage.errors import PreflightError, UsageError

__all__ = ["KEY_ENV", "KEY_HINT", "address_of", "key_headers"]

KEY_ENV = "MOORAGE_KEY"
KEY_HINT = "name the variable that holds a key with key_env (MOORAGE_KEY)"


def address_of(url: str, *, server: str = "gateway") -> str:
    """The address without a slash at its end. Raises UsageError for what is no http(s) address."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        good = good and not parts.username and not parts.password and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{url!r} is no {server}'s address", code="bad_value", hint="write http://HOST:PORT")
    return url.rstrip("/")


def key_headers(
    key_env: str | None, environ: Mapping[str, str], *, default_env: str = KEY_ENV, server: str = "gateway"
) -> dict[str, str]:
    """The key as a header; empty without one.

    `default_env` is shown where it is set. Another variable must be set: raises PreflightError `key_missing`, and
    `key_unusable` for what cannot stand in a header.
    """
    if key_env is None:
        return {}
    key = environ.get(key_env, "")
    if not key:
        if key_env == default_env:
            return {}
        raise PreflightError(
            f"{key_env} is not set: it should hold the {server}'s key", code="key_missing", hint=f"export {key_env}"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise PreflightError(f"what {key_env} holds cannot be a key", code="key_unusable")
    return {"authorization": f"Bearer {key}"}
