"""A real PostgreSQL server of the test run's own: its folder, port and socket are nobody else's.

PostgreSQL refuses to run as root; then it runs as the user `postgres`, which Debian's package makes, else as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from tests.real.parts.absence import PartMissing

START_S = 60
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
port = {port}
max_connections = 60
shared_buffers = 32MB
min_wal_size = 32MB
max_wal_size = 256MB
logging_collector = off
autovacuum = on
"""


class Postgres:
    """One server. Started and stopped by the tests that kill it; between tests it runs."""

    def __init__(self, folder: Path, programs: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.user = "moorage"
        self.password = secrets.token_hex(8)
        self._programs = programs
        self._owner = _owner()
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = 0

    def create(self) -> None:
        """Raises PartMissing."""
        pwfile = self.folder / "password"
        pwfile.write_text(self.password + "\n")
        if self._owner is not None:
            for path in (self.folder, pwfile):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        words = [self._programs / "initdb", "-D", self._data, "-U", self.user, "--pwfile", pwfile, "-E", "UTF8"]
        words += ["--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        done = subprocess.run(self._as_owner(words), capture_output=True, text=True, cwd=self.folder, check=False)
        if done.returncode:
            raise PartMissing(f"initdb: {done.stderr[-1000:]}")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(folder=self.folder, port=self.port))

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def clone(self, folder: Path) -> Postgres:
        """A hot standby of this one, that follows it. Raises PartMissing."""
        other = Postgres(folder, self._programs, _free_port())
        other.password = self.password
        if self._owner is not None:
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)
        words = [self._programs / "pg_basebackup", *self._where(), "-U", self.user, "-D", other._data, "-R"]
        words += ["--checkpoint=fast", "--no-sync"]
        done = subprocess.run(self._as_owner(words), capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            raise PartMissing(f"pg_basebackup: {done.stderr[-1000:]}")
        with (other._data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(folder=folder, port=other.port))
        other.start()
        return other

    def start(self, *flags: str) -> None:
        """Raises PartMissing when it does not answer in time."""
        with (self.folder / "log").open("ab") as log:
            words = [self._programs / "postgres", "-D", self._data, *flags]
            # The server must not outlive a test run that was killed.
            command = ["setpriv", "--pdeathsig", "QUIT", *self._as_owner(words)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.answers():
                return
            time.sleep(0.02)
        raise PartMissing(f"postgres does not start: {self.log[-1500:]}")

    def answers(self) -> bool:
        return subprocess.run([self._programs / "pg_isready", "-q", *self._where()], check=False).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: connections are ended, nothing is lost. SIGTERM waits for clients to leave."""
        if self._process is not None and self._process.poll() is None:
            with suppress(OSError, ValueError):
                os.kill(self.pid, how)
            try:
                self._process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """`kill -9` of the postmaster and of all its children at one moment, as when the machine dies."""
        pids = [self.pid, *_children(self.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(START_S)
        self._process = None
        deadline = time.monotonic() + START_S
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.005)

    def children(self) -> list[int]:
        return _children(self.pid)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints, without headings."""
        words = [self._programs / "psql", *self._where(), "-U", self.user, "-d", database, "-qAtX", "-v"]
        words += ["ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{statement}: {done.stderr}"
        return done.stdout.strip()

    def dump(self, schema: str, file: Path) -> None:
        """A copy of the schema as it is."""
        words = [self._programs / "pg_dump", *self._where(), "-U", self.user, "-n", schema, "-f", file, "postgres"]
        subprocess.run(words, check=True)

    def restore(self, schema: str, file: Path) -> None:
        """In the place of what is there, while others have it open."""
        words = [
            self._programs / "psql",
            *self._where(),
            "-U",
            self.user,
            "-d",
            "postgres",
            "-qX",
            "-1",
            "-o",
            "/dev/null",
        ]
        subprocess.run([*words, "-c", f"DROP SCHEMA {schema} CASCADE", "-f", file], check=True)

    def enable_tls(self) -> Path:
        """With a certificate of its own; the file that its clients trust."""
        key, certificate = self._data / "server.key", self._data / "server.crt"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
        subprocess.run(words, check=True, capture_output=True)
        for path in (key, certificate):
            path.chmod(0o600)
            if self._owner is not None:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        self.sql("ALTER SYSTEM SET ssl = on")
        self.sql("SELECT pg_reload_conf()")
        trusted = self.folder / "root.crt"
        trusted.write_bytes(certificate.read_bytes())
        return trusted

    def url(self, schema: str, *, ports: Sequence[int] = (), password: str | None = None, more: str = "") -> str:
        """For `--db`. `schema`: the store's own one. `ports`: of what stands between, or of several servers."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or (self.port,))
        options = quote(f"-csearch_path={schema}")
        secret = self.password if password is None else password
        return f"postgresql://{self.user}:{secret}@{hosts}/postgres?options={options}{more}"

    def new_schema(self) -> str:
        """A name that no other test of this run has."""
        self._schemas += 1
        return f"s{os.getpid()}_{self._schemas}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _where(self) -> list[str]:
        return ["-h", str(self.folder), "-p", str(self.port)]

    def _as_owner(self, words: list[object]) -> list[str]:
        command = [str(word) for word in words]
        if self._owner is None:
            return command
        who = [f"--reuid={self._owner.pw_uid}", f"--regid={self._owner.pw_gid}", "--clear-groups"]
        return ["setpriv", *who, *command]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start one on a free port, and leave nothing of it. Raises PartMissing when this machine cannot."""
    programs = find_programs()
    _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"moor-pg-{os.getpid()}-", dir="/tmp"))
    try:
        server = Postgres(folder, programs, _free_port())
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path:
    """The newest server's folder. Raises PartMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _number(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    if found:
        return found[-1].parent
    if elsewhere is not None:
        return Path(elsewhere).parent
    raise PartMissing("PostgreSQL is not installed: apt-get install postgresql")


def _remove_stale() -> None:
    """What runs that were killed have left; their servers ended with them."""
    for folder in Path("/tmp").glob("moor-pg-[0-9]*-*"):
        if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _owner() -> pwd.struct_passwd | None:
    """Who runs it; None: we do."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            if int(place.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(place.parent.name))
    return found


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0
