"""A machine over paramiko: the only file that imports it."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from moorage.errors import MoorageError, PreflightError
from moorage.launch.remote import faults
from moorage.launch.remote.dial import dial, dial_command
from moorage.launch.remote.host import Ran, Stream
from moorage.launch.remote.host_keys import check_host_key
from moorage.launch.remote.known_hosts import known_kinds, read_keys
from moorage.launch.remote.ssh_config import Settings, parse_jump
from moorage.launch.remote.target import RemoteTarget
from moorage.launch.remote.user_config import read_settings, read_text

MOST_JUMPS = 8
OPEN_S = 15.0
FILE_S = 60.0
KILLED_BY_SIGNAL = 255
CONNECT_FAILED, NOT_PERMITTED = 2, 1
"""Reasons of a server that opens no channel (RFC 4254)."""


def connect_paramiko(alias: str, target: RemoteTarget, environ: Mapping[str, str], *, timeout_s: float) -> ParamikoHost:
    """Log in to one host. Raises PreflightError or PlatformUnreachable."""
    # Without a handler, the package writes tracebacks of every lost connection to stderr.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    way = _Way(environ, timeout_s)
    try:
        return ParamikoHost(alias, way.reach(alias, target), way)
    except BaseException:
        way.close()
        raise


class _Way:
    """Everything that stands between here and a host: transports of jump hosts, a ProxyCommand."""

    def __init__(self, environ: Mapping[str, str], timeout_s: float) -> None:
        self._environ = environ
        self._timeout_s = timeout_s
        self._closers: list[Callable[[], object]] = []

    def reach(self, alias: str, target: RemoteTarget, *, depth: int = 0) -> paramiko.Transport:
        """A logged-in transport, by the host's own configuration."""
        settings = read_settings(alias, target, self._environ)
        if depth > MOST_JUMPS:
            raise PreflightError(f"{alias}: ProxyJump goes in a circle", code="bad_ssh_config")
        before = self._jump(settings, depth) if settings.proxy_jump else None
        return self._enter(settings, target, self._socket(settings, before))

    def close(self) -> None:
        """End all of it, the farthest first."""
        while self._closers:
            with suppress(OSError, EOFError, paramiko.SSHException):
                self._closers.pop()()

    def _jump(self, settings: Settings, depth: int) -> paramiko.Transport:
        """The transport of the last jump host."""
        before: paramiko.Transport | None = None
        for jump in settings.proxy_jump:
            try:
                user, host, port = parse_jump(jump)
            except ValueError as fault:
                raise PreflightError(f"{settings.alias}: ProxyJump: {fault}", code="bad_ssh_config") from fault
            target = RemoteTarget((host,), user, port)
            if before is None:
                before = self.reach(host, target, depth=depth + 1)
            else:
                hop = read_settings(host, target, self._environ)
                before = self._enter(hop, target, self._socket(hop, before))
        assert before is not None
        return before

    def _socket(self, settings: Settings, before: paramiko.Transport | None) -> socket.socket | paramiko.Channel:
        place = settings.host_name, settings.port
        try:
            if before is not None:
                return before.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=self._timeout_s)
            if settings.proxy_command is not None:
                way, process = dial_command(settings.proxy_command, self._environ)
                self._closers.append(lambda: _end(process))
                return way
            return dial(*place, timeout_s=self._timeout_s)
        except (OSError, paramiko.SSHException) as fault:
            raise faults.unreachable(settings.place, fault) from fault

    def _enter(
        self, settings: Settings, target: RemoteTarget, way: socket.socket | paramiko.Channel
    ) -> paramiko.Transport:
        keys = read_keys(read_text(path) for path in settings.known_hosts_files)
        try:
            transport = paramiko.Transport(way)
        except (OSError, paramiko.SSHException) as fault:
            way.close()
            raise faults.unreachable(settings.place, fault) from fault
        self._closers.append(transport.close)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._timeout_s
        _prefer_known(transport, known_kinds(keys, settings.known_name))
        try:
            transport.start_client(timeout=self._timeout_s)
            server_key = transport.get_remote_server_key()
            check_host_key(settings, keys, server_key.get_name(), server_key.asbytes(), target=target)
            _log_in(transport, settings, self._environ)
        except (OSError, EOFError, paramiko.SSHException) as fault:
            raise faults.unreachable(settings.place, fault) from fault
        return transport


