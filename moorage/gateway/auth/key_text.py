"""What a key looks like: `moor_ROLE_NAME_SECRETCHECK`.

ROLE is admin, trainer or session. NAME is public: the id of a stored key, or the uid of the session that the key opens.
SECRET is 48 random hexadecimal digits, CHECK 8 more: the CRC-32 of all before it, which tells a mistyped key from a
wrong one and protects nothing. Only SHA-256 digests are kept. A slow hash, as for passwords, would add nothing: 192
random bits cannot be guessed, however fast a guess is checked.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = [
    "KEY_ID",
    "KeyRole",
    "KeyText",
    "digest_of",
    "make_key",
    "mistyped",
    "new_key_id",
    "read_key",
    "without_keys",
]

KeyRole = Literal["admin", "trainer", "session"]

SECRET_BYTES = 24
ID_BYTES = 6
CHECK_DIGITS = 8

KEY_ID = re.compile(r"[0-9a-f]{12}")
SHAPE = re.compile(rb"moor_(admin|trainer|session)_([0-9a-f-]{1,64})_([0-9a-f]{48})([0-9a-f]{8})")
SECRET = re.compile(rb"(moor_[a-z]+_[0-9A-Za-z-]{1,64}_)[0-9A-Za-z]+")
LOOKS_LIKE_ONE = re.compile(rb"moor_[a-z]+_[0-9A-Za-z-]*")


class KeyText(NamedTuple):
    """The public parts of a key."""

    role: KeyRole
    name: str
    """Of a stored key its id, of a session's key the session's uid."""


def make_key(role: KeyRole, name: str, random_bytes: Callable[[int], bytes]) -> str:
    """A new key. `random_bytes(n)` gives n bytes that nobody can guess, as `os.urandom` does."""
    text = f"moor_{role}_{name}_{random_bytes(SECRET_BYTES).hex()}"
    return text + _check(text.encode())


def new_key_id(random_bytes: Callable[[int], bytes]) -> str:
    """An id for a stored key, 12 hexadecimal digits."""
    return random_bytes(ID_BYTES).hex()


def read_key(key: bytes) -> KeyText | None:
    """Its public parts; None for what no gateway has made: another shape, or digits that do not fit together."""
    found = SHAPE.fullmatch(key)
    if found is None or _check(key[:-CHECK_DIGITS]).encode() != found[4]:
        return None
    return KeyText(found[1].decode(), found[2].decode())  # type: ignore[arg-type]  # the pattern has the roles


def mistyped(key: bytes) -> bool:
    """Whether it begins as our keys do and yet is none: cut off, or a digit changed."""
    return LOOKS_LIKE_ONE.match(key) is not None and read_key(key) is None


def without_keys(text: bytes) -> bytes:
    """The same with the secrets of keys left out, wherever somebody put one: in a path, in an id of a request."""
    return SECRET.sub(rb"\1...", text) if b"moor_" in text else text


def digest_of(key: bytes) -> bytes:
    """What is stored in its place: SHA-256, 32 bytes."""
    return hashlib.sha256(key).digest()


def _check(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"
