"""What every store promises of letting old trajectories go, of its counts, and of marks that a lease asks for."""

from __future__ import annotations

import asyncio

from moorage.capture.chain import verify_chain
from moorage.errors import UsageError
from moorage.pool.contract import Change, NewTrajectory, Retention
from moorage.pool.retention import YOUNGEST_S
from tests.contract.store_parts import StoreTests, blob, draft, finished, lease_all, make, on_store, refused, step

DAY_S = 86400.0


def limit(**fields):
    return Retention(**{"older_than_s": None, "max_bytes": None, **fields})


def days(number, **fields):
    return limit(older_than_s=number * DAY_S, **fields)


async def acked(store, *uids, **fields):
    """Trajectories of a step, each in a group of its own that was acked."""
    for uid in uids:
        await finished(store, uid, f"p-{uid}", **fields)
    leases = await lease_all(store)
    await store.ack([one.lease_id for one in leases])


async def newest(store):
    """The trajectory that was made and called last never goes: this one takes the place."""
    await store.submit([step("newest")], None)


class RetentionContract(StoreTests):
    @on_store
    async def test_what_is_old_and_done_goes_whole(self, store, clock):
        names = {}
        for uid in ("a", "b"):
            await make(store, uid, prompt_uid=f"p-{uid}")
            digest, blobs = blob(b'{"of": "%s"}' % uid.encode())
            extras, more = blob(b'{"reply": "hello"}' * 50)
            ids = b"".join(n.to_bytes(4, "little") for n in range(30_000))
            given = draft(uid, metadata_digest=digest, extras_digest=extras, delta=ids)
            await store.append(uid, [given, draft(uid, choice=1)], {**blobs, **more})
            await store.complete(uid, reward=1.0, channel=None)
            names[uid] = digest
        await store.mark("a", 0, {"good": True})
        await store.ack([one.lease_id for one in await lease_all(store)])
        clock.now += 10 * DAY_S
        await finished(store, "young", "p")
        planned = await store.retain(days(5), dry_run=True)
        gone = await store.retain(days(5), dry_run=False)
        assert (gone.trajectories, gone.calls, gone.channels) == (2, 4, {"train": 2})
        assert (planned.trajectories, planned.calls, planned.bytes, planned.channels) == (
            *(gone.trajectories, gone.calls, gone.bytes, gone.channels),
        )
        assert gone.bytes > 2000 and gone.blobs == 2
        assert gone.content_bytes == planned.content_bytes - gone.bytes
        for uid in ("a", "b"):
            assert await store.find(uid) is None
            assert await refused(store.calls(uid)) == "unknown_trajectory"
        rows = (await store.steps({}, 10, None)).rows
        assert [one.trajectory_uid for one in rows] == ["young"]
        assert await refused(store.mark("a", 0, {"good": None})) == "unknown_trajectory"
        assert (await store.retain(days(5), dry_run=False)).trajectories == 0

    @on_store
    async def test_what_never_goes(self, store, clock):
        await make(store, "open", prompt_uid="o")
        await store.append("open", [draft("open")], {})
        await store.create(NewTrajectory(uid="session", kind="session"))
        await finished(store, "ready", "r")
        await finished(store, "leased", "l", policy_version=7)
        await finished(store, "waiting", "w")
        leases = {
            one.prompt_uid: one.lease_id for one in await lease_all(store, min_policy_version=7, lease_s=9 * DAY_S)
        }
        assert set(leases) == {"l"}
        (lease,) = await lease_all(store, max_groups=1)
        await store.nack([lease.lease_id], delay_s=8 * DAY_S, drop=False, reason=None)
        clock.now += 7 * DAY_S
        await newest(store)
        everything = limit(older_than_s=YOUNGEST_S, max_bytes=0)
        assert (await store.retain(everything, dry_run=True)).trajectories == 0
        assert (await store.retain(everything, dry_run=False)).trajectories == 0
        assert await store.ack([leases["l"]]) == 1
        # Its lease could last two more days: who holds it may ack again.
        assert (await store.retain(everything, dry_run=False)).trajectories == 0
        assert await store.ack([leases["l"]]) == 1
        clock.now += 2 * DAY_S + YOUNGEST_S
        assert (await store.retain(everything, dry_run=False)).trajectories == 1
        assert await store.find("leased") is None
        assert await refused(store.ack([leases["l"]])) == "unknown_lease"

    @on_store
    async def test_the_newest_stays_so_that_no_number_is_given_twice(self, store, clock):
        await acked(store, "a", "b", "c")
        seen = [event.id async for event in _past(store)]
        clock.now += 5 * DAY_S
        assert (await store.retain(days(1), dry_run=False)).trajectories == 2
        await store.submit([step("d")], None)
        new = [event async for event in _past(store, after=seen[-1])]
        assert [event.trajectory_uid for event in new] == ["d"]
        assert verify_chain(await store.records("c")) is None and verify_chain(await store.records("d")) is None

    @on_store
    async def test_trajectories_of_one_round_go_together(self, store, clock):
        await finished(store, "a", "g")
        clock.now += 3 * DAY_S
        await finished(store, "b", "g")
        (lease,) = await lease_all(store)
        await store.ack([lease.lease_id])
        await newest(store)
        clock.now += 2 * DAY_S
        assert (await store.retain(days(3), dry_run=False)).trajectories == 0
        assert (await store.retain(limit(max_bytes=0), dry_run=False)).trajectories == 2

    @on_store
    async def test_a_size_sends_the_oldest_away_and_no_more_than_needed(self, store, clock):
        for uid in ("a", "b", "c"):
            await acked(store, uid)
            clock.now += DAY_S
        await newest(store)
        clock.now += DAY_S
        whole = (await store.retain(limit(max_bytes=1 << 40), dry_run=True)).content_bytes
        assert (await store.retain(limit(max_bytes=whole), dry_run=False)).trajectories == 0
        gone = await store.retain(limit(max_bytes=whole - 1), dry_run=False)
        assert (gone.trajectories, gone.oldest_at, gone.newest_at) == (1, gone.oldest_at, gone.oldest_at)
        assert gone.content_bytes == whole - gone.bytes
        assert await store.find("a") is None and await store.find("b") is not None

    @on_store
    async def test_deleted_sessions_and_groups_that_nobody_finishes_go(self, store, clock):
        await store.create(NewTrajectory(uid="s", kind="session"))
        await store.append("s", [draft("s")], {})
        await store.delete("s")
        await finished(store, "alone", "g")
        await finished(store, "kept", "h")
        await make(store, "running", prompt_uid="h")
        await newest(store)
        clock.now += 2 * DAY_S
        assert (
            await store.retain(days(1, n_rollouts=2, keep=frozenset(("deleted", "unfinished"))), dry_run=False)
        ).trajectories == 0
        gone = await store.retain(days(1, n_rollouts=2), dry_run=False)
        assert gone.trajectories == 2
        assert [await store.find(uid) is None for uid in ("s", "alone", "kept", "running")] == [
            True,
            True,
            False,
            False,
        ]
        assert (await store.stats(None, 2))["train"]["groups"]["open"] == 2

    @on_store
    async def test_what_is_marked_is_kept_when_asked(self, store, clock):
        await acked(store, "a", "b")
        await store.mark("a", 0, {"gold": True})
        await newest(store)
        clock.now += 2 * DAY_S
        assert (await store.retain(days(1, keep=frozenset(("marked",))), dry_run=False)).trajectories == 1
        assert await store.find("a") is not None

    @on_store
    async def test_what_the_limits_may_not_be(self, store, clock):
        for wrong in (
            limit(),
            limit(older_than_s=60.0),
            limit(older_than_s=float("nan")),
            limit(max_bytes=-1),
            days(1, keep=frozenset(("x",))),
        ):
            try:
                await store.retain(wrong, dry_run=True)
            except UsageError as fault:
                assert fault.code == "bad_retention"
                continue
            raise AssertionError(f"{wrong} was taken")

    @on_store
    async def test_a_uid_that_has_gone_can_be_used_again(self, store, clock):
        await acked(store, "a")
        await newest(store)
        clock.now += 2 * DAY_S
        await store.retain(days(1), dry_run=False)
        await store.submit([step("a", 0, prompt_ids=b"\7\0\0\0")], None)
        (row,) = (await store.steps({"trajectory_uid": "a"}, 10, None)).rows
        assert row.prompt_ids == [7]
        assert await refused(store.change("a", Change(prompt_uid="p-a"))) in ("nothing", "prompt_uid_conflict")

    @on_store
    async def test_contents_that_others_name_stay(self, store, clock):
        digest, blobs = blob(b'{"shared": 1}')
        for uid in ("a", "b"):
            await make(store, uid, prompt_uid=uid)
            await store.append(uid, [draft(uid, metadata_digest=digest)], blobs)
        await store.complete("a", reward=None, channel=None)
        await store.ack([one.lease_id for one in await lease_all(store)])
        clock.now += 2 * DAY_S
        gone = await store.retain(days(1), dry_run=False)
        assert (gone.trajectories, gone.blobs) == (1, 0)
        (row,) = (await store.steps({}, 10, None)).rows
        assert row.metadata == {"shared": 1}
        await store.complete("b", reward=None, channel=None)
        await store.ack([one.lease_id for one in await lease_all(store)])
        await newest(store)
        clock.now += 2 * DAY_S
        assert (await store.retain(days(1), dry_run=False)).blobs == 1
        # A new call that names it brings it along.
        await make(store, "c", prompt_uid="c")
        await store.append("c", [draft("c", metadata_digest=digest)], blobs)
        (row,) = (await store.steps({"trajectory_uid": "c"}, 10, None)).rows
        assert row.metadata == {"shared": 1}

    @on_store
    async def test_work_goes_on_meanwhile(self, store, clock):
        await acked(store, *(f"old{n}" for n in range(60)))
        clock.now += 2 * DAY_S
        going = asyncio.create_task(store.retain(days(1), dry_run=False))
        number = 0
        while not going.done() or number < 40:
            uid = f"new{number}"
            await finished(store, uid, uid)
            (lease,) = await lease_all(store, max_groups=1)
            assert [one["trajectory_uid"] for one in lease.trajectories] == [uid]
            assert await store.ack([lease.lease_id]) == 1
            number += 1
        assert (await going).trajectories >= 59
        assert (await store.stats(None, 1))["train"]["groups"]["acked"] == number + (
            await store.find("old59") is not None
        )


