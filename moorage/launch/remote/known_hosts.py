"""known_hosts files: whether a host's key is the one that is known. Pure.

Plain, hashed and [host]:port names, patterns with * and !, and keys marked @revoked are understood; authorities
(@cert-authority) are left to OpenSSH.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moorage.launch.remote.ssh_config import matches_any

KNOWN = "known"
UNKNOWN = "unknown"
CHANGED = "changed"
REVOKED = "revoked"


class HostKey(NamedTuple):
    """One line of a known_hosts file."""

    revoked: bool
    names: str
    """As written: comma-separated, or hashed."""
    kind: str
    """`ssh-ed25519`, `ssh-rsa`, …"""
    blob: str
    """The key, in base64."""


def read_keys(texts: Iterable[str]) -> list[HostKey]:
    """All keys of some files; lines that cannot be read are passed over, as OpenSSH does."""
    found = []
    for line in (line for text in texts for line in text.splitlines()):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        found.append(HostKey(marker == "@revoked", *words[:3]))
    return found


def verdict(keys: Sequence[HostKey], name: str, kind: str, blob: bytes) -> str:
    """`known`, `unknown`, `changed` or `revoked`: what files say of a key that a host called `name` shows."""
    shown = kind, base64.b64encode(blob).decode()
    ours = [key for key in keys if names_match(key.names, name)]
    if any((key.kind, key.blob) == shown for key in ours if key.revoked):
        return REVOKED
    good = [key for key in ours if not key.revoked]
    if any((key.kind, key.blob) == shown for key in good):
        return KNOWN
    return CHANGED if good else UNKNOWN


def known_kinds(keys: Sequence[HostKey], name: str) -> list[str]:
    """Kinds of keys that are known of a host: what to ask it for, so that it does not show one that is not."""
    return [key.kind for key in keys if not key.revoked and names_match(key.names, name)]


def names_match(names: str, name: str) -> bool:
    if not names.startswith("|1|"):
        return matches_any(name, names.split(","))
    try:
        salt, digest = (base64.b64decode(part) for part in names[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def fingerprint(blob: bytes) -> str:
    """`SHA256:…`, as ssh-keygen prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def line_for(name: str, kind: str, blob: bytes) -> str:
    """A line to add for a new key."""
    return f"{name} {kind} {base64.b64encode(blob).decode()}\n"
