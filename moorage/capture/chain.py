"""The record's bytes and the hash chain over them: what was committed can be shown to be what is read.

A record is encoded once, when it is committed, and kept as those bytes. Each hash covers the one before it, so a
record that is changed, left out, put in or moved breaks the chain at its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from moorage.capture.call import Draft

__all__ = ["GENESIS", "decode_record", "digest", "encode_record", "next_hash", "verify_chain"]

GENESIS = bytes(32)
"""What the first record's hash is chained to."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Draft)


def encode_record(draft: Draft) -> bytes:
    """The draft as msgpack, fields by position: the same draft gives the same bytes."""
    return _ENCODER.encode(draft)


def decode_record(record: bytes) -> Draft:
    """What `encode_record` was given. Fields that an older record lacks have their defaults.

    Raises msgspec.DecodeError (msgspec.ValidationError when the shape is another one).
    """
    return _DECODER.decode(record)


def next_hash(previous: bytes, seq: int, record: bytes) -> bytes:
    """[32] sha256 of the hash before, the place and the record."""
    return hashlib.sha256(previous + seq.to_bytes(8, "little") + record).digest()


def verify_chain(records: Iterable[tuple[int, bytes, bytes]]) -> int | None:
    """The `seq` of the first record that does not follow from those before it; None: all do.

    `records`: (seq, record, hash) of one session in the order they are kept. After a gap, the next one is broken.
    """
    previous = GENESIS
    for place, (seq, record, claimed) in enumerate(records):
        if seq != place or next_hash(previous, seq, record) != claimed:
            return seq
        previous = claimed
    return None


def digest(content: bytes) -> bytes:
    """[16] blake2b: names a blob by its content."""
    return hashlib.blake2b(content, digest_size=16).digest()
