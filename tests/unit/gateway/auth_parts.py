"""What a door needs, in memory: a store of keys, sessions, a connection, a clock that the test moves."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any

from moorage.errors import TryAgainError
from moorage.gateway.auth.failures import Failures
from moorage.gateway.auth.key_door import KEY_DIGEST, KeyDoor
from moorage.gateway.auth.key_ring import KeyRing
from moorage.gateway.auth.key_text import digest_of, make_key, new_key_id
from moorage.gateway.http.paths import find_route
from moorage.gateway.http.request import Request
from moorage.gateway.log import Log
from moorage.pool.contract import Key, Role

ADDRESS = "192.0.2.9"


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class KeyStore:
    """The part of `moorage.pool.contract.Store` that doors ask, in memory. `down`: it answers nothing."""

    def __init__(self) -> None:
        self.rows: dict[str, Key] = {}
        self.trajectories: dict[str, Any] = {}
        self.changes = 0
        self.asked: list[str] = []
        self.down = False

    async def stamp(self, uid: str) -> int:
        await asyncio.sleep(0)
        self._answer("stamp")
        return self.changes

    async def keys(self) -> list[Key]:
        self._answer("keys")
        return list(self.rows.values())

    async def find(self, uid: str) -> Any:
        self._answer("find")
        return self.trajectories.get(uid)

    def put(self, key: Key) -> None:
        self.rows[key.key_id] = key
        self.changes += 1

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise TryAgainError("the store is away")


class Doorway:
    """A door with keys and all around it."""

    def __init__(self, *, wants_admin: bool = True) -> None:
        self.clock = Clock()
        self.store = KeyStore()
        self.out = io.StringIO()
        self.live: dict[str, Any] = {}
        self._made = 0
        log = Log(self.out)
        self.ring = KeyRing(self.store, clock=self.clock, monotonic=self.clock, log=log)  # type: ignore[arg-type]
        self.door = KeyDoor(
            self.ring,
            store=self.store,  # type: ignore[arg-type]
            sessions=SimpleNamespace(known=self.live.get),  # type: ignore[arg-type]
            failures=Failures(self.clock),
            random_bytes=self.random_bytes,
            log=log,
            db="sqlite:///x.db",
            wants_admin=wants_admin,
        )

    def random_bytes(self, count: int) -> bytes:
        """Different each time, and the same in every run."""
        self._made += 1
        return self._made.to_bytes(4, "big") * (count // 4) + b"\xa5" * (count % 4)

    def key(self, role: Role, *, lifetime_s: float | None = None) -> tuple[str, Key]:
        """One that the store has."""
        key_id = new_key_id(lambda count: self.random_bytes(8)[-count:])
        text = make_key(role, key_id, self.random_bytes)
        key = Key(
            key_id=key_id,
            role=role,
            digest=digest_of(text.encode()),
            note="",
            created_at=self.clock(),
            expires_at=None if lifetime_s is None else self.clock() + lifetime_s,
            revoked_at=None,
        )
        self.store.put(key)
        return text, key

    def session(self, uid: str, *, in_memory: bool = True) -> str:
        """A session's own key."""
        own = self.door.capability(uid)
        row = SimpleNamespace(options={KEY_DIGEST: own.digest})
        self.store.trajectories[uid] = row
        if in_memory:
            self.live[uid] = SimpleNamespace(trajectory=row)
        return own.key

    async def ask(self, method: str, path: str, *headers: tuple[str, str], body: bytes = b"", **whom: str) -> None:
        """One request. Raises what it is refused with. `whom`: `key`, shown as a bearer; `address`."""
        raw = [(name.encode(), value.encode()) for name, value in headers]
        if "key" in whom:
            raw.append((b"authorization", b"Bearer " + whom["key"].encode("latin-1")))
        request = Request(method, path.encode(), raw, body)
        route, request.params = find_route(method, request.path)
        connection: Any = SimpleNamespace(address=whom.get("address", ADDRESS))
        unsure = self.door.admit(route, request, connection)
        if unsure is not None:
            await unsure
