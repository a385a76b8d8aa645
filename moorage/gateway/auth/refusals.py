"""How a request is refused for its key, in words that tell its owner what to do and others nothing.

A key that nobody made, one whose secret is wrong and one whose id is unknown are told alike. Only who shows the whole
secret of a key learns that it was revoked or has run out.
"""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit, urlunsplit

from moorage.errors import PreflightError
from moorage.gateway.http.faults import Fault

__all__ = [
    "forbidden",
    "key_expired",
    "key_missing",
    "key_revoked",
    "key_wrong",
    "keys_unknown",
    "no_admin_key",
    "page_foreign",
    "several_keys",
    "too_many_failures",
]

CHALLENGE = b'Bearer realm="moorage"'
WRONG = CHALLENGE + b', error="invalid_token"'


def key_missing() -> Fault:
    """401: none was shown."""
    message = "this gateway asks for a key: send Authorization: Bearer KEY, or x-api-key: KEY"
    return _unknown(message, "key_missing", CHALLENGE)


def key_wrong(*, mistyped: bool) -> Fault:
    """401: no key of this gateway."""
    message = "the key is mistyped or cut off: its digits do not fit together" if mistyped else "the key is wrong"
    return _unknown(message, "key_wrong")


def key_revoked() -> Fault:
    """401: it was one."""
    return _unknown("the key was revoked", "key_revoked")


def key_expired() -> Fault:
    """401: it was one, for a time that is over."""
    return _unknown("the key has expired", "key_expired")


def several_keys() -> Fault:
    """401: two different keys in one request."""
    return _unknown("the request shows two different keys: send one", "key_wrong")


def forbidden(why: str) -> Fault:
    """403: the key is good, and not for this."""
    return Fault(403, why, code="forbidden")


def page_foreign(what: str) -> Fault:
    """403: a browser sends this for a page that is not the gateway's."""
    message = f"{what} is not this gateway's: pages of others may not use it without a key (docs/security.md)"
    return Fault(403, message, code="page_foreign")


def too_many_failures(retry_after_s: int) -> Fault:
    """429: the address has shown too many wrong keys."""
    message = f"too many wrong keys from this address: the next answer to one in {retry_after_s} s"
    return Fault(429, message, code="too_many_failures", retry_after_s=retry_after_s)


def no_admin_key(db: str) -> PreflightError:
    """A gateway that nobody could ever use does not start. `db`: as `--db` has it."""
    return PreflightError(
        "requests need keys here, and the store has no good admin key",
        code="keys_required",
        hint="make one, or listen on 127.0.0.1, where none is asked for",
        next=[f"moor gateway keys create --role admin --db {shlex.quote(_without_password(db))}"],
    )


def keys_unknown() -> Fault:
    """503: the store has not said for a while which keys are good, so none is."""
    message = "the store cannot be asked which keys are good; try again"
    return Fault(503, message, code="store_unavailable", retry_after_s=1)


def _without_password(db: str) -> str:
    """A URL as commands may show it: the password of a database is for its variable or file."""
    parts = urlsplit(db)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}")) if at else db


def _unknown(message: str, code: str, challenge: bytes = WRONG) -> Fault:
    fault = Fault(401, message, code=code)
    fault.challenge = challenge
    return fault
