"""A remote machine's Docker engine as a socket of this machine, for as long as it is needed.

Every connection to the socket becomes a `docker system dial-stdio` on the remote machine, which is how the docker
command itself goes through SSH: no port is opened on either side, and only this user can reach the socket. What is
said on it, secrets too, stays inside the SSH connection.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage.errors import MoorageError, PlatformUnreachable
from moorage.launch.remote.host import Ran, RemoteHost, Stream

DIAL = "docker system dial-stdio"
ASK = "docker version --format '{{.Server.Version}}'"
ASK_TIMEOUT_S = 20.0
PREFIX = "moorage-docker-"
"""Of the socket's folder; the pid of its process follows."""
PIECE_BYTES = 1 << 16
NO_SUCH_COMMAND = 127


@contextmanager
def docker_way(host: RemoteHost) -> Iterator[str]:
    """The engine's URL on this machine, `unix://…`, good inside the block.

    A PlatformUnreachable that leaves the block is told anew, in the words of the remote machine: `docker_missing`,
    `docker_permission` or `docker_unreachable` where its engine is at fault.
    """
    _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_place()))
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "docker.sock"))
            listener.listen()
            relay = _Relay(host, listener)
            threading.Thread(target=relay.accept, daemon=True).start()
            try:
                yield f"unix://{folder}/docker.sock"
            except PlatformUnreachable as fault:
                raise _told_by(host) from fault
            finally:
                relay.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Relay:
    """Carries every connection of a listening socket to the remote engine and back."""

    def __init__(self, host: RemoteHost, listener: socket.socket) -> None:
        self._host = host
        self._listener = listener
        self._clients: set[socket.socket] = set()
        self._closed = False
        self._lock = threading.Lock()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    client.close()
                    return
                self._clients.add(client)
            threading.Thread(target=self._carry, args=[client], daemon=True).start()

    def close(self) -> None:
        """End the listening and every connection."""
        with self._lock:
            self._closed = True
            clients = list(self._clients)
        for one in (self._listener, *clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _carry(self, client: socket.socket) -> None:
        try:
            self._carry_on(client)
        finally:
            with self._lock:
                self._clients.discard(client)

    def _carry_on(self, client: socket.socket) -> None:
        with client:
            try:
                stream = self._host.open_command(DIAL)
            except (MoorageError, OSError):
                return
            up = threading.Thread(target=_copy_up, args=[client, stream], daemon=True)
            up.start()
            _copy(stream.recv, client.sendall)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            _close(stream)
            up.join()


def _copy_up(client: socket.socket, stream: Stream) -> None:
    """HTTP clients never close one half alone: when this one sends no more, it has gone."""
    _copy(client.recv, stream.sendall)
    _close(stream)


def _copy(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
    """Until either end is over; why it is over shows in what the client gets."""
    with contextlib.suppress(MoorageError, OSError, EOFError):
        while piece := receive(PIECE_BYTES):
            send(piece)


def _close(stream: Stream) -> None:
    with contextlib.suppress(MoorageError, OSError, EOFError):
        stream.close()


def _told_by(host: RemoteHost) -> MoorageError:
    """Why the engine did not answer, as the machine says."""
    try:
        asked = host.run(ASK, timeout_s=ASK_TIMEOUT_S)
    except MoorageError as gone:
        return gone
    return fault_of(host.name, asked) or PlatformUnreachable(
        f"the connection to the Docker engine on {host.name} broke", code="docker_unreachable", hint="try again"
    )


def fault_of(name: str, asked: Ran) -> PlatformUnreachable | None:
    """What is wrong with Docker on the machine called `name`, from how `docker version` ended there; None: nothing."""
    if asked.status == 0:
        return None
    said = " ".join(asked.err.split()) or f"exit status {asked.status}"
    if asked.status == NO_SUCH_COMMAND or "not found" in said:
        return PlatformUnreachable(
            f"there is no docker command on {name}: {said}",
            code="docker_missing",
            hint="install Docker there, or choose a machine that has it",
        )
    if "permission denied" in said.lower():
        return PlatformUnreachable(
            f"no permission for the Docker engine on {name}: {said}",
            code="docker_permission",
            hint=f"let that user join the group docker: ssh {name} 'sudo usermod -aG docker $USER'",
        )
    return PlatformUnreachable(
        f"the Docker engine on {name} does not answer: {said}",
        code="docker_unreachable",
        hint=f"start it: ssh {name} sudo systemctl start docker",
    )


def _place() -> str:
    """Where the socket's folder goes: a socket's path has at most 107 bytes."""
    place = tempfile.gettempdir()
    return place if len(place) < 60 else "/tmp"


def _remove_stale() -> None:
    """Folders whose process was killed before it could remove them."""
    for folder in Path(_place()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
