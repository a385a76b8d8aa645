"""Making, listing and revoking keys in a store, whether or not a gateway runs over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from moorage.errors import ConflictError, NotFoundError, PreflightError
from moorage.gateway.auth.key_text import digest_of, make_key, new_key_id
from moorage.pool.contract import Key
from moorage.pool.opening import open_store, sqlite_file

if TYPE_CHECKING:
    from moorage.pool.contract import Role, Store

__all__ = ["KeyKeeper", "KeyState", "state_of", "time_text"]

T = TypeVar("T")

KeyState = Literal["good", "expired", "revoked"]


class KeyKeeper:
    """The keys of the store at a URL. Each method opens the store and closes it again.

    Raises UsageError for what is no store's URL, and the store's faults.
    """

    def __init__(
        self,
        db: str,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._db = db
        self._clock = clock
        self._random_bytes = random_bytes

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def create(self, role: Role, *, note: str, lifetime_s: float | None, output: Path | None) -> tuple[str, Key]:
        """A new key: its text, which is nowhere else but in `output`, and what is stored of it.

        Raises ConflictError for an `output` that is there already, PreflightError for one that cannot be written.
        """
        now = self._clock()
        key_id = new_key_id(self._random_bytes)
        text = make_key(role, key_id, self._random_bytes)
        key = Key(
            key_id=key_id,
            role=role,
            digest=digest_of(text.encode()),
            note=note,
            created_at=now,
            expires_at=None if lifetime_s is None else now + lifetime_s,
            revoked_at=None,
        )
        with _written(output, text):
            self._with_store(lambda store: store.add_key(key))
        return text, key

    def everything(self) -> list[Key]:
        """All there are, oldest first, revoked ones too."""
        self._refuse_missing()
        return self._with_store(lambda store: store.keys())

    def revoke(self, key_id: str) -> tuple[Key, bool]:
        """It is good no more; and whether a good admin key is left. Raises NotFoundError. Again: as it was."""
        self._refuse_missing()

        async def work(store: Store) -> tuple[Key, bool]:
            revoked = await store.revoke_key(key_id, self._clock())
            left = [key for key in await store.keys() if key.role == "admin" and state_of(key, self._clock()) == "good"]
            return revoked, bool(left)

        return self._with_store(work)

    def _with_store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        async def run() -> T:
            store = open_store(self._db, read_only=False)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def _refuse_missing(self) -> None:
        """Looking must not make a store. Raises NotFoundError."""
        if self._db.startswith("sqlite:") and not sqlite_file(self._db).exists():
            raise NotFoundError(
                f"there is no store {sqlite_file(self._db)}",
                code="store_missing",
                hint="name the gateway's with --db, or its port with --port",
            )


def state_of(key: Key, now: float) -> KeyState:
    """Whether it opens anything."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "good"


def time_text(at: float | None) -> str | None:
    """RFC 3339 with `Z`, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def _written(output: Path | None, text: str) -> Iterator[None]:
    """The key in its file before it is good; the file is gone again when it does not become so."""
    if output is None:
        yield
        return
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        message = f"--output {output} is there already"
        raise ConflictError(message, code="output_exists", hint="name a file that is not there") from None
    except OSError as fault:
        raise _unwritable(output, fault) from None
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException as fault:
        with contextlib.suppress(OSError):
            output.unlink()
        if isinstance(fault, OSError):
            raise _unwritable(output, fault) from None
        raise


def _unwritable(output: Path, fault: OSError) -> PreflightError:
    return PreflightError(f"--output {output} cannot be written: {fault.strerror}", code="output_unwritable")
