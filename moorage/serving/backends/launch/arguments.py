"""Engine arguments as the words of vLLM's command line: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

__all__ = ["command_words"]


def command_words(engine_kwargs: Mapping[str, Any], only_true: Set[str] = frozenset()) -> tuple[str, ...]:
    """One flag an argument, sorted by name. None leaves an argument as the engine has it.

    True is `--flag` and False `--no-flag`, or nothing for those of `only_true`, which are false without a flag; a
    mapping is JSON; a list is one flag with a word an item. A value stays in one word with its flag, so that one that
    begins with a dash is no flag.
    """
    words: list[str] = []
    for name in sorted(engine_kwargs):
        if name in only_true and engine_kwargs[name] is False:
            continue
        words += _words(name.replace("_", "-"), engine_kwargs[name])
    return tuple(words)


def _words(flag: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(_text, value)] if value else []
    return [f"--{flag}={_text(value)}"]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