class MarkContract(StoreTests):
    @on_store
    async def test_a_lease_hands_out_what_is_marked_so(self, store, clock):
        await store.submit([step("t", n, prompt_uid="g", is_last=n == 3, reward=float(n)) for n in range(4)], None)
        await store.submit([step("u", prompt_uid="g", is_last=True)], None)
        await store.mark("t", 1, {"trainable": False, "quality": 1})
        await store.mark("t", 3, {"trainable": False})
        await store.mark("t", 2, {"trainable": True, "quality": 1.0})
        await store.mark("u", 0, {"trainable": False})
        cases = (
            ({}, [[0, 1, 2, 3], [0]]),
            ({"trainable": True}, [[0, 2], []]),
            ({"trainable": False}, [[1, 3], [0]]),
            ({"quality": 1}, [[1, 2], []]),
            ({"quality": None}, [[0, 3], [0]]),
            ({"quality": True}, [[], []]),
            ({"trainable": True, "quality": 1}, [[2], []]),
        )
        for marks, expected in cases:
            (lease,) = await lease_all(store, marks=marks)
            assert [[one.step_index for one in run["steps"]] for run in lease.trajectories] == expected
            assert lease.trajectories[0]["reward"] == 3.0
            await store.nack([lease.lease_id], delay_s=0, drop=False, reason=None) if lease.attempt < 5 else None
            if lease.attempt == 4:
                break
        assert len((await store.steps({}, 10, None)).rows) == 5

    @on_store
    async def test_marks_are_bounded(self, store, clock):
        await store.submit([step("t")], None)
        for wrong in ({"a b": 1}, {"": 1}, {"x": "y" * 20_000}, {f"m{n}": n for n in range(33)}):
            assert await refused(store.mark("t", 0, wrong)) == "bad_marks"
        await store.mark("t", 0, {f"m{n}": n for n in range(32)})
        assert await refused(store.mark("t", 0, {"one-more": 1})) == "bad_marks"
        assert await store.mark("t", 0, {"m0": None, "one-more": 1}) == {f"m{n}": n for n in range(1, 32)} | {
            "one-more": 1
        }


def _past(store, after=0):
    """The events that there are."""

    async def read():
        last = await store.latest_event()
        if last <= after:
            return
        async for event in store.events(None, after):
            yield event
            if event.id >= last:
                return

    return read()
