"""What a tunnel says of itself, in a file of its own that it replaces whole. Read by every listing, so light."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from moorage.launch.places import state_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UP, CONNECTING, BROKEN = "up", "connecting", "broken"
STATES = (UP, CONNECTING, BROKEN)


def tunnel_folder(environ: Mapping[str, str]) -> str:
    return state_folder(environ, "tunnels")


def log_path(job_id: str, environ: Mapping[str, str]) -> str:
    return os.path.join(tunnel_folder(environ), f"{os.path.basename(job_id)}.log")


def state_path(job_id: str, environ: Mapping[str, str]) -> str:
    return os.path.join(tunnel_folder(environ), f"{os.path.basename(job_id)}.json")


def read_state(path: str) -> dict[str, Any]:
    """`state`, and perhaps `detail`, `since` (ISO-8601) and `target` (`node:port`): what is not known is left out."""
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        found = None
    known = found if isinstance(found, dict) and found.get("state") in STATES else {"state": CONNECTING}
    return {name: known[name] for name in ("state", "detail", "since", "target") if known.get(name) is not None}


def write_state(path: str, state: Mapping[str, Any]) -> None:
    """Replace it. A folder that was removed is made again; raises OSError when that cannot be."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    with open(part, "w", opener=_private) as file:
        json.dump(state, file)
    os.replace(part, path)


def open_log(path: str) -> int:
    """A descriptor that appends to the tunnel's log. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
