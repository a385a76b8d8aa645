"""Which functions a gateway offers, and how: `--reward NAME[,NAME…]` and the file of `--reward-config`.

    rewards:
      numeric:
        options: {rel_tol: 0.001}
      judge:
        function: remote
        timeout_s: 30
        options: {url: "http://127.0.0.1:9000/reward", key_env: JUDGE_KEY}

The first one named judges where a request names none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from moorage.errors import UsageError
from moorage.rewards.installed import NAME, Installed, find_installed

__all__ = ["Configured", "configure", "read_config"]

TIMEOUT_S = 30.0
LONGEST_S = 3600.0
MOST_PROCESSES = 64
MEMORY_MB = 4096


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """A function under a name."""

    name: str
    target: str
    """`module:object`."""
    options: dict[str, Any] = {}
    timeout_s: float = TIMEOUT_S
    """For one sample; then its process is ended."""
    processes: int = 2
    memory_mb: int | None = MEMORY_MB
    """Address space of a process; None: any."""
    env: tuple[str, ...] = ()
    """Variables that its processes get besides the harmless ones."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    function: str | None = None
    options: dict[str, Any] = {}
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] = TIMEOUT_S
    processes: Annotated[int, msgspec.Meta(ge=1, le=MOST_PROCESSES)] | None = None
    memory_mb: Annotated[int, msgspec.Meta(ge=0)] = MEMORY_MB
    """0: any."""
    env: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rewards: dict[str, _Entry | None]


def read_config(path: Path) -> dict[str, Any]:
    """The file's content, JSON or YAML. Raises UsageError `reward_config` that names the file, never what is in it."""
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise _bad(f"--reward-config {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise _bad(f"--reward-config {path} is no text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise _bad(f"--reward-config {path} is neither YAML nor JSON{where}") from None
    if not isinstance(value, dict):
        raise _bad(f"--reward-config {path}: it begins with `rewards:`")
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise _bad(f"--reward-config {path} holds what JSON cannot say, or itself") from None
    return value


def configure(
    names: str | None, config: Mapping[str, Any] | None, known: Sequence[Installed], *, cores: int | None = None
) -> list[Configured]:
    """What was asked for, the default first. `names`: comma-separated; None: all that `config` has, in its order.

    Raises UsageError for unknown and repeated names, and for a config of the wrong shape.
    """
    entries = _entries(config)
    wanted = list(entries) if names is None else [name.strip() for name in names.split(",")]
    if len(set(wanted)) != len(wanted):
        raise UsageError(f"--reward {names}: a name stands there twice", code="reward_config")
    return [_configured(name, entries.get(name) or _Entry(), known, cores or os.cpu_count() or 1) for name in wanted]


def _entries(config: Mapping[str, Any] | None) -> dict[str, _Entry | None]:
    if config is None:
        return {}
    try:
        entries = msgspec.convert(dict(config), _File).rewards
    except msgspec.ValidationError as fault:
        raise _bad(f"--reward-config: {fault}") from None
    for name in entries:
        if not NAME.fullmatch(name):
            raise _bad(f"--reward-config: {name[:80]!r} is no name: letters, digits and ._- , 1 to 64 of them")
    return entries


def _configured(name: str, entry: _Entry, known: Sequence[Installed], cores: int) -> Configured:
    target = find_installed(entry.function or name, known).target
    for variable in entry.env:
        if not variable.isidentifier():
            raise _bad(f"--reward-config: {name}.env names variables, not their values")
    named = [value for key, value in entry.options.items() if key.endswith("_env") and isinstance(value, str)]
    return Configured(
        name=name,
        target=target,
        options=entry.options,
        timeout_s=entry.timeout_s,
        processes=entry.processes or max(1, min(4, cores)),
        memory_mb=entry.memory_mb or None,
        env=(*entry.env, *named),
    )


def _bad(message: str) -> UsageError:
    return UsageError(message, code="reward_config")
