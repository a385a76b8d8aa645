"""Names of users and models: what they may be, and how the ones that the platform gives are made. Pure."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime
from typing import Protocol

__all__ = [
    "MODEL_KEY",
    "SUFFIX_RULE",
    "USER_ID_RULE",
    "Chance",
    "dated_name",
    "dated_prefix",
    "model_alias",
    "new_model_key",
    "valid_suffix",
    "valid_user_id",
]

SUFFIX_RULE = "1 to 63 letters, digits, dots, underscores and dashes, and it begins with a letter or digit"
USER_ID_RULE = (
    "1 to 32 lower-case letters, digits, underscores and dashes, it begins with a letter, "
    "and no dash is followed by 12 digits"
)
MODEL_KEY = re.compile(r"svc-[a-z][a-z0-9_-]{0,31}-[0-9]{8}-[0-9]{6}-[a-z0-9]{4,}")
"""What `new_model_key` makes, to be matched in full."""

_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_USER_ID = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LIKE_A_DATE = re.compile(r"-[0-9]{12}")
_ALPHABET = string.ascii_lowercase + string.digits
_KEY_ENDS = 6
"""So two models of one user and second meet once in two milliards; the store refuses a key twice all the same."""


class Chance(Protocol):
    """Where randomness comes from: `random.Random`, `secrets.SystemRandom`."""

    def choice(self, seq: str, /) -> str: ...


def valid_suffix(text: str) -> bool:
    """Whether a user may call a model so (SUFFIX_RULE)."""
    return _SUFFIX.fullmatch(text) is not None


def valid_user_id(text: str) -> bool:
    """Whether a user may be called so (USER_ID_RULE).

    With a dash and 12 digits inside, two users could own one dated name: `a` with the suffix `202601061235-m` and
    `a-202601061235` with the suffix `m` would, within one minute.
    """
    return _USER_ID.fullmatch(text) is not None and _LIKE_A_DATE.search(text) is None


def dated_prefix(user_id: str, created_at: datetime) -> str:
    """`<user>-<YYYYMMDDHHMM>` of the UTC minute."""
    return f"{user_id}-{created_at.astimezone(UTC):%Y%m%d%H%M}"


def dated_name(user_id: str, suffix: str, created_at: datetime) -> str:
    """What requests call the model: `<user>-<YYYYMMDDHHMM>-<suffix>`."""
    return f"{dated_prefix(user_id, created_at)}-{suffix}"


def model_alias(user_id: str, suffix: str) -> str:
    """The name that stays when the model is declared anew: `<user>/<suffix>`."""
    return f"{user_id}/{suffix}"


def new_model_key(user_id: str, now: datetime, chance: Chance) -> str:
    """`svc-<user>-YYYYMMDD-HHMMSS-<6 letters or digits>` of the UTC second; another one every time."""
    end = "".join(chance.choice(_ALPHABET) for _ in range(_KEY_ENDS))
    return f"svc-{user_id}-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{end}"
