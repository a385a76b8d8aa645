"""Token ids with their JSON text: what was written or read once is not written or read again.

A session's prompt grows by a little each turn, and both the request (in exact mode) and the reply hold all of it. With
the text of what is known, the known part is copied or compared as memory, and only what is new is encoded or parsed.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from moorage.capture.packing import unpack_ids

__all__ = ["Known"]


class Known(NamedTuple):
    """`text` is `1,2,3` for ids 1, 2, 3: no brackets, no spaces, as engines write it."""

    ids: bytes
    """[N] uint32."""
    text: bytes

    @classmethod
    def of(cls, ids: bytes) -> Known:
        """From packed ids alone."""
        return cls(ids, msgspec.json.encode(unpack_ids(ids))[1:-1])

    def plus(self, more: bytes) -> Known:
        """With `more` [M] uint32 after it."""
        if not self.ids:
            return Known.of(more)
        if not more:
            return self
        return Known(self.ids + more, self.text + b"," + msgspec.json.encode(unpack_ids(more))[1:-1])

    def up_to(self, ids: bytes) -> Known:
        """For `ids`, from this when it is their beginning, else anew."""
        if self.ids and ids.startswith(self.ids):
            return self.plus(ids[len(self.ids) :])
        return Known.of(ids)
