"""Whether a server's port can be had, and who has it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from moorage.errors import ConflictError, UsageError
from moorage.launch.ports import port_is_free

__all__ = ["check_port"]

LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def check_port(flag: str, port: int) -> None:
    """Raises UsageError for what is no port, ConflictError `port_taken` that names who has it, if that can be told."""
    if not 1 <= port <= 65535:
        raise UsageError(f"{flag} {port}: a port is 1 to 65535", code="bad_value")
    if port_is_free(port):
        return
    holder = _holder(port)
    raise ConflictError(
        f"{flag} {port} is in use" + (f" by {holder}" if holder else " by another program on this machine"),
        code="port_taken",
        hint=f"stop it, or choose another port with {flag}",
    )


def _holder(port: int) -> str | None:
    """Its pid and command line; None when it is another user's, or cannot be told."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"pid {folder.name} ({words[:120]})"
    return None


def _listeners(port: int) -> list[str]:
    found: list[str] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            pattern = rf"^ *\d+: [0-9A-F]+:{port:04X} \S+ {LISTENING} (?:\S+ +){{5}}(\d+)"
            found += re.findall(pattern, Path(table).read_text(encoding="ascii"), re.MULTILINE)
    return found
