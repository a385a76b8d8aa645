"""Ages and sizes as people write them."""

from __future__ import annotations

import argparse
import re

__all__ = ["age_s", "size_bytes"]

UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
UNITS_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def age_s(text: str) -> float:
    """Seconds of `3600`, `90m`, `12h` or `30d`."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhd]?)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 3600, 90m, 12h or 30d")
    return float(match[1]) * UNITS_S[match[2]]


def size_bytes(text: str) -> int:
    """Bytes of `1000000`, `500M` or `50G`, powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 1000000, 500M or 50G (powers of 1024)")
    return int(match[1]) * UNITS_BYTES[match[2]]
