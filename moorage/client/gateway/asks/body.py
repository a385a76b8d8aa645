"""JSON of what callers give."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from moorage.errors import UsageError

__all__ = ["encoded", "given", "part"]


def encoded(value: Any) -> bytes:
    """As JSON. Objects of pydantic (OpenAI's messages) count as what they would send, without nulls.

    Raises UsageError for what has no JSON, NaN and infinity among it.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=_plain)
        if b"null" in text:  # which is what msgspec writes for a number that is not finite
            json.dumps(msgspec.to_builtins(value, enc_hook=_plain, str_keys=True), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise UsageError(f"it cannot be sent as JSON: {fault}", code="not_json") from None
    return text


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def part(uid: str) -> str:
    """A uid as one part of a path. Raises UsageError for what would be another path."""
    if not isinstance(uid, str) or uid in (".", "..") or re.fullmatch(r"[A-Za-z0-9._~:-]{1,128}", uid) is None:
        rule = "1 to 128 of letters, digits and ._~:-"
        raise UsageError(f"{uid!r} is no uid: {rule}", code="uid_wrong")
    return uid


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(exclude_none=True)
    item = getattr(value, "tolist", None)  # numbers and arrays of numpy and torch
    if item is not None:
        return item()
    raise TypeError(f"{type(value).__name__} is no JSON value")
