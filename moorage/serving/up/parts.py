"""The two servers as processes of their own: started, looked at, and ended by identity."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import moorage
from moorage.errors import FailedError
from moorage.launch.processes import (
    ProcessIdentity,
    all_processes,
    await_begun,
    end_all,
    environment_of,
    session_members,
)
from moorage.serving.up.place import Place

__all__ = ["FOLDER_VARIABLE", "end_parts", "leftovers", "log_tail", "start_part"]

FOLDER_VARIABLE = "MOORAGE_SERVE_FOLDER"
"""Marks every process of a control plane and its children, for as long as they live, with the folder it belongs to."""
GRACE_S = 45.0
"""The API waits for starts under way, and the gateway for requests in flight."""
TAIL_LINES = 20


def start_part(
    place: Place, name: str, words: Sequence[str], environ: Mapping[str, str], secrets: Mapping[str, str]
) -> ProcessIdentity:
    """`moor WORDS` as a detached process whose output is the part's log. `secrets`: variables for it alone.

    Raises FailedError when it ended at once.
    """
    source = str(Path(moorage.__file__).parent.parent)
    path = os.pathsep.join(part for part in (source, environ.get("PYTHONPATH")) if part)
    env = {name: value for name, value in environ.items() if name != "MOORAGE_LABEL"}
    env |= {"PYTHONPATH": path, FOLDER_VARIABLE: str(place.folder), **secrets}
    log = os.open(place.log(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    process.returncode = 0  # it is detached: nobody waits for it in a destructor
    identity = await_begun(process.pid)
    if identity is None:
        raise FailedError(f"the {name} ended at once", code="serve_part_died", data={"log_tail": log_tail(place, name)})
    return identity


def end_parts(identities: Iterable[ProcessIdentity]) -> None:
    """End them and whatever they started in their sessions. Raises FailedError when something stays."""
    leaders = list(identities)

    def find() -> list[int]:
        processes = all_processes()
        return [pid for leader in leaders for pid in session_members(leader, processes)]

    _end(find)


def leftovers(place: Place) -> list[int]:
    """Pids of living processes that carry this folder's mark: also those whose start was never written down."""
    mark, found = str(place.folder), []
    for pid, stat in all_processes().items():
        if stat.lives and pid != os.getpid() and environment_of(pid).get(FOLDER_VARIABLE) == mark:
            found.append(pid)
    return found


def end_leftovers(place: Place) -> int:
    """End them all; how many there were. Raises FailedError when something stays."""
    count = len(leftovers(place))
    _end(lambda: leftovers(place))
    return count


def log_tail(place: Place, name: str, lines: int = TAIL_LINES) -> list[str]:
    """The last lines that a part wrote."""
    try:
        text = place.log(name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def _end(find: object) -> None:
    assert callable(find)
    if not end_all(find, grace_s=GRACE_S):
        left = find()
        raise FailedError(
            f"processes are still there after SIGKILL: {left}",
            code="serve_not_ended",
            hint="they hang in the kernel (a GPU driver, a network file system)",
            next=[f"ps -o pid,stat,wchan,args -p {','.join(map(str, left))}"],
        )
