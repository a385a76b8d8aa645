"""The keys that are good, in memory: read again when the store says that they changed.

Every gateway over a store looks at its stamp a few times a second, so a key that was revoked is refused everywhere
within one, and no request waits for the store. A key that is not known here yet may be a second old: it is looked for
once before it is refused.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from moorage.errors import MoorageError
from moorage.gateway.auth.key_text import digest_of
from moorage.gateway.auth.refusals import key_expired, key_revoked, keys_unknown

if TYPE_CHECKING:
    from moorage.gateway.log import Log
    from moorage.pool.contract import Key, Role, Store

__all__ = ["KeyRing"]

LOOK_EVERY_S = 0.25
READ_EVERY_S = 10.0
"""The keys themselves, whatever the stamp says: a stamp may be lost with its file."""
STALE_S = 5.0
"""When the store has not answered for so long, no key is good: one of them may have been revoked."""

NOBODY = bytes(32)


class KeyRing:
    """The stored keys of one gateway."""

    def __init__(self, store: Store, *, clock: Callable[[], float], monotonic: Callable[[], float], log: Log) -> None:
        """`clock`: Unix seconds, by which keys expire. `monotonic`: seconds that never go back."""
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._keys: dict[bytes, Key] = {}
        self._stamp: int | None = None
        self._read_at = 0.0
        self._heard_at = 0.0
        self._fresh = False
        self._looks = 0
        self._looking = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys and begin to watch them. Raises the store's faults."""
        await self._read()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Watch no more."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def has_admin(self) -> bool:
        """Whether somebody holds a good admin key."""
        now = self._clock()
        return any(key.role == "admin" and _good(key, now) for key in self._keys.values())

    def role_of(self, key: bytes) -> Role | None:
        """The role of a key; None: it is none, as far as is known here.

        Raises a Fault of 401 for one that was revoked or has expired, of 503 when the store is silent.
        """
        if not self._fresh:
            raise keys_unknown()
        parts = key.split(b"_")
        found = self._keys.get(parts[2]) if len(parts) == 4 else None
        if not hmac.compare_digest(digest_of(key), NOBODY if found is None else found.digest) or found is None:
            return None
        if found.revoked_at is not None:
            raise key_revoked()
        if found.expires_at is not None and found.expires_at <= self._clock():
            raise key_expired()
        return found.role

    async def look(self) -> None:
        """Read the keys if they changed since. Who comes while others look shares a look that began after it came."""
        asked = self._looks
        async with self._looking:
            if self._looks > asked:
                return
            self._looks += 1
            await self._look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            async with self._looking:
                self._looks += 1
                await self._look()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(STALE_S / 2):
                if await self._store.stamp("") != self._stamp or self._monotonic() - self._read_at > READ_EVERY_S:
                    await self._read()
                else:
                    self._heard()
        except (MoorageError, OSError, TimeoutError) as fault:
            if self._fresh and self._monotonic() - self._heard_at > STALE_S:
                self._fresh = False
                self._log.warning("keys_unknown", why=str(fault) or "the store is silent")

    async def _read(self) -> None:
        stamp = await self._store.stamp("")
        keys = await self._store.keys()
        self._keys = {key.key_id.encode(): key for key in keys}
        self._stamp, self._read_at = stamp, self._monotonic()
        self._heard()

    def _heard(self) -> None:
        self._heard_at = self._monotonic()
        self._fresh = True


def _good(key: Key, now: float) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
