"""The messages of a recorded conversation, as they were sent and said, read from the store."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.call import Extras
from moorage.pool.contract import Store

__all__ = ["recorded_messages"]


async def recorded_messages(store: Store, uid: str, seq: int) -> list[dict[str, Any]]:
    """All messages up to the reply of call `seq`, that reply included.

    Each call keeps only those that its matched call did not have, so this walks back call by call.
    """
    parts: list[list[dict[str, Any]]] = []
    at: int | None = seq
    while at is not None:
        stored = (await store.extras(uid, [at])).get(at)
        if not stored:
            break
        extras = msgspec.json.decode(stored, type=Extras)
        parts.append([*map(msgspec.json.decode, extras.messages), msgspec.json.decode(extras.reply)])
        at = extras.matched
    return [message for part in reversed(parts) for message in part]
