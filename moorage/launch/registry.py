"""The registry: one JSON file that holds what was started, safe against crashes, races and other users.

The file keeps the TAO skill's shape (`job_id → entry`, plus `latest`), so that other tools can read it. Writers hold a
lock beside the file; a write is a new file, synced and renamed, so readers need no lock and never see half a state.
A file that is not a registry is kept beside, byte for byte, and is never overwritten by anything but `recover`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from moorage.errors import ConflictError, RegistryCorrupt, TryAgainError
from moorage.launch.entry import Entry, most_recent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

LATEST = "latest"
LOCK_WAIT_S = 30.0


class State:
    """What the file holds, in memory. Change `services` only inside a transaction."""

    __slots__ = ("latest", "services")

    def __init__(self, services: dict[str, Entry], latest: str | None = None) -> None:
        self.services = services
        self.latest = latest

    def add(self, entry: Entry) -> None:
        """Record a service and make it the latest."""
        self.services[entry["job_id"]] = entry
        self.latest = entry["job_id"]

    def remove(self, job_id: str) -> None:
        """Forget a service; `latest` moves to the most recently started one left."""
        self.services.pop(job_id, None)
        if self.latest == job_id or self.latest not in self.services:
            self.latest = most_recent(self.services)


class Registry:
    """The state file at `path`.

    Every method raises ConflictError when the file is a symlink, not a plain file or someone else's, and
    RegistryCorrupt when it is not a registry.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = os.fspath(path)

    @property
    def path(self) -> Path:
        """Where the file is. Inside, paths are text: pathlib costs `moor list` 3 ms at every start."""
        from pathlib import Path

        return Path(self._path)

    def read(self, *, quarantine: bool = True) -> State:
        """The state now, without a lock. `quarantine=False` writes nothing even when the file is corrupt."""
        data = _read_own_file(self._path)
        if data is None:
            return State({})
        try:
            return parse_state(data)
        except ValueError as fault:
            kept = self._try_quarantine(data) if quarantine else None
            raise _corrupt(self._path, kept, str(fault)) from fault

    @contextmanager
    def transaction(self) -> Iterator[State]:
        """The state under the lock; written when the block changed it and ended without an error.

        Raises TryAgainError when the lock is held for 30 s.
        """
        with self._lock():
            state = self.read()
            before = encode_state(state)
            yield state
            after = encode_state(state)
            if after != before:
                self._write(self._path, after)

    def rebuild(self, found: Mapping[str, Entry]) -> State:
        """Merge what the platforms know into the file and write it.

        Over a corrupt file too, whose bytes are kept beside first and whose good entries, if it has any, are kept.
        """
        with self._lock():
            data = _read_own_file(self._path)
            try:
                state = State({}) if data is None else parse_state(data)
            except ValueError:
                self._quarantine(data or b"")
                state = State(_salvage(data or b""))
            for job_id, entry in found.items():
                state.services[job_id] = {**state.services.get(job_id, {}), **entry}
            if state.latest not in state.services:
                state.latest = most_recent(state.services)
            self._write(self._path, encode_state(state))
            return state

    @contextmanager
    def _lock(self) -> Iterator[None]:
        folder = os.path.dirname(self._path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as fault:
            raise _unsafe(self._path, f"its folder cannot be made: {fault.strerror}") from fault
        _refuse_unsafe(self._path)
        lock_path = f"{self._path}.lock"
        handle = _open_own(lock_path, os.O_RDWR | os.O_CREAT)
        try:
            _flock(handle, lock_path)
            yield
        finally:
            os.close(handle)

    def _write(self, path: str, data: bytes) -> None:
        temporary = f"{self._path}.{os.getpid()}.{os.urandom(6).hex()}.tmp"
        try:
            _write_whole(temporary, path, data)
        except OSError as fault:
            raise _unwritable(path, fault) from fault

    def _try_quarantine(self, data: bytes) -> str | None:
        """None when there is no room for a copy: the file itself stays as it is."""
        try:
            return self._quarantine(data)
        except ConflictError:
            return None

    def _quarantine(self, data: bytes) -> str:
        """Keep `data` beside the file; the name is its digest, so that reading twice keeps one copy."""
        import hashlib

        kept = f"{self._path}.corrupt-{hashlib.sha256(data).hexdigest()[:16]}"
        if not os.path.isfile(kept) or os.path.islink(kept) or os.path.getsize(kept) != len(data):
            self._write(kept, data)
        return kept


def parse_state(data: bytes) -> State:
    """Read the file's bytes. Raises ValueError saying what is wrong: not JSON, no object, an entry that is none."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"not JSON ({fault})") from fault
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    if b"\\ud" in data.lower() and not _is_unicode(raw):
        raise ValueError("half a surrogate pair, which is no character")
    latest = raw.pop(LATEST, None)
    for job_id, entry in raw.items():
        if not isinstance(entry, dict):
            raise ValueError(f"the entry {job_id!r} is not an object")
        entry["job_id"] = job_id
    return State(raw, latest if isinstance(latest, str) and latest in raw else most_recent(raw))


def encode_state(state: State) -> bytes:
    """The file's bytes: entries, and `latest` when there is a service."""
    body: dict[str, Any] = dict(state.services)
    if state.latest in state.services:
        body[LATEST] = state.latest
    return (json.dumps(body, indent=2) + "\n").encode()


def _salvage(data: bytes) -> dict[str, Entry]:
    """The good entries of a file that is JSON but has a bad one."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict):
        return {}
    raw.pop(LATEST, None)
    good = {job_id: entry for job_id, entry in raw.items() if isinstance(entry, dict) and _is_unicode({job_id: entry})}
    return {job_id: {**entry, "job_id": job_id} for job_id, entry in good.items()}


def _is_unicode(value: object) -> bool:
    """Whether all text in it can be written: JSON's escapes can spell what no file name or address can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _write_whole(temporary: str, path: str, data: bytes) -> None:
    """Write, sync and rename: `path` holds all of `data` or what it held before, also after a power cut."""
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _read_own_file(path: str) -> bytes | None:
    try:
        handle = _open_own(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _open_own(path: str, flags: int) -> int:
    """Open a plain file that is ours, never through a symlink."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except OSError as fault:
        what = "a symlink" if fault.errno == errno.ELOOP else fault.strerror or str(fault)
        raise _unsafe(path, what) from fault
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise _unsafe(path, "not a plain file")
    if status.st_uid != os.geteuid():
        os.close(handle)
        raise _unsafe(path, f"owned by uid {status.st_uid}, not by you")
    return handle


def _refuse_unsafe(path: str) -> None:
    """Raise before anything is created beside a state file that is not ours."""
    try:
        os.close(_open_own(path, os.O_RDONLY | os.O_NONBLOCK))
    except FileNotFoundError:
        return


def _flock(handle: int, path: str) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TryAgainError(
                    f"{path} was locked by another process for {LOCK_WAIT_S:.0f} s",
                    code="registry_locked",
                    hint="a moor command may be stopped in the middle of a write: look for it with ps",
                ) from None
        time.sleep(0.0005 + os.urandom(1)[0] / 70_000)  # 0.5 to 4 ms: spreads the waiters


def _unsafe(path: str, what: str) -> ConflictError:
    return ConflictError(
        f"the state file {path} is not used: {what}",
        code="registry_unsafe",
        hint="move it away, or set MOORAGE_STATE_FILE to a path in a folder of your own",
    )


def _unwritable(path: str, fault: OSError) -> ConflictError:
    return ConflictError(
        f"{path} could not be written: {fault.strerror or fault}",
        code="registry_unwritable",
        hint="free some space, or set MOORAGE_STATE_FILE to a path that can be written",
    )


def _corrupt(path: str, kept: str | None, fault: str) -> RegistryCorrupt:
    where = f"; a copy is kept at {kept}" if kept else ""
    return RegistryCorrupt(
        f"the state file {path} cannot be read: {fault}{where}",
        hint="moor recover builds a good one from what is running",
        next=["moor recover"],
        data={"quarantined": kept},
    )
