"""Who may come in: an administrator, a user, or the gateway, each by a token in `Authorization: Bearer`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from moorage.errors import PreflightError
from moorage.serving.api.problems import Problem

__all__ = ["SHORTEST_TOKEN", "Caller", "Door", "check_admin_token"]

SHORTEST_TOKEN = 16
"""Characters of a token that an operator made up."""
LONGEST_TOKEN = 1024

Role = Literal["admin", "user", "gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    role: Role
    user_id: str | None
    """None: not a user, so without models."""
    secret: str = field(repr=False)
    """What was shown: streams that go on for long show it again."""


class Door:
    """Tells who shows a token. Every failure takes the same way and says the same."""

    def __init__(self, admin_token: str, gateway_token: str | None, whose: Callable[[str], str | None]) -> None:
        """`whose`: the user of a token, None when it is unknown or revoked. `gateway_token`: None: there is none."""
        self._admin = _digest(admin_token)
        self._gateway = _digest(gateway_token) if gateway_token is not None else None
        self._whose = whose

    def enter(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """`headers`: names in lower case. Raises Problem 401."""
        shown = [value for name, value in headers if name == b"authorization"]
        secret = _bearer(shown[0]) if len(set(shown)) == 1 else None
        caller = self.known(secret) if secret is not None else None
        if caller is None:
            raise _not_authenticated("no token that is good here was shown")
        return caller

    def known(self, secret: str) -> Caller | None:
        """Who shows it; None: nobody that is known."""
        if len(secret) > LONGEST_TOKEN:
            return None
        digest = _digest(secret)
        is_admin = hmac.compare_digest(digest, self._admin)
        is_gateway = self._gateway is not None and hmac.compare_digest(digest, self._gateway)
        if is_admin:
            return Caller(role="admin", user_id=None, secret=secret)
        if is_gateway:
            return Caller(role="gateway", user_id=None, secret=secret)
        user_id = self._whose(secret)
        return None if user_id is None else Caller(role="user", user_id=user_id, secret=secret)


def check_admin_token(variable: str, value: str | None) -> str:
    """The token, if it will do. Raises PreflightError naming the variable, never what it holds."""
    if not value:
        raise PreflightError(
            f"the variable {variable} is not set",
            code="admin_token_missing",
            hint="--admin-token-env names the variable that holds the token",
            next=[f"export {variable}=$(openssl rand -hex 24)"],
        )
    if len(value) < SHORTEST_TOKEN or len(value) > LONGEST_TOKEN or not all("!" <= one <= "~" for one in value):
        raise PreflightError(
            f"the token in {variable} will not do: it has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters of ASCII, "
            "and no space",
            code="admin_token_bad",
            next=[f"export {variable}=$(openssl rand -hex 24)"],
        )
    return value


def _not_authenticated(detail: str) -> Problem:
    return Problem(
        401,
        detail,
        code="not_authenticated",
        hint="send the header Authorization: Bearer TOKEN",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _bearer(value: bytes) -> str | None:
    scheme, _, token = value.strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or b" " in token:
        return None
    return token.decode("latin-1")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
