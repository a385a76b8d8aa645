"""When a real part cannot be had: the test is skipped, counted and named, or fails where every part is required."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NoReturn

import pytest

MARK = "real part missing: "
REQUIRE_VARIABLE = "MOORAGE_REQUIRE_REAL"


class PartMissing(Exception):
    """Raised by the makers of parts: why this machine cannot have it, and what would help."""


def require_real(reason: str) -> NoReturn:
    """Skip the test for want of a real part; under MOORAGE_REQUIRE_REAL=1 fail it."""
    if real_is_required(os.environ):
        pytest.fail(f"{MARK}{reason} ({REQUIRE_VARIABLE} is set)", pytrace=False)
    pytest.skip(f"{MARK}{reason}")


def real_is_required(environ: Mapping[str, str]) -> bool:
    return environ.get(REQUIRE_VARIABLE, "") not in ("", "0")


def count_missing(reasons: Iterable[str]) -> list[str]:
    """Lines for the end of a run, one for each part that was missing, most wanted first."""
    missing = Counter(reason.partition(MARK)[2] for reason in reasons if MARK in reason)
    return [f"{count} skipped, real part missing: {reason}" for reason, count in missing.most_common()]
