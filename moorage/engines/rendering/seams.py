"""Tokenizer files without their dummy prefix: what encodes text that goes on after other tokens."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["without_dummy_prefix"]


def without_dummy_prefix(spec: dict[str, Any]) -> dict[str, Any] | None:
    """A tokenizer.json that puts no space before the first word; None: this one puts none.

    There are three ways to put one: a `Prepend` normalizer (older Llama files), a `Metaspace` pre-tokenizer, and
    `add_prefix_space` of `ByteLevel`.
    """
    edited = copy.copy(spec)
    edited["normalizer"] = _edit(spec.get("normalizer"), "normalizers", _normalizer)
    edited["pre_tokenizer"] = _edit(spec.get("pre_tokenizer"), "pretokenizers", _pre_tokenizer)
    same = all(edited[name] == spec.get(name) for name in ("normalizer", "pre_tokenizer"))
    return None if same else edited


def _edit(part: dict[str, Any] | None, several: str, change: Any) -> dict[str, Any] | None:
    if part is None:
        return None
    if part.get("type") == "Sequence":
        parts = [edited for one in part[several] if (edited := _edit(one, several, change)) is not None]
        return {**part, several: parts}
    changed: dict[str, Any] | None = change(part)
    return changed


def _normalizer(part: dict[str, Any]) -> dict[str, Any] | None:
    return None if part.get("type") == "Prepend" else part


def _pre_tokenizer(part: dict[str, Any]) -> dict[str, Any] | None:
    if part.get("type") == "Metaspace":
        # Older files say `add_prefix_space`, newer ones `prepend_scheme`; a missing scheme means "always".
        prepends = part.get("prepend_scheme", "always") != "never" or part.get("add_prefix_space", False)
        if not prepends:
            return part
        return {
            **{name: value for name, value in part.items() if name != "add_prefix_space"},
            "prepend_scheme": "never",
        }
    if part.get("type") == "ByteLevel" and part.get("add_prefix_space"):
        return {**part, "add_prefix_space": False}
    return part
