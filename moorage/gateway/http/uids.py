"""What may stand in a path: uids and channels."""

from __future__ import annotations

import re

__all__ = ["RESERVED", "UID_RULE", "is_channel", "is_prompt_uid", "is_trajectory_uid", "is_uid"]

RESERVED = frozenset(
    (
        *("complete_trajectory", "compute_reward", "docs", "generate", "health", "init_trajectory", "metrics"),
        *("openapi.json", "pause", "pool", "ready", "resume", "servers", "sessions", "setup", "submit_steps"),
        *("v1", "weights"),
    )
)
"""First parts of fixed paths: no trajectory is called so."""

UID = re.compile(r"[A-Za-z0-9._~:-]{1,128}")
CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")

UID_RULE = "letters, digits and ._~:- , 1 to 128 of them, neither . nor .."


def is_uid(text: str) -> bool:
    """Whether it may stand in a path as a uid."""
    return text not in (".", "..") and UID.fullmatch(text) is not None


def is_prompt_uid(text: str) -> bool:
    """`v1` is none: `/{t}/v1/chat/completions` is a session's route."""
    return is_uid(text) and text != "v1"


def is_trajectory_uid(text: str) -> bool:
    """The first part of a fixed route is none."""
    return is_uid(text) and text not in RESERVED


def is_channel(text: str) -> bool:
    """A channel's name."""
    return CHANNEL.fullmatch(text) is not None
