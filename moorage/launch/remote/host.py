"""What every client of a remote machine can do, in words."""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Protocol

__all__ = ["Ran", "RemoteHost", "Stream"]


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status; 128 and more for one that a signal ended, as a shell tells it."""
    out: str
    err: str


class Stream(Protocol):
    """Bytes both ways, like a socket. A failure is an OSError, or MoorageError with a reason."""

    def recv(self, size: int, /) -> bytes:
        """Wait for some bytes; b"" at the end, also when the far end could not be reached at all."""
        ...

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown_write(self) -> None:
        """No more is sent; the other direction goes on."""
        ...

    def close(self) -> None:
        """End both directions. A `recv` in another thread returns."""
        ...


class RemoteHost(Protocol):
    """One machine, logged in. Usable from several threads; a context manager that closes it.

    Paths are absolute, or relative to the login folder. Every method raises PlatformUnreachable when the connection is
    gone, and FailedError when the machine refuses (no permission, disk full).
    """

    name: str
    """The host of the target that answered."""

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> Ran:
        """Run a shell command to its end. It can be read in the machine's process list: no secrets in it.

        Raises TryAgainError when it takes longer than `timeout_s`.
        """
        ...

    def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file whole: nobody sees a part of it, and a broken connection leaves the old one."""
        ...

    def get(self, path: str) -> bytes | None:
        """Read a file; None when it is not there."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone is success."""
        ...

    def make_folder(self, path: str, *, mode: int = 0o700) -> None:
        """Make a folder and those above it; one that is there is left as it is."""
        ...

    def open_stream(self, address: str, port: int) -> Stream:
        """Connect from that machine to `address`. When that refuses: TryAgainError, or a stream that ends at once."""
        ...

    def open_command(self, command: str) -> Stream:
        """Run a command and talk to its stdin and stdout, until either ends."""
        ...

    def is_alive(self, timeout_s: float = 5.0) -> bool:
        """Ask the machine for an answer. Raises nothing."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> RemoteHost: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...
