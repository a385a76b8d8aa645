"""Token ids as little-endian uint32, log probabilities as little-endian float64: four and eight bytes each.

Packed ids are compared by memory, so how far two prompts agree costs microseconds, whatever their length.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ["ID_BYTES", "common_prefix", "count", "pack_floats", "pack_ids", "unpack_floats", "unpack_ids"]

ID_BYTES = 4

_Number = TypeVar("_Number", int, float)


def pack_ids(ids: Iterable[int]) -> bytes:
    """[N] ids → [N] uint32.

    Raises ValueError for an id below 0 or above 2**32 - 1, TypeError for what is no integer.
    """
    try:
        return _native(array("I", ids)).tobytes()
    except OverflowError as fault:
        raise ValueError(f"a token id is out of range: {fault}") from None


def unpack_ids(packed: bytes | bytearray | memoryview) -> list[int]:
    """[N] uint32 → [N] ids. Raises ValueError when the bytes are no whole number of ids."""
    values = array("I")
    values.frombytes(packed)
    return _native(values).tolist()


def pack_floats(values: Sequence[float]) -> bytes:
    """[N] numbers → [N] float64, to the bit. Raises TypeError for what is no number."""
    try:
        return struct.pack(f"<{len(values)}d", *values)  # at half the cost of an array
    except struct.error as fault:
        raise TypeError(f"not a log probability: {fault}") from None


def unpack_floats(packed: bytes | bytearray | memoryview) -> list[float]:
    """[N] float64 → [N] floats. Raises ValueError when the bytes are no whole number of floats."""
    values = array("d")
    values.frombytes(packed)
    return _native(values).tolist()


def count(packed: bytes | bytearray | memoryview) -> int:
    """How many ids the bytes hold."""
    return len(packed) // ID_BYTES


def common_prefix(a: bytes | bytearray, b: bytes | bytearray, *, a_from: int = 0, b_from: int = 0) -> int:
    """How many leading tokens `a` and `b` share; `a` is read from its token `a_from` on, `b` from `b_from`."""
    start = a_from * ID_BYTES
    if b_from == 0 and a.startswith(b, start):
        return count(b)  # as mostly: what is there is repeated
    other = memoryview(b)[b_from * ID_BYTES :]
    # startswith compares memory in place, a view needs no copy: halving finds the first difference in one more pass.
    low, high = 0, min(len(a) - start, len(other))
    if high <= 0:
        return 0
    if a.startswith(other[:high], start):
        return high // ID_BYTES
    while high - low > ID_BYTES:
        middle = (low + high) // 2
        if a.startswith(other[low:middle], start + low):
            low = middle
        else:
            high = middle
    while a[start + low] == other[low]:
        low += 1
    return low // ID_BYTES


def _native(values: array[_Number]) -> array[_Number]:
    """Turns the machine's byte order into the packed one, and back."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
