"""What the installed functions say of themselves, each asked in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from moorage.errors import FailedError, MoorageError
from moorage.rewards.installed import Installed
from moorage.rewards.loading import Described
from moorage.rewards.worker.child import command, fault_said, kept_environ

__all__ = ["described"]

WITHIN_S = 60.0
AT_ONCE = 8


def described(
    known: Sequence[Installed], environ: Mapping[str, str]
) -> list[tuple[Installed, Described | MoorageError]]:
    """In the order given; a fault for one that cannot be loaded."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(zip(known, threads.map(lambda one: _ask(one, environ), known), strict=True))


def _ask(one: Installed, environ: Mapping[str, str]) -> Described | MoorageError:
    order = msgspec.json.encode({"describe": one.target}) + b"\n"
    try:
        done = subprocess.run(
            command(), input=order, capture_output=True, timeout=WITHIN_S, check=False, env=kept_environ(environ)
        )
    except subprocess.TimeoutExpired:
        return _unloadable(one, f"not loaded within {WITHIN_S:g} s")
    try:
        said: dict[str, Any] = msgspec.json.decode(done.stdout)
        if "fault" in said:
            return fault_said(said["fault"], f"the reward {one.name!r}")
        return msgspec.convert(said, Described)
    except (msgspec.DecodeError, TypeError):
        return _unloadable(one, f"its process ended with status {done.returncode}")


def _unloadable(one: Installed, why: str) -> FailedError:
    return FailedError(f"the reward {one.name!r} cannot be loaded: {why}", code="reward_unloadable")
