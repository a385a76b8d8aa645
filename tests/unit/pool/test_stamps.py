"""Stamps in shared memory: who reads one before a trajectory knows whether the copy is fresh."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.pool.contract import NewTrajectory
from moorage.pool.sqlite.stamps import Stamps
from moorage.pool.sqlite.store import SqliteStore
from tests.contract.store_parts import draft


def opened(path) -> Stamps:
    stamps = Stamps(path)
    stamps.open()
    return stamps


def written(stamps: Stamps, *uids: str) -> int:
    stamp = stamps.next()
    stamps.end(begun(stamps, stamp, *uids), stamp)
    return stamp


def begun(stamps: Stamps, stamp: int, *uids: str) -> list[int]:
    slots = [stamps.slot(uid) for uid in uids]
    stamps.begin(slots, stamp)
    return slots


def test_a_write_is_seen_by_others(tmp_path):
    one, other = opened(tmp_path / "stamps"), opened(tmp_path / "stamps")
    before = other.read("t")
    assert other.read("t") == before
    assert written(one, "t") == one.read("t")
    assert other.read("t") != before
    assert one.read("u") == one.read("u")
    assert (tmp_path / "stamps").stat().st_mode & 0o777 == 0o600


def test_while_a_commit_is_on_its_way_no_copy_is_fresh(tmp_path):
    one, other = opened(tmp_path / "stamps"), opened(tmp_path / "stamps")
    stamp = one.next()
    slots = begun(one, stamp, "t")
    assert len({other.read("t") for _ in range(10)}) == 10
    one.end(slots, stamp)
    assert other.read("t") == other.read("t")


def test_an_end_that_comes_after_another_begin_makes_nothing_fresh(tmp_path):
    """Two processes commit one after the other; the first is held up before it says so."""
    one, other = opened(tmp_path / "stamps"), opened(tmp_path / "stamps")
    first, second = one.next(), other.next()
    slots = begun(one, first, "t")
    other.end(begun(other, second, "t"), second)
    one.end(slots, first)
    assert one.read("t") != first
    assert one.read("t") != one.read("t")


def test_what_a_killed_process_left_is_settled_by_the_next(tmp_path):
    one, other = opened(tmp_path / "stamps"), opened(tmp_path / "stamps")
    begun(one, one.next(), "t")
    before = other.read("t")
    other.heal()
    assert other.read("t") == other.read("t") != before


def test_nothing_is_fresh_in_a_store_that_is_closed_or_was_opened_anew(tmp_path):
    stamps = opened(tmp_path / "stamps")
    stamp = written(stamps, "t")
    stamps.close()
    assert stamps.read("t") != stamps.read("t")
    stamps.open()
    assert stamps.read("t") == stamps.read("t") != stamp


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(("", "a", "b", "c"))), max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_stamp_changes_exactly_when_something_was_written(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("stamps") / "stamps"
    stores = (opened(path), opened(path))
    seen = {uid: [one.read(uid) for one in stores] for uid in ("", "a", "b", "c")}
    ever = {uid: set(stamps) for uid, stamps in seen.items()}
    for which, uid in writes:
        written(stores[which], uid)
        for name in seen:
            now = [one.read(name) for one in stores]
            assert (now == seen[name]) == (name != uid)
            if name == uid:
                assert not ever[name] & set(now)
                ever[name] |= set(now)
            seen[name] = now


def test_heads_are_believed_when_only_others_trajectories_were_written(tmp_path):
    """Two processes take turns on trajectories of their own: neither reads the file to know where calls go."""

    async def scenario():
        one, other = (SqliteStore(tmp_path / "store.db") for _ in range(2))
        await one.open()
        await other.open()
        for store, uid in ((one, "a"), (other, "b")):
            await store.create(NewTrajectory(uid=uid, kind="session"))
            await store.append(uid, [draft(uid)], {})
        head = one._writer._knowledge.heads["a"]
        for seq in range(1, 5):
            await other.append("b", [draft("b")], {})
            assert (await one.append("a", [draft("a")], {})).calls[0].seq == seq
            assert one._writer._knowledge.heads["a"] is head
        await other.append("a", [draft("a")], {})
        assert (await one.append("a", [draft("a")], {})).calls[0].seq == 6
        assert one._writer._knowledge.heads["a"] is not head
        await one.close()
        await other.close()

    asyncio.run(scenario())


def test_no_room_for_it_is_an_error_and_no_hole(tmp_path):
    stamps = opened(tmp_path / "stamps")
    found = (tmp_path / "stamps").stat()
    assert found.st_blocks * 512 >= found.st_size > 0
    stamps.close()
