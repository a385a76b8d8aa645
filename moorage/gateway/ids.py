"""Ids: unguessable ones for what a client is given to come back with, cheap ones for what only has to be unique."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable

__all__ = ["cheap_ids", "uuid_hex"]


def uuid_hex() -> str:
    """A random UUID (version 4), 32 hexadecimal digits."""
    return uuid.uuid4().hex


def cheap_ids() -> Callable[[], str]:
    """A source of ids of 32 hexadecimal digits: 80 random bits for the process, and a number that counts up.

    A tenth of what a UUID costs, which a gateway pays three times a call. They can be guessed: they open nothing.
    """
    prefix, numbers = os.urandom(10).hex(), itertools.count(10**11)
    return lambda: f"{prefix}{next(numbers)}"
