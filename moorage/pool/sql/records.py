"""A record in its row: compressed when it is long, and then in pieces where it is long still.

Rows of at most a quarter of a page leave little of it empty, whatever the lengths of the records are.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from moorage.capture.call import Call, Draft
from moorage.capture.chain import decode_record
from moorage.pool.sql.connection import Connection

__all__ = [
    "COLUMNS",
    "LATE",
    "PAGE_BYTES",
    "UNDELIVERED",
    "Packer",
    "Prompts",
    "read_call",
    "read_calls",
    "read_record",
    "unpack",
]

LATE = 1
UNDELIVERED = 2
"""Flags of a call; one that has any is never leased."""

PAGE_BYTES = 16384
"""Of an SQLite file. Calls are 1 to 4 KB: on pages of 4 KB half the space would stay empty."""

COLUMNS = "id, seq, step_index, flags, reward, hash, record"

_PIECE_BYTES = PAGE_BYTES // 4 - 160
"""Shorter records are kept as they are: compressing one costs several times what it spares in writing."""
_PIECES_A_CALL = 1 << 16
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""A record in msgpack begins with an array's mark, never with this."""


class Packer:
    """Compresses with one context, so for one thread."""

    def __init__(self, *, in_pieces: bool = True) -> None:
        """`in_pieces` False: the database itself puts long values apart."""
        self._zstd = zstandard.ZstdCompressor(level=1)
        self._in_pieces = in_pieces

    def text(self, content: bytes) -> bytes:
        """Extras and blobs: always compressed."""
        return self._zstd.compress(content)

    def record(self, number: int, record: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
        """What the call's own row holds, and the rows (id, data) of `pieces` for the rest of it."""
        if len(record) > _PIECE_BYTES:
            record = self._zstd.compress(record)
        if len(record) <= _PIECE_BYTES or not self._in_pieces:
            return record, []
        starts = range(_PIECE_BYTES, len(record), _PIECE_BYTES)
        first_id = number * _PIECES_A_CALL
        rest = [(first_id + part, record[start : start + _PIECE_BYTES]) for part, start in enumerate(starts)]
        return record[:_PIECE_BYTES], rest


def unpack(content: bytes) -> bytes:
    """What `Packer.text` was given."""
    return zstandard.ZstdDecompressor().decompress(content)


def read_record(db: Connection, number: int, stored: bytes) -> bytes:
    """The record whose row holds `stored`."""
    if len(stored) == _PIECE_BYTES:
        first_id = number * _PIECES_A_CALL
        rest = db.execute(
            "SELECT data FROM pieces WHERE id >= ? AND id < ? ORDER BY id", (first_id, first_id + _PIECES_A_CALL)
        ).fetchall()
        stored = b"".join([stored, *(row[0] for row in rest)])
    return unpack(stored) if stored.startswith(_ZSTD_MAGIC) else stored


def read_call(db: Connection, row: Sequence[object], last_seq: int | None, reward: float | None) -> Call:
    """The call of a row of COLUMNS; `last_seq` and `reward` are its trajectory's."""
    number, seq, step_index, flags, own_reward, chained, stored = row
    is_last = seq == last_seq
    return Call(
        record=decode_record(read_record(db, number, stored)),  # type: ignore[arg-type]
        seq=seq,  # type: ignore[arg-type]
        step_index=step_index,  # type: ignore[arg-type]
        hash=chained,  # type: ignore[arg-type]
        late=bool(flags & LATE),  # type: ignore[operator]
        is_last=is_last,
        reward=reward if is_last and reward is not None else own_reward,  # type: ignore[arg-type]
    )


def read_calls(db: Connection, trajectory: int, last_seq: int | None, reward: float | None) -> list[Call]:
    """All calls of a trajectory by `seq`."""
    rows = db.execute(f"SELECT {COLUMNS} FROM calls WHERE trajectory = ? ORDER BY seq", (trajectory,))  # noqa: S608
    return [read_call(db, row, last_seq, reward) for row in rows.fetchall()]


class Prompts:
    """Whole prompts of one trajectory's calls, from their deltas. A prompt costs its chain and its tokens."""

    def __init__(self, db: Connection, trajectory: int) -> None:
        self._db = db
        self._trajectory = trajectory
        self._drafts: dict[int, Draft] = {}

    def know(self, call: Call) -> None:
        """Spare reading its record again."""
        self._drafts[call.seq] = call.record

    def prompt(self, draft: Draft) -> bytes:
        """[P] uint32"""
        if draft.parent is None:
            return draft.delta
        return self.prefix(draft.parent, draft.keep * 4) + draft.delta

    def prefix(self, seq: int, need_bytes: int | None = None) -> bytes:
        """[N] uint32: the first `need_bytes` of prompt and completion of the call `seq`; None: all."""
        parts: list[bytes] = []
        place: int | None = seq
        while place is not None and need_bytes != 0:
            draft = self._draft(place)
            start = draft.keep * 4
            if need_bytes is None or need_bytes > start:
                own = draft.delta + draft.completion
                parts.append(own if need_bytes is None else own[: need_bytes - start])
                need_bytes = start
            place = draft.parent
        return b"".join(reversed(parts))

    def _draft(self, seq: int) -> Draft:
        known = self._drafts.get(seq)
        if known is None:
            number, stored = self._db.execute(
                "SELECT id, record FROM calls WHERE trajectory = ? AND seq = ?", (self._trajectory, seq)
            ).fetchone()
            known = self._drafts[seq] = decode_record(read_record(self._db, number, stored))
        return known
