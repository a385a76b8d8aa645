"""The door of a gateway in front of declared models.

Models are open to everybody as long as the serving API says `auth: none`, whatever address is listened on; with
`required` they take a user's token, or a key of the gateway. All other routes take keys where any gateway's would, and
wherever tokens are required: else a session would be a way around them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from moorage.gateway.auth.credentials import key_shown
from moorage.gateway.auth.refusals import forbidden, key_missing
from moorage.gateway.auth.rules import rule_of

if TYPE_CHECKING:
    from moorage.gateway.auth.door import Capability, Door
    from moorage.gateway.auth.key_door import KeyDoor
    from moorage.gateway.auth.open_door import OpenDoor
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.paths import Route
    from moorage.gateway.http.request import Request
    from moorage.gateway.serving.accounts import Accounts
    from moorage.gateway.serving.feed import Feed

__all__ = ["INFERENCE", "ServedDoor"]

INFERENCE = frozenset(
    (
        *("/v1/models", "/v1/models/{model}", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        *("/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    )
)
"""The routes that users have, by their names; `/v1/logprobs` is for trainers."""

DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
NOBODY = bytes(32)


class ServedDoor:
    """`moorage.gateway.auth.door.Door` that knows users' tokens, and what each user may use up."""

    def __init__(self, keys: KeyDoor, unlocked: OpenDoor, accounts: Accounts, *, guarded: bool, strict: bool) -> None:
        """`guarded`: other routes than models' take keys in any case; `strict`: models' take them, too."""
        self._keys, self._open, self._accounts = keys, unlocked, accounts
        self._guarded, self._strict = guarded, strict
        self._required: bool | None = None
        """Whether models take a token; None: nothing was heard yet."""
        self._users: dict[bytes, tuple[bytes, str]] = {}
        """Digest → the same, and whose token it is of."""

    def hear(self, feed: Feed) -> None:
        """Who may come in from now on."""
        digests = {one.sha256.lower(): one.user_id for one in feed.users if DIGEST.fullmatch(one.sha256)}
        users = {bytes.fromhex(digest): user for digest, user in digests.items()}
        self._users = {digest: (digest, user) for digest, user in users.items()} if feed.auth == "required" else {}
        self._required = feed.auth == "required"
        self._accounts.allow(feed.limits if self._required else None)

    async def open(self) -> None:
        await self._keys.open()

    async def close(self) -> None:
        await self._keys.close()

    def admit(self, route: Route, request: Request, connection: Connection) -> Awaitable[None] | None:
        if route.name in INFERENCE and not self._strict and self._required is not True:
            self._open.admit(route, request, connection)  # before anything was heard there is nothing to use
            return None
        if not self._required:
            door: Door = self._keys if self._guarded else self._open
            return door.admit(route, request, connection)
        if rule_of(request.method, route.name) == "open":
            return None
        key = key_shown(request.headers)
        if key is None:
            raise key_missing()
        user = self._user_of(key)
        if user is None:
            return self._keys.admit(route, request, connection)
        if route.name not in INFERENCE or self._strict:
            raise forbidden("a user's token asks models, and nothing else: other routes take a key of this gateway")
        if request.method != "POST":
            return None
        return self._accounts.admit(user, request)

    def trusts(self, request: Request) -> bool:
        return (self._keys if self._guarded or self._required else self._open).trusts(request)

    def capability(self, uid: str) -> Capability | None:
        return self._keys.capability(uid) if self._guarded or self._required else None

    def _user_of(self, key: bytes) -> str | None:
        """Whose token it is; None: no user's."""
        shown = hashlib.sha256(key).digest()
        digest, user = self._users.get(shown, (NOBODY, ""))
        return user if hmac.compare_digest(digest, shown) else None
