"""The cluster of this machine: there when it is asked for, started again when it is gone, ended when told."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from moorage.errors import FailedError, PreflightError
from moorage.launch.places import state_folder
from moorage.launch.processes import (
    ProcessIdentity,
    all_processes,
    await_begun,
    end_all,
    end_process,
    environment_of,
    is_alive,
    session_members,
)
from moorage.serving.backends.contract import BackendUnreachable
from moorage.serving.backends.ray_serve.cluster.command import (
    CLUSTER_VARIABLE,
    Ports,
    start_command,
    start_environment,
)
from moorage.serving.backends.ray_serve.cluster.record import (
    ClusterRecord,
    read_record,
    write_private,
    write_record,
)

__all__ = ["LocalCluster", "Shape"]

GRACE_S = 2.0
"""How long a head may take to end what it started: it would wait a minute for parts that it has ended itself, and
nothing of a cluster is worth keeping."""
SOON_S = 60.0
"""A cluster that ends so soon after its start did not start well."""
LONGEST_PAUSE_S = 60.0
LOG_TAIL_LINES = 8
LONGEST_TEMP_DIR = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a cluster is started as."""

    python: Path
    """Of the environment that has Ray and the engine."""
    num_cpus: int | None
    """None: as many as Ray finds."""
    proxy_port: int | None
    """None: a free one, and the same again when the cluster is started anew."""


