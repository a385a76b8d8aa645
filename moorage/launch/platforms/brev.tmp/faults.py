"""What the `brev` command says when something fails, as errors of ours: text in, error out, no effects."""

from __future__ import annotations

from moorage.errors import (
    ConflictError,
    FailedError,
    PlatformUnreachable,
    PreflightError,
    TryAgainError,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.errors import MoorageError

LOGIN_HINT = (
    "log in by hand: brev login (add --skip-browser on a machine without one). Moorage hands BREV_API_TOKEN on in the "
    "environment only: as an argument of brev login every user of this machine could read it"
)

_LOGGED_OUT = ("logged out", "not logged in", "credentials file not found", "unauthorized", "brev login", "forbidden")
_NETWORK = ("dial tcp", "no such host", "i/o timeout", "connection refused", "tls handshake", "network is unreachable")
_NO_CAPACITY = ("no capacity", "insufficient capacity", "currently unavailable", "enough capacity", "of capacity")
_BAD_TYPE = ("not a recognized type", "is invalid or unavailable", "invalid gpu instance type", "invalid instance type")
_NAME_TAKEN = ("already exists", "duplicate workspace", "duplicate instance")
_QUOTA = ("quota", "limit exceeded", "credit", "payment")


def command_missing() -> PreflightError:
    return PreflightError(
        "the brev command is not on PATH",
        code="brev_missing",
        hint="install Brev's command line and log in; docs: https://docs.nvidia.com/brev",
        next=["brev login"],
    )


def command_fault(words: str, said: str) -> MoorageError:
    """The error for a `brev` call that failed. `words`: what was called; `said`: both of its streams."""
    if _has(said, _LOGGED_OUT):
        return PreflightError(
            f"`brev {words}` is not logged in: {_gist(said)}",
            code="brev_login",
            hint=LOGIN_HINT,
            next=["brev login"],
        )
    hint = "is Brev's API reachable from here?" if _has(said, _NETWORK) else "the same command by hand may say more"
    return PlatformUnreachable(f"`brev {words}` failed: {_gist(said)}", hint=hint, next=[f"brev {words}"])


def create_fault(name: str, kind: str, said: str) -> MoorageError:
    """The error for an instance that could not be created; Brev's own words are in it."""
    message = f"Brev did not create {name} ({kind}): {_gist(said)}"
    search = ["brev search"]
    if _has(said, _NO_CAPACITY):
        return TryAgainError(message, code="no_capacity", hint="try later, or another --instance-type", next=search)
    if _has(said, _BAD_TYPE):
        hint = f"--instance-type {kind} is none that Brev has now; brev search lists them"
        return UsageError(message, code="bad_instance_type", hint=hint, next=search)
    if _has(said, _NAME_TAKEN):
        return ConflictError(message, code="name_taken", hint="delete it, or leave --job-id away", next=["brev ls"])
    if _has(said, _QUOTA):
        return TryAgainError(
            message, code="no_capacity", hint="the limit is one of your Brev organization", next=search
        )
    if _has(said, (*_LOGGED_OUT, *_NETWORK)):
        return command_fault(f"create {name}", said)
    return FailedError(message, code="create_failed", hint="the Brev console may say more", next=["brev ls"])


def _has(said: str, parts: tuple[str, ...]) -> bool:
    lower = said.lower()
    return any(part in lower for part in parts)


def _gist(said: str) -> str:
    """Its lines in one; the last ones tell what failed, so a long text loses its beginning."""
    text = "; ".join(line.strip() for line in said.splitlines() if line.strip()) or "it said nothing"
    return text if len(text) <= 500 else f"…{text[-500:]}"
