"""Records and their hash chain: nothing can be changed, left out, put in or moved without being found."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.capture.call import Draft, Span
from moorage.capture.chain import GENESIS, decode_record, digest, encode_record, next_hash, verify_chain
from tests.unit.capture.sessions import draft

RECORDS = st.lists(st.binary(max_size=8), min_size=1, max_size=8)


def chained(records: list[bytes]) -> list[tuple[int, bytes, bytes]]:
    rows, previous = [], GENESIS
    for seq, record in enumerate(records):
        previous = next_hash(previous, seq, record)
        rows.append((seq, record, previous))
    return rows


def test_a_record_comes_back():
    one = draft(
        parent=3,
        keep=17,
        delta=[1, 2**32 - 1],
        completion=[7, 8],
        verdict="branch",
        reason="template",
        spans=(Span("7", 0, 1), Span("8", 1, 2)),
        created_at=1.5,
        reply_key=b"k" * 16,
    )
    assert decode_record(encode_record(one)) == one
    assert encode_record(decode_record(encode_record(one))) == encode_record(one)


def test_an_older_record_has_the_defaults_of_newer_fields():
    """Fields go to the end, so a record from before them is a shorter array."""
    values = msgspec.msgpack.decode(encode_record(draft(completion=[1])))
    required = sum(field.required for field in msgspec.structs.fields(Draft))
    old = decode_record(msgspec.msgpack.encode(values[:required]))
    assert old == draft(completion=[1])


def test_a_newer_record_is_read_as_far_as_it_is_known():
    values = msgspec.msgpack.decode(encode_record(draft(completion=[1])))
    assert decode_record(msgspec.msgpack.encode([*values, "something new"])) == draft(completion=[1])


@pytest.mark.parametrize("record", [b"", b"\xc1", b"\x93\x01\x02\x03", b"junk"])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(msgspec.DecodeError):
        decode_record(record)


def test_logprobs_are_kept_apart_from_none():
    assert decode_record(encode_record(draft(logprobs=None))).logprobs is None


def test_the_hash_is_sha256_of_hash_place_and_record():
    assert len(GENESIS) == 32
    expected = hashlib.sha256(GENESIS + bytes(8) + b"record").digest()
    assert next_hash(GENESIS, 0, b"record") == expected


def test_a_digest_has_sixteen_bytes():
    assert len(digest(b"")) == 16
    assert digest(b"a") != digest(b"b")


def test_nothing_is_an_unbroken_chain():
    assert verify_chain([]) is None


def test_a_gap_is_found_although_the_hashes_follow():
    first = next_hash(GENESIS, 0, b"a")
    assert verify_chain([(0, b"a", first), (2, b"c", next_hash(first, 2, b"c"))]) == 2


@given(RECORDS)
def test_what_was_chained_verifies(records):
    assert verify_chain(chained(records)) is None


@given(RECORDS, st.data())
def test_a_changed_record_is_the_first_broken_one(records, data):
    rows = chained(records)
    at = data.draw(st.integers(0, len(rows) - 1))
    part = data.draw(st.integers(0, 2))
    seq, record, claimed = rows[at]
    rows[at] = [(seq + 1, record, claimed), (seq, record + b"!", claimed), (seq, record, bytes(32))][part]
    assert verify_chain(rows) == rows[at][0]


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=8), st.data())
def test_a_record_left_out_breaks_the_next_one(records, data):
    rows = chained(records)
    at = data.draw(st.integers(0, len(rows) - 2))
    assert verify_chain(rows[:at] + rows[at + 1 :]) == at + 1


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=8), st.data())
def test_records_that_changed_places_are_found(records, data):
    rows = chained(records)
    at = data.draw(st.integers(0, len(rows) - 2))
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    assert verify_chain(rows) == at + 1


@given(RECORDS, st.data())
def test_a_record_put_in_is_found(records, data):
    rows = chained(records)
    at = data.draw(st.integers(0, len(rows)))
    rows.insert(at, (at, b"forged", next_hash(bytes(31) + b"\x01", at, b"forged")))
    assert verify_chain(rows) == at