class ParamikoHost:
    """See `remote.host.RemoteHost`."""

    def __init__(self, name: str, transport: paramiko.Transport, way: _Way) -> None:
        self.name = name
        self._transport = transport
        self._way = way
        self._lock = threading.Lock()
        self._sftp: paramiko.SFTPClient | None = None
        self._is_quick = False

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> Ran:
        deadline = time.monotonic() + timeout_s
        channel = self._session(command, min(OPEN_S, timeout_s))
        err: list[bytes] = []
        # Each stream by itself: a command may fill one while it waits for another.
        sides = [
            threading.Thread(target=_feed, args=(channel, stdin), daemon=True),
            threading.Thread(target=_drain, args=(channel.recv_stderr, err), daemon=True),
        ]
        for side in sides:
            side.start()
        try:
            out = b"".join(_read_until(channel, deadline))
            if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            sides[1].join(max(0.0, deadline - time.monotonic()))
        except TimeoutError as fault:
            if not self.is_alive():
                raise faults.unreachable(self.name, "the connection hangs") from fault
            raise faults.took_too_long(self.name, command, timeout_s) from fault
        except OSError as fault:
            raise faults.unreachable(self.name, fault) from fault
        finally:
            channel.close()
        status = channel.exit_status
        if status < 0 and not self._transport.is_active():
            raise faults.unreachable(self.name, "the connection was lost")
        status = KILLED_BY_SIGNAL if status < 0 else status
        return Ran(status, out.decode(errors="replace"), b"".join(err).decode(errors="replace"))

    def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        part = f"{path}.{secrets.token_hex(4)}.part"
        with self._files("write", path) as sftp:
            try:
                with sftp.file(part, "wx") as file:
                    file.chmod(mode)  # before there is anything to read
                    file.set_pipelined(True)
                    file.write(data)
                sftp.posix_rename(part, path)
            except OSError:
                with suppress(OSError):
                    sftp.remove(part)
                raise

    def get(self, path: str) -> bytes | None:
        with self._files("read", path) as sftp:
            try:
                with sftp.file(path, "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def remove(self, path: str) -> None:
        with self._files("remove", path) as sftp, suppress(FileNotFoundError):
            sftp.remove(path)

    def make_folder(self, path: str, *, mode: int = 0o700) -> None:
        with self._files("make the folder", path) as sftp:
            parts = [part for part in path.split("/") if part]
            for depth in range(1, len(parts) + 1):
                place = ("/" if path.startswith("/") else "") + "/".join(parts[:depth])
                try:
                    sftp.listdir_attr(place) if depth == len(parts) else sftp.stat(place)
                except FileNotFoundError:
                    _make_one(sftp, place, mode)

    def open_stream(self, address: str, port: int) -> Stream:
        self._quicken()
        place = address, port
        try:
            return self._transport.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=OPEN_S)
        except paramiko.ChannelException as fault:
            if fault.code == NOT_PERMITTED:
                raise faults.forwarding_refused(self.name, fault.text) from fault
            raise faults.port_closed(self.name, address, port, fault.text) from fault
        except (OSError, EOFError, paramiko.SSHException) as fault:
            raise faults.unreachable(self.name, fault) from fault

    def open_command(self, command: str) -> Stream:
        return self._session(command)

    def is_alive(self, timeout_s: float = 5.0) -> bool:
        """A request that every server answers, if only with a refusal. It has no time limit of its own."""
        if not self._transport.is_active():
            return False
        answered = threading.Event()

        def ask() -> None:
            with suppress(OSError, EOFError, paramiko.SSHException):
                self._transport.global_request("keepalive@openssh.com", wait=True)
                answered.set()

        threading.Thread(target=ask, daemon=True).start()
        return answered.wait(timeout_s) and self._transport.is_active()

    def close(self) -> None:
        self._way.close()

    def __enter__(self) -> ParamikoHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session(self, command: str, timeout_s: float = OPEN_S) -> paramiko.Channel:
        try:
            channel = self._transport.open_session(timeout=timeout_s)
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as fault:
            raise faults.unreachable(self.name, fault) from fault
        return channel

    def _quicken(self) -> None:
        """sshd sends small packets at once only when a command has run on the connection: else 40 ms late."""
        if not self._is_quick:
            self._is_quick = True
            with suppress(MoorageError):  # an account that may run nothing can still forward
                self._session("true").close()

    @contextmanager
    def _files(self, doing: str, path: str) -> Iterator[paramiko.SFTPClient]:
        try:
            with self._lock:
                yield self._open_sftp()
        except (EOFError, TimeoutError, ConnectionError, paramiko.SSHException) as fault:
            self._sftp = None
            if self._transport.is_active() and isinstance(fault, paramiko.SSHException):
                raise faults.refused_file(self.name, doing, path, f"no SFTP there ({fault})") from fault
            raise faults.unreachable(self.name, fault) from fault
        except OSError as fault:
            if not self._transport.is_active():
                raise faults.unreachable(self.name, fault) from fault
            raise faults.refused_file(self.name, doing, path, fault.strerror or fault) from fault

    def _open_sftp(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            channel = self._transport.open_session(timeout=OPEN_S)
            channel.settimeout(FILE_S)
            channel.invoke_subsystem("sftp")
            self._sftp = paramiko.SFTPClient(channel)
        return self._sftp


def _log_in(transport: paramiko.Transport, settings: Settings, environ: Mapping[str, str]) -> None:
    tried: list[str] = []
    with _agent_keys(settings, environ) as agent_keys:
        for label, key in _candidates(settings, agent_keys, tried):
            try:
                more = transport.auth_publickey(settings.user, key)
            except paramiko.BadAuthenticationType as fault:
                raise faults.needs_more(settings.alias, settings.user, fault.allowed_types) from fault
            except paramiko.AuthenticationException:
                tried.append(label)
                if not transport.is_active():  # the server had enough
                    break
                continue
            if more:
                raise faults.needs_more(settings.alias, settings.user, more)
            return
    raise faults.login_refused(settings.alias, settings.user, tried, environ)


def _candidates(
    settings: Settings, agent_keys: tuple[AgentKey, ...], notes: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys to offer, and what to call them: named files, the agent's, then the usual files. Unusable ones are noted."""
    files = [(path, _load_key(path)) for path in settings.identity_files if Path(path).exists()]
    named = {public for path, key in files for public in _public_parts(path, key)}
    notes += [f"{path} ({key})" for path, key in files if isinstance(key, str)]
    from_agent = [key for key in agent_keys if key.asbytes() in named]
    from_agent += [] if settings.identities_only else [key for key in agent_keys if key.asbytes() not in named]
    from_files = [(path, key) for path, key in files if not isinstance(key, str)]
    yield from from_files if settings.keys_are_named else ()
    yield from ((f"the agent's key {getattr(key, 'comment', '')}".strip(), key) for key in from_agent)
    yield from () if settings.keys_are_named else from_files


def _load_key(path: str) -> paramiko.PKey | str:
    """The key, or why it cannot be used."""
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        return "it has a passphrase, so it counts only when ssh-add gave it to the agent"
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as fault:
        return f"it cannot be read: {fault}"


def _public_parts(path: str, key: paramiko.PKey | str) -> list[bytes]:
    if not isinstance(key, str):
        return [key.asbytes()]
    with suppress(ValueError, IndexError):
        import base64

        return [base64.b64decode(read_text(f"{path}.pub").split()[1])]
    return []


@contextmanager
def _agent_keys(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[AgentKey, ...]]:
    """The agent's keys while it is asked; none when there is no agent."""
    path = settings.identity_agent or environ.get("SSH_AUTH_SOCK")
    with socket.socket(socket.AF_UNIX) as way:
        way.settimeout(OPEN_S)
        agent = AgentSSH()
        if path and path != "none":
            with suppress(OSError, paramiko.SSHException):
                way.connect(path)
                agent._connect(way)  # type: ignore[attr-defined]
        yield agent.get_keys()


def _prefer_known(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Ask for the kinds of host key that are known, before others: else a known host may seem a changed one."""
    options = transport.get_security_options()
    wanted = [other for kind in kinds for other in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))]
    offered = list(options.key_types)
    first = [kind for kind in dict.fromkeys(wanted) if kind in offered]
    options.key_types = [*first, *(kind for kind in offered if kind not in first)]


def _make_one(sftp: paramiko.SFTPClient, place: str, mode: int) -> None:
    try:
        sftp.mkdir(place, mode)
    except OSError:
        sftp.stat(place)  # someone else made it meanwhile


def _read_until(channel: paramiko.Channel, deadline: float) -> Iterator[bytes]:
    """What comes, to its end. Raises TimeoutError when that does not come in time."""
    data = b"more"
    while data:
        channel.settimeout(max(0.0, deadline - time.monotonic()))
        data = channel.recv(65536)
        yield data


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):  # a command need not read what it is given
        channel.sendall(data)
        channel.shutdown_write()


def _drain(read: Callable[[int], bytes], into: list[bytes]) -> None:
    with suppress(OSError, EOFError):
        into.extend(iter(lambda: read(65536), b""))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=5)
