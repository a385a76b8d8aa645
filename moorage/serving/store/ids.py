"""Ids and secrets of tokens. Pure: chance is passed in."""

from __future__ import annotations

import hashlib
from typing import Protocol

from moorage.serving.spec.names import Chance

__all__ = ["Ids", "new_secret", "new_token_id", "sha256_of"]

_PREFIX = "moor_sk_"
_SECRET_BYTES = 32
_ID_BYTES = 6


class Ids(Chance, Protocol):
    """Where randomness comes from: `secrets.SystemRandom`, and `random.Random` in tests."""

    def randbytes(self, n: int, /) -> bytes: ...


def new_secret(ids: Ids) -> str:
    """256 bits that nobody can guess. A slow hash of it would protect nothing more than a quick one."""
    return _PREFIX + ids.randbytes(_SECRET_BYTES).hex()


def new_token_id(ids: Ids) -> str:
    """Public: what a token is listed and revoked by."""
    return f"tok-{ids.randbytes(_ID_BYTES).hex()}"


def sha256_of(text: str) -> str:
    """In hexadecimal digits. Whatever a client sent has one."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
