"""The door of a gateway with keys."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from moorage.gateway.auth.credentials import OF_SESSIONS, key_shown
from moorage.gateway.auth.door import Capability
from moorage.gateway.auth.key_text import digest_of, make_key, mistyped, read_key
from moorage.gateway.auth.refusals import forbidden, key_missing, key_wrong, no_admin_key, too_many_failures
from moorage.gateway.auth.rules import Rule, rule_of
from moorage.gateway.http.faults import Fault
from moorage.gateway.routes.trajectories import CompleteBody

if TYPE_CHECKING:
    from moorage.gateway.auth.failures import Failures
    from moorage.gateway.auth.key_ring import KeyRing
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.paths import Route
    from moorage.gateway.http.request import Request
    from moorage.gateway.log import Log
    from moorage.gateway.turns.live import LiveSessions
    from moorage.pool.contract import Role, Store

__all__ = ["KEY_DIGEST", "KeyDoor"]

KEY_DIGEST = "key_digest"
"""In a trajectory's options: the digest of its own key, hexadecimal."""

READS = 4
"""At once, for keys of sessions that are not in memory: strangers must not keep the store busy."""


class KeyDoor:
    """`moorage.gateway.auth.door.Door` with keys: stored ones, and those of sessions."""

    def __init__(
        self,
        ring: KeyRing,
        *,
        store: Store,
        sessions: LiveSessions,
        failures: Failures,
        random_bytes: Callable[[int], bytes],
        log: Log,
        db: str,
        wants_admin: bool = True,
    ) -> None:
        """`db`: as `--db` has it, for the command that makes the first key.

        `wants_admin`: without a good admin key it stays shut.
        """
        self._ring = ring
        self._store = store
        self._sessions = sessions
        self._failures = failures
        self._random_bytes = random_bytes
        self._log = log
        self._db = db
        self._wants_admin = wants_admin
        self._reading = asyncio.Semaphore(READS)

    async def open(self) -> None:
        await self._ring.start()
        if not self._wants_admin or self._ring.has_admin():
            return
        await self._ring.close()
        raise no_admin_key(self._db)

    async def close(self) -> None:
        await self._ring.close()

    def admit(self, route: Route, request: Request, connection: Connection) -> Awaitable[None] | None:
        rule = rule_of(request.method, route.name)
        if rule == "open":
            return None
        key = key_shown(request.headers)
        if key is None:
            raise key_missing()
        if key[:13] == OF_SESSIONS:
            return self._admit_session(key, rule, route, request, connection)
        role = self._role(key, request, connection)
        if role is None:
            return self._look_again(key, rule, request, connection)
        _check_role(role, rule)
        return None

    def trusts(self, request: Request) -> bool:
        with contextlib.suppress(Fault):
            key = key_shown(request.headers)
            return key is not None and self._ring.role_of(key) is not None
        return False

    def capability(self, uid: str) -> Capability:
        key = make_key("session", uid, self._random_bytes)
        return Capability(key, digest_of(key.encode()).hex())

    # Stored keys

    def _role(self, key: bytes, request: Request, connection: Connection) -> Role | None:
        try:
            return self._ring.role_of(key)
        except Fault as fault:
            raise self._refused(fault, request, connection) from None

    async def _look_again(self, key: bytes, rule: Rule, request: Request, connection: Connection) -> None:
        """For a key that is not known: it may have been made a moment ago. Who failed too often waits that moment."""
        if read_key(key) is not None and not self._failures.spent(connection.address):
            await self._ring.look()
        role = self._role(key, request, connection)
        if role is None:
            raise self._refused(key_wrong(mistyped=mistyped(key)), request, connection)
        _check_role(role, rule)

    # Keys of sessions

    def _admit_session(
        self, key: bytes, rule: Rule, route: Route, request: Request, connection: Connection
    ) -> Awaitable[None] | None:
        """What the key may do is looked at first: nothing is asked of the store for what it may not do in any case."""
        if rule != "session":
            raise forbidden("a session's key makes calls in its session, registers and completes it, and nothing else")
        uid = request.params["uid"]
        if key[13:].partition(b"_")[0].decode("latin-1") != uid:
            raise forbidden("the key is another session's")
        live = self._sessions.known(uid)
        if live is None:
            return self._admit_unknown(key, uid, route, request, connection)
        self._check_session(key, live.trajectory.options, route, request, connection)
        return None

    async def _admit_unknown(
        self, key: bytes, uid: str, route: Route, request: Request, connection: Connection
    ) -> None:
        """Of a session that is not in memory: its row alone is read, its calls not before the key is good."""
        row = None
        if read_key(key) is not None:
            async with self._reading:
                row = await self._store.find(uid)
        self._check_session(key, row.options if row is not None else {}, route, request, connection)

    def _check_session(
        self, key: bytes, options: dict[str, Any], route: Route, request: Request, connection: Connection
    ) -> None:
        if not hmac.compare_digest(digest_of(key).hex(), options.get(KEY_DIGEST, "")):
            raise self._refused(key_wrong(mistyped=mistyped(key)), request, connection)
        if "complete_trajectory" in route.name and request.decode(CompleteBody, empty=b"{}").reward is not None:
            raise forbidden("a session's key completes its session without a reward: rewards are set by trainers")

    def _refused(self, fault: Fault, request: Request, connection: Connection) -> Fault:
        """What is told of a key that is not good: the fault, or that there were too many."""
        if fault.status != 401:
            return fault
        address = connection.address
        wait_s = self._failures.wait_s(address)
        if wait_s:
            return too_many_failures(wait_s)
        self._log.warning("key_refused", code=fault.code, address=address, request_id=request.id)
        return fault


def _check_role(role: Role, rule: Rule) -> None:
    if rule == "admin" and role != "admin":
        raise forbidden("this takes an admin's key")
