"""What can go wrong between us and an upstream; an error status that it answered is none of these."""

from __future__ import annotations

from moorage.errors import FailedError, TryAgainError

__all__ = ["Broken", "Silent", "Unreachable"]


class Unreachable(TryAgainError):
    """No connection could be made: refused, no such host, TLS failed, or not within the connect timeout."""

    code = "upstream_unreachable"


class Broken(FailedError):
    """The connection ended before the reply did, or the reply is not HTTP that can be trusted.

    `nothing_came`: not one byte of the reply had come, so nobody can have seen any of it.
    """

    code = "upstream_broken"

    def __init__(self, message: str, *, nothing_came: bool = False, code: str | None = None, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.nothing_came = nothing_came


class Silent(FailedError):
    """Not one byte came for as long as the caller was willing to wait."""

    code = "upstream_silent"
    http_status = 504
