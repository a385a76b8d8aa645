"""A machine over the system's OpenSSH, for sites that need it: ControlMaster, hardware keys, more than a key.

One connection is opened (or the user's own master is joined, when one is open), and everything goes over its control
socket. A session that echoes what it is told stays open: it tells whether the machine answers, and since its stdin is
a pipe of this process, the connection ends with the process, however that ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from moorage.errors import MoorageError, PreflightError
from moorage.launch.places import state_folder
from moorage.launch.processes import identity_of
from moorage.launch.remote import faults, shell_files
from moorage.launch.remote.host import Ran, Stream
from moorage.launch.remote.openssh_faults import fault_of
from moorage.launch.remote.target import RemoteTarget
from moorage.launch.remote.user_config import config_arguments, expand_home, read_settings

ECHO = "echo moorage-{0}; exec cat"
FOLDER_PREFIX = "moor-ssh-"
LONGEST_FOLDER = 80
"""Characters: a socket's path has 107, and ssh makes one with 19 more for a moment."""
MUX_FAILED = 255
ASK_S = 10.0
FILE_S = 120.0
KEPT_LINES = 400


def connect_openssh(alias: str, target: RemoteTarget, environ: Mapping[str, str], *, timeout_s: float) -> OpensshHost:
    """Log in to one host. Raises PreflightError or PlatformUnreachable."""
    program = shutil.which("ssh", path=environ.get("PATH"))
    if program is None:
        raise PreflightError(
            "ssh is not on PATH", code="program_missing", hint="install OpenSSH's client, or use --ssh-client paramiko"
        )
    settings = read_settings(alias, target, environ)
    # Nobody is there to be asked; and a command of ours must not repeat what the config says of forwards.
    env = {**environ, "SSH_ASKPASS_REQUIRE": "never"}
    words = [program, *config_arguments(settings, environ), "-T", "-o", "BatchMode=yes"]
    words += ["-o", f"ConnectTimeout={max(1, round(timeout_s))}", *_given(target, environ)]
    folder = _make_folder(environ)
    try:
        control = _open_master([*words, alias], env)
        mine = control is None
        control = control or str(folder / "master")
        mux = [program, "-F", os.devnull, "-T", "-S", control, "-o", "BatchMode=yes", "-o", "ProxyCommand=false"]
        master = [
            "-v",
            "-o",
            "ClearAllForwardings=yes",
            "-o",
            "RemoteCommand=none",
            "-o",
            "ControlMaster=yes",
            "-o",
            f"ControlPath={control}",
        ]
        master += ["-o", "ControlPersist=no", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        heart = _Heart([*words, *master, alias] if mine else [*mux, alias], env, master=mine)
        said = heart.start(timeout_s + ASK_S)
        if said is not None:
            raise fault_of(said, settings, target=target, environ=environ)
        return OpensshHost(alias, [*mux, "-o", "ControlMaster=no"], heart, folder, env)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class OpensshHost:
    """See `remote.host.RemoteHost`. `mux`: words of a command that goes over the control socket, less the host."""

    def __init__(self, name: str, mux: Sequence[str], heart: _Heart, folder: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self._mux = list(mux)
        self._heart = heart
        self._folder = folder
        self._environ = dict(environ)
        self._lock = threading.Lock()
        self._forwards: dict[str, Path] = {}
        """`address:port` → the socket that leads there."""

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> Ran:
        status, out, err = self._run(command, stdin, timeout_s)
        return Ran(status, out.decode(errors="replace"), err)

    def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        part = f"{path}.{secrets.token_hex(4)}.part"
        status, _, err = self._run(shell_files.write_command(path, len(data), mode, part), data, FILE_S)
        self._require(status, "write", path, err)

    def get(self, path: str) -> bytes | None:
        status, out, err = self._run(shell_files.read_command(path), b"", FILE_S)
        if status == shell_files.NOT_THERE:
            return None
        self._require(status, "read", path, err)
        return out

    def remove(self, path: str) -> None:
        status, _, err = self._run(shell_files.remove_command(path), b"", FILE_S)
        self._require(status, "remove", path, err)

    def make_folder(self, path: str, *, mode: int = 0o700) -> None:
        status, _, err = self._run(shell_files.folder_command(path, mode), b"", FILE_S)
        self._require(status, "make the folder", path, err)

    def open_stream(self, address: str, port: int) -> Stream:
        """Over a socket of the master, so that a connection costs no process of its own."""
        way = socket.socket(socket.AF_UNIX)
        try:
            way.connect(str(self._forward(address, port)))
        except OSError as fault:
            way.close()
            raise faults.unreachable(self.name, fault) from fault
        return SocketStream(way, way)

    def open_command(self, command: str) -> Stream:
        (ours_in, theirs_in), (ours_out, theirs_out) = socket.socketpair(), socket.socketpair()
        with theirs_in, theirs_out:
            process = subprocess.Popen(
                [*self._mux, self.name, command],
                stdin=theirs_in.fileno(),
                stdout=theirs_out.fileno(),
                stderr=subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        return SocketStream(ours_in, ours_out, process)

    def is_alive(self, timeout_s: float = 5.0) -> bool:
        return self._heart.beats(timeout_s)

    def close(self) -> None:
        with self._lock:
            forwards, self._forwards = list(self._forwards), {}
        if not self._heart.is_master:  # the user's own connection goes on, without what we added
            for place in forwards:
                with suppress(MoorageError):
                    self._control("cancel", place)
        self._heart.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> OpensshHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, command: str, stdin: bytes, timeout_s: float) -> tuple[int, bytes, str]:
        process = subprocess.Popen(
            [*self._mux, self.name, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired as late:
            if not self.is_alive():
                raise faults.unreachable(self.name, "the connection hangs") from late
            raise faults.took_too_long(self.name, command, timeout_s) from late
        finally:
            _abandon(process)
        # ssh itself ends with 255 too, when the connection is gone.
        if process.returncode == MUX_FAILED and not self.is_alive():
            raise faults.unreachable(self.name, "the connection was lost")
        return process.returncode, out, err.decode(errors="replace")

    def _forward(self, address: str, port: int) -> Path:
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        with self._lock:
            path = self._forwards.get(place)
            if path is None or not path.exists():
                path = self._folder / f"f{secrets.token_hex(4)}"
                self._forwards[place] = path
                self._control("forward", place)
            return path

    def _control(self, verb: str, place: str) -> None:
        """Tell the master of a forward; `cancel` finds it by the path that was given."""
        path = self._forwards.get(place) or self._folder / "gone"
        words = [*self._mux, "-O", verb, "-L", f"{path}:{place}", self.name]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, env=self._environ, timeout=ASK_S, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise faults.unreachable(self.name, "its control socket does not answer") from late
        if done.returncode != 0:
            self._forwards.pop(place, None)
            reason = done.stderr.decode(errors="replace").strip()
            raise faults.unreachable(self.name, reason or "the connection was lost")

    def _require(self, status: int, doing: str, path: str, err: str) -> None:
        if status != 0:
            raise faults.refused_file(self.name, doing, path, err.strip() or f"exit {status}")


class SocketStream:
    """A stream over sockets; with `process`, one that ends with it."""

    def __init__(
        self, send_to: socket.socket, read_from: socket.socket, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._send_to = send_to
        self._read_from = read_from
        self._process = process

    def recv(self, size: int, /) -> bytes:
        return self._read_from.recv(size)

    def sendall(self, data: bytes, /) -> None:
        self._send_to.sendall(data)

    def shutdown_write(self) -> None:
        self._send_to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for way in (self._send_to, self._read_from):
            with suppress(OSError):
                way.shutdown(socket.SHUT_RDWR)
            way.close()
        if self._process is not None:
            _end(self._process)


class _Heart:
    """The session that echoes; it is the connection itself when it `is_master`."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], *, master: bool) -> None:
        self.is_master = master
        self._mark = secrets.token_hex(8)
        self._echoed = threading.Condition()
        self._is_silent = False
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [*words, ECHO.format(self._mark)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environ),
            start_new_session=True,
        )
        self._listeners = [
            threading.Thread(target=self._listen_out, daemon=True),
            threading.Thread(target=self._listen_err, daemon=True),
        ]

    def start(self, timeout_s: float) -> str | None:
        """Wait until it is logged in: None, or what ssh said when it did not get in."""
        for listener in self._listeners:
            listener.start()
        if self._await(f"moorage-{self._mark}", timeout_s):
            return None
        self.end()
        self._listeners[1].join(ASK_S)
        return "\n".join([*self._said, *([] if self._said else [f"no answer within {timeout_s:g} s"])])

    def beats(self, timeout_s: float) -> bool:
        """Whether the other side echoes."""
        assert self._process.stdin is not None
        with self._asking:
            word = secrets.token_hex(8)
            try:
                self._process.stdin.write(f"{word}\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                return False
            return self._await(word, timeout_s)

    def end(self) -> None:
        _end(self._process)

    def _await(self, line: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        with self._echoed:
            while line not in self._lines:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._is_silent:
                    return False
                self._echoed.wait(left_s)
            return True

    def _listen_out(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._echoed:
                    self._lines.append(line.rstrip("\r\n"))
                    self._echoed.notify_all()
        with self._echoed:
            self._is_silent = True
            self._echoed.notify_all()

    def _listen_err(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._said.append(line.rstrip("\r\n"))


def _open_master(words: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The control socket of a connection that the user holds open to this host; None when there is none."""
    try:
        told = _ask([words[0], "-G", *words[1:]], environ)
        options = dict(line.split(" ", 1) for line in told.stdout.splitlines() if " " in line)
        path = options.get("controlpath", "none")
        if path == "none" or not Path(path).is_socket():
            return None
        alive = _ask([words[0], "-S", path, "-O", "check", *words[1:]], environ)
    except subprocess.TimeoutExpired:
        return None
    return path if alive.returncode == 0 else None


def _ask(words: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=dict(environ),
        timeout=ASK_S,
        check=False,
    )


def _given(target: RemoteTarget, environ: Mapping[str, str]) -> list[str]:
    """What wins over the config."""
    key = expand_home(target.identity_file, environ)
    words = ["-l", target.user] if target.user else []
    words += ["-p", str(target.port)] if target.port else []
    words += ["-i", key] if key else []
    return words


def _make_folder(environ: Mapping[str, str]) -> Path:
    """A private folder for sockets, with a path that is short enough. What a killed process left is removed."""
    places = [environ.get("XDG_RUNTIME_DIR", ""), state_folder(environ, "ssh"), tempfile.gettempdir(), "/tmp"]
    for place in (Path(place) for place in places if place.startswith("/") and len(place) < LONGEST_FOLDER - 30):
        with suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for stale in place.glob(f"{FOLDER_PREFIX}*-*"):
                pid = stale.name.split("-")[2]
                if pid.isdecimal() and identity_of(int(pid)) is None:
                    shutil.rmtree(stale, ignore_errors=True)
            return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=place))
    raise PreflightError(
        "there is no folder for ssh's control socket",
        code="log_not_written",
        hint="set XDG_RUNTIME_DIR to a short path",
    )


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """End a command that is not waited for. Its output is left unread: the master holds its other end open."""
    if process.returncode is not None:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
