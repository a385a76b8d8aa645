"""The error tree: every failure a user can meet, with its exit and HTTP status.

    MoorageError
    ├── UsageError          2    400  the command line or an input is wrong
    ├── NotFoundError       3    404  no such service
    ├── AmbiguousError      4    409  several services match; never picked for the user
    ├── PreflightError      5    503  a tool, key, image or engine is missing
    ├── ConflictError       6    409  the state file or a port is in the way
    │   ├── RegistryCorrupt           the state file cannot be read
    │   └── PortTaken                 a platform could not bind the port; the start tries the next one
    ├── NotReadyError       7    503  not ready in time; the service stays
    ├── FailedError         8    502  failed for good
    ├── TryAgainError       9    503  a passing fault: the same command may work later
    │   └── PlatformUnreachable       the platform does not answer, so its services are in an unknown state
    └── InterruptedStart  130    499  Ctrl-C while starting; all was undone

A class exists when something catches it by type or when it has an exit status of its own. Errors are raised where
they happen and shown once, at the edge (`moorage.cli.output`). Messages name the input that failed; `hint` says what
to do and `next` holds commands to type. None of them may hold the value of a secret.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AmbiguousError",
    "ConflictError",
    "FailedError",
    "InterruptedStart",
    "MoorageError",
    "NotFoundError",
    "NotReadyError",
    "PlatformUnreachable",
    "PortTaken",
    "PreflightError",
    "RegistryCorrupt",
    "TryAgainError",
    "UsageError",
]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


class MoorageError(Exception):
    """The root: nothing raises it directly.

    `code` is snake_case and stable; `data` is what a program needs to go on (`candidates`, `log_tail`, `faults`).
    """

    code: str = "error"
    exit_status: ClassVar[int] = 8
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        next: Iterable[str] = (),
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.hint = hint
        self.next = list(next)
        self.data = data


class UsageError(MoorageError):
    """A wrong command line, an unknown name, a value out of range."""

    code = "usage"
    exit_status = 2
    http_status = 400


class NotFoundError(MoorageError):
    """No service of that id or arch, or no service at all."""

    code = "not_found"
    exit_status = 3
    http_status = 404


class AmbiguousError(MoorageError):
    """Several services match; `data["candidates"]` lists their entries."""

    code = "ambiguous"
    exit_status = 4
    http_status = 409


class PreflightError(MoorageError):
    """Something needed is missing: a program, a variable, an image, an engine, a GPU, a permission."""

    code = "preflight"
    exit_status = 5
    http_status = 503


class ConflictError(MoorageError):
    """Something else holds what we need: the state file is not ours, a port or a name is in use."""

    code = "conflict"
    exit_status = 6
    http_status = 409


class RegistryCorrupt(ConflictError):
    """The state file is not a registry; it was kept beside, byte for byte."""

    code = "registry_corrupt"


class PortTaken(ConflictError):
    """The platform accepted the service but could not bind the host port."""

    code = "port_taken"


class NotReadyError(MoorageError):
    """The service did not become ready in time; it and its entry stay."""

    code = "not_ready"
    exit_status = 7
    http_status = 503


class FailedError(MoorageError):
    """It died, or reported a fatal reason; `data["log_tail"]` has its last lines."""

    code = "failed"
    exit_status = 8
    http_status = 502


class TryAgainError(MoorageError):
    """A passing fault: nothing was changed, the same command may work later."""

    code = "try_again"
    exit_status = 9
    http_status = 503
    retryable = True


class PlatformUnreachable(TryAgainError):
    """The platform does not answer; what runs there is not known."""

    code = "platform_unreachable"


class InterruptedStart(MoorageError):
    """The user or the system interrupted a start; everything was undone."""

    code = "interrupted"
    exit_status = 130
    http_status = 499
