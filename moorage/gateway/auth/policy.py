"""Whether requests need a key, by what is listened on and what was asked for."""

from __future__ import annotations

import ipaddress
from typing import Literal

__all__ = ["AuthChoice", "is_loopback", "keys_needed"]

AuthChoice = Literal["auto", "keys", "none"]


def is_loopback(address: str) -> bool:
    """Of 127.0.0.0/8 or ::1: nothing outside this machine reaches it. A name is no address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def keys_needed(auth: AuthChoice, address: str) -> bool:
    """`address`: that the socket is bound to, not the name it was asked for by."""
    return auth == "keys" or (auth == "auto" and not is_loopback(address))