class LocalCluster:
    """One of an owner. Several processes may hold one: whoever finds it gone starts it."""

    def __init__(self, owner: str, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._environ = environ
        self._clock = clock
        self._folder = Path(state_folder(environ, "ray"))
        self._file = self._folder / f"{owner}.json"

    def running(self) -> ClusterRecord | None:
        """None when there is none; one that is only starting counts."""
        record = read_record(self._file)
        leader = self._leader(record)
        if record is None or leader is None or not is_alive(leader):
            return None
        return replace(record, pid=leader.pid, started=leader.started)

    def ensure(self, shape: Shape) -> ClusterRecord:
        """The cluster that runs. Raises BackendUnreachable when it had to be started: that takes seconds."""
        found = self.running()
        if found is not None:
            return found
        with self._lock() as held:
            if not held:
                raise _starting("another process is about to start the cluster")
            found = self.running()
            if found is not None:
                return found
            last = read_record(self._file)
            failures = self._failures(last)
            self._clear(last)
            self._start(shape, last, failures)
        raise _starting("it was just started")

    def token(self) -> str | None:
        """What the cluster asks for; None when there is none."""
        try:
            return self._file.with_suffix(".token").read_text(encoding="utf-8").strip()
        except OSError:
            return None

    def end(self) -> bool:
        """End it and wait until it is gone. False: there was none. Raises FailedError when something of it stays."""
        if not self._folder.is_dir():
            return False
        with self._lock(wait=True):
            last = read_record(self._file)
            was = self.running() is not None
            self._clear(last)
            for suffix in (".json", ".token", ".log"):
                self._file.with_suffix(suffix).unlink(missing_ok=True)
        return was

    def _failures(self, last: ClusterRecord | None) -> int:
        """Starts that failed in a row. Raises BackendUnreachable while it is too early for the next one."""
        if last is None or last.pid is None:
            return 0
        ago = self._clock() - last.begun_at
        if not 0 <= ago < SOON_S + LONGEST_PAUSE_S:
            return 0
        pause = min(2.0**last.failures, LONGEST_PAUSE_S)
        if ago < pause:
            raise _starting(f"its last start ended at once, the next one is soon: {_tail(last.log_file)}")
        return last.failures + 1

    def _start(self, shape: Shape, last: ClusterRecord | None, failures: int) -> None:
        cluster_id = secrets.token_hex(4)
        temp_dir = self._temp_dir(cluster_id)
        scratch = temp_dir / "t"
        ports = Ports(gcs=_free_port(), dashboard=_free_port(), client=_free_port(), agent=_free_port())
        record = ClusterRecord(
            cluster_id=cluster_id,
            dashboard_port=ports.dashboard,
            proxy_port=shape.proxy_port or _same_or_free(last),
            temp_dir=str(temp_dir),
            token_file=str(self._file.with_suffix(".token")),
            log_file=str(self._file.with_suffix(".log")),
            begun_at=self._clock(),
            failures=failures,
        )
        temp_dir.mkdir(mode=0o700)
        scratch.mkdir(mode=0o700)
        write_private(Path(record.token_file), secrets.token_hex(32) + "\n")
        write_private(Path(record.log_file), "")
        write_record(self._file, record)
        command = start_command(str(shape.python), ports, str(temp_dir), num_cpus=shape.num_cpus)
        environment = start_environment(
            self._environ, mark=f"{self._file}#{cluster_id}", token_file=record.token_file, scratch=str(scratch)
        )
        with Path(record.log_file).open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as fault:
                raise FailedError(f"Ray could not be started: {fault}", code="ray_not_started") from fault
        process.returncode = 0  # it is detached: nobody waits for it in a destructor
        identity = await_begun(process.pid)
        write_record(self._file, replace(record, pid=process.pid, started=identity.started if identity else "ended"))

    def _clear(self, last: ClusterRecord | None) -> None:
        """Nothing of an earlier start may be left: its ports, its memory and its folder. Not even when its record is
        gone or cannot be read."""
        for cluster_id, leader in self._marked().items():
            _end(leader)
            shutil.rmtree(self._temp_dir(cluster_id), ignore_errors=True)
        if last is None:
            return
        leader_then = self._leader(last)
        if leader_then is not None:
            _end(leader_then)  # it may be dead, and others of its session alive
        shutil.rmtree(last.temp_dir, ignore_errors=True)

    def _leader(self, record: ClusterRecord | None) -> ProcessIdentity | None:
        """Whoever leads the cluster, also when its starter was killed before it could write down whom it started."""
        if record is None:
            return None
        if record.pid is not None:
            return ProcessIdentity(record.pid, record.started or "")
        return self._marked().get(record.cluster_id)

    def _marked(self) -> dict[str, ProcessIdentity]:
        """Living leaders of clusters that this record's starters began, by the clusters' ids."""
        found = {}
        for pid, one in all_processes().items():
            if one.session != pid or not one.lives:
                continue
            file, _, cluster_id = environment_of(pid).get(CLUSTER_VARIABLE, "").rpartition("#")
            if file == str(self._file):
                found[cluster_id] = ProcessIdentity(pid, one.started)
        return found

    def _temp_dir(self, cluster_id: str) -> Path:
        """Short: Ray's sockets lie in it, and a socket's path has room for 107 characters."""
        name = f"moorage-ray-{cluster_id}"
        wished = Path(self._environ.get("TMPDIR") or "/tmp") / name
        return wished if len(str(wished)) <= LONGEST_TEMP_DIR else Path("/tmp") / name

    @contextmanager
    def _lock(self, *, wait: bool = False) -> Iterator[bool]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise PreflightError(
                f"the record of the Ray cluster cannot be kept: {fault}",
                code="ray_record_not_kept",
                hint="set XDG_STATE_HOME to a folder that you may write to",
            ) from fault
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)


def _end(leader: ProcessIdentity) -> None:
    """It, and what is left of its session. Raises FailedError when something stays."""
    _collect(leader.pid)
    end_process(leader, grace_s=GRACE_S)
    _collect(leader.pid)
    if not end_all(lambda: session_members(leader), grace_s=0.0):
        raise FailedError(
            f"processes of the Ray cluster are still there after SIGKILL: {session_members(leader)}",
            code="ray_not_ended",
            hint="they hang in the kernel (a GPU driver, a network file system)",
        )


def _collect(pid: int) -> None:
    """Our own dead child would stay in the process table."""
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)


def _same_or_free(last: ClusterRecord | None) -> int:
    """The proxy's port once more, if it can be had: what knows the models' routes need not learn new ones."""
    if last is not None and _is_free(last.proxy_port):
        return last.proxy_port
    return _free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    """Free on every address: Ray listens on all of them."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _tail(log_file: str) -> str:
    try:
        lines = Path(log_file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-LOG_TAIL_LINES:] if line.strip())


def _starting(why: str) -> BackendUnreachable:
    told = "the Ray cluster of this machine is not up yet"
    return BackendUnreachable(f"{told}: {why}", told=told, hint="wait")
