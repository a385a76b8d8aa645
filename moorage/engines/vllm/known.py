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
        return cls(ids, _text_of(ids))

    def up_to(self, ids: bytes) -> Known:
        """For `ids`, from this when it is their beginning, else anew. A long text is copied once."""
        if not self.ids or not ids.startswith(self.ids):
            return Known.of(ids)
        if len(ids) == len(self.ids):
            return self
        return Known(ids, b",".join((self.text, _text_of(ids[len(self.ids) :]))))


def _text_of(ids: bytes) -> bytes:
    return msgspec.json.encode(unpack_ids(ids))[1:-1]
