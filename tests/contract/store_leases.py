"""What every store promises of groups, leases, statistics, pages and events."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from moorage.errors import NotFoundError, UsageError
from tests.contract.store_parts import (
    Clock,
    Ids,
    StoreTests,
    ask,
    draft,
    finished,
    lease_all,
    make,
    names,
    on_store,
    refused,
    step,
)


class LeaseContract(StoreTests):
    @on_store
    async def test_oldest_ready_group_first_and_none_holds_up_another(self, store, clock):
        await store.submit([step("a1", prompt_uid="a"), step("b1", prompt_uid="b"), step("c1", prompt_uid="c")], None)
        for uid in ("c1", "b1"):
            await store.complete(uid, reward=None, channel=None)
        leases, _ = await store.lease(ask())
        assert names(leases) == [("b", ["b1"])]
        await store.complete("a1", reward=None, channel=None)
        assert names(await lease_all(store)) == [("a", ["a1"]), ("c", ["c1"])]
        assert await lease_all(store) == []

    @on_store
    async def test_a_lease_takes_all_and_later_ones_make_the_next_round(self, store, clock):
        for uid in ("t3", "t1", "t2"):
            await finished(store, uid, "g")
        assert await lease_all(store, n_rollouts=4) == []
        (first,) = await lease_all(store, n_rollouts=2)
        assert names([first]) == [("g", ["t1", "t2", "t3"])]
        await finished(store, "t4", "g")
        assert await lease_all(store, n_rollouts=2) == []
        await finished(store, "t5", "g")
        assert await store.ack([first.lease_id]) == 1
        (second,) = await lease_all(store, n_rollouts=2)
        assert names([second]) == [("g", ["t4", "t5"])]
        assert (second.attempt, second.expires_at) == (1, clock.now + 300)

    @on_store
    async def test_a_steps_reward_can_be_set_until_it_is_leased(self, store, clock):
        steps = [step("t", 0, prompt_uid="g", reward=0.5), step("t", 1, prompt_uid="g", reward=0.75)]
        await store.submit(steps, None)
        await store.reward_step("t", 0, 2.0)
        await store.complete("t", reward=None, channel=None)
        await store.reward_step("t", 0, 3.0)
        assert (await store.submit(steps, None)).duplicates == 2  # compared with what was submitted
        (lease,) = await lease_all(store)
        assert [one.reward for one in lease.trajectories[0]["steps"]] == [3.0, 0.75]
        assert await refused(store.reward_step("t", 0, 4.0)) == "reward_frozen"
        assert await refused(store.reward_step("t", 7, 4.0)) == "unknown_step"

    @on_store
    async def test_channels_are_apart(self, store, clock):
        await store.submit([step("t", prompt_uid="g", is_last=True)], "a")
        await store.submit([step("u", prompt_uid="g", is_last=True)], "b")
        assert await lease_all(store) == []
        assert names(await lease_all(store, channel="a")) == [("g", ["t"])]
        assert names(await lease_all(store, channel="b")) == [("g", ["u"])]

    @on_store
    async def test_late_and_undelivered_steps_are_never_leased(self, store, clock):
        await make(store, "t", prompt_uid="g")
        await store.append("t", [draft("t", delivered=False), draft("t", choice=1)], {})
        await store.complete("t", reward=1.0, channel=None)
        await store.append("t", [draft("t")], {})
        (lease,) = await lease_all(store)
        assert [(one.step_index, one.is_last) for one in lease.trajectories[0]["steps"]] == [(1, True)]
        shown = (await store.steps({}, 10, None)).rows
        assert [(one.delivered, one.late) for one in shown] == [(False, False), (True, False), (True, True)]

    @on_store
    async def test_stale_groups_are_passed_over_and_stay(self, store, clock):
        await finished(store, "old", "a", policy_version=1)
        await finished(store, "old2", "b", policy_version=1)
        await finished(store, "new2", "b", policy_version=5)
        await finished(store, "new", "c", policy_version=5)
        leases, skipped = await store.lease(ask(min_policy_version=5, max_groups=10))
        assert (names(leases), skipped) == ([("c", ["new"])], 2)
        leases, skipped = await store.lease(ask(min_policy_version=1, max_groups=10))
        assert (names(leases), skipped) == ([("a", ["old"]), ("b", ["new2", "old2"])], 0)
        clock.now += 301
        leases, skipped = await store.lease(ask(min_policy_version=2, max_groups=10))
        assert (names(leases), skipped) == ([("c", ["new"])], 2)

    @on_store
    async def test_acks_are_all_or_nothing_and_repeatable(self, store, clock):
        await finished(store, "t", "a")
        await finished(store, "u", "b")
        first, second = [one.lease_id for one in await lease_all(store)]
        assert await refused(store.ack([first, "no"])) == "unknown_lease"
        assert (await store.stats(None, 1))["train"]["groups"]["leased"] == 2
        assert await store.ack([first, second]) == 2
        assert await store.ack([second, first, first]) == 3
        assert await refused(store.nack([first], delay_s=0, drop=False, reason=None)) == "lease_lost"
        clock.now += 10_000
        assert await lease_all(store) == []

    @on_store
    async def test_a_late_ack_counts_until_the_group_is_delivered_again(self, store, clock):
        await finished(store, "t", "a")
        await finished(store, "u", "b")
        first, second = await lease_all(store, lease_s=10)
        clock.now += 10
        assert await store.ack([first.lease_id]) == 1
        (again,) = await lease_all(store)
        assert (again.prompt_uid, again.attempt) == ("b", 2)
        assert again.lease_id != second.lease_id
        assert await refused(store.ack([second.lease_id])) == "lease_lost"
        assert await refused(store.nack([second.lease_id], delay_s=0, drop=True, reason=None)) == "lease_lost"
        assert await store.ack([again.lease_id]) == 1

    @on_store
    async def test_what_was_given_back_is_ready_again_in_its_place(self, store, clock):
        await finished(store, "t", "a")
        await finished(store, "u", "b")
        (lease,) = (await store.lease(ask()))[0]
        assert await store.nack([lease.lease_id], delay_s=0, drop=False, reason="busy") == 1
        assert await refused(store.ack([lease.lease_id])) == "lease_lost"
        assert names((await store.lease(ask()))[0]) == [("a", ["t"])]
        (other,) = (await store.lease(ask()))[0]
        assert await store.nack([other.lease_id], delay_s=20, drop=False, reason=None) == 1
        assert (await store.stats(None, 1))["train"]["groups"] == {
            "open": 1, "ready": 0, "leased": 1, "acked": 0, "dropped": 0,
        }  # fmt: skip
        assert await lease_all(store) == []
        clock.now += 20
        assert names(await lease_all(store)) == [("b", ["u"])]

    @on_store
    async def test_dropped_groups_never_come_back(self, store, clock):
        await finished(store, "t", "a")
        (lease,) = await lease_all(store)
        await store.nack([lease.lease_id], delay_s=0, drop=True, reason=None)
        assert await lease_all(store) == []
        assert (await store.stats(None, 1))["train"]["groups"]["dropped"] == 1
        with pytest.raises(NotFoundError):
            await store.nack(["no"], delay_s=0, drop=False, reason=None)

    @on_store
    async def test_too_many_deliveries_end_in_a_drop(self, store, clock):
        await finished(store, "t", "a")
        for attempt in range(1, 6):
            (lease,) = await lease_all(store, lease_s=10)
            assert lease.attempt == attempt
            clock.now += 10
        assert await lease_all(store) == []
        stats = await store.stats(None, 1)
        assert stats["train"]["groups"] == {"open": 0, "ready": 0, "leased": 0, "acked": 0, "dropped": 1}

    @on_store
    async def test_consumers_at_once_share_the_groups(self, store, clock):
        for n in range(60):
            await finished(store, f"t{n}", f"g{n}")
        shares = await asyncio.gather(*(store.lease(ask(max_groups=7)) for _ in range(12)))
        taken = [lease.prompt_uid for leases, _ in shares for lease in leases]
        assert sorted(taken) == sorted(f"g{n}" for n in range(60))

    @on_store
    async def test_a_deleted_trajectory_is_not_leased(self, store, clock):
        await finished(store, "t", "g")
        await finished(store, "u", "g")
        await store.delete("t")
        assert await lease_all(store, n_rollouts=2) == []
        assert names(await lease_all(store)) == [("g", ["u"])]

    @on_store
    async def test_whoever_waits_hears_of_a_ready_group(self, store, clock):
        async def wait_for_one():
            while not (leases := await lease_all(store)):
                await store.wait_for_change(30)
            return leases

        waiting = [asyncio.create_task(wait_for_one()) for _ in range(2)]
        await store.submit([step("t", prompt_uid="g"), step("u", prompt_uid="h")], None)
        await store.complete("t", reward=None, channel=None)
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await store.nack([done.pop().result()[0].lease_id], delay_s=0, drop=True, reason=None)
        await store.complete("u", reward=None, channel=None)
        await asyncio.wait(waiting)

    @on_store
    async def test_waiting_ends_with_its_time(self, store, clock):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await store.wait_for_change(0.05)
        assert 0.04 <= loop.time() - begun < 20


class ViewContract(StoreTests):
    @on_store
    async def test_counts(self, store, clock):
        empty = {"open": 0, "ready": 0, "leased": 0, "acked": 0, "dropped": 0}
        nothing = {"steps": 0, "late_steps": 0, "trajectories": {"open": 0, "complete": 0}, "groups": empty}
        assert await store.stats(None, 1) == {"train": nothing}
        assert await store.stats("val", 1) == {"val": nothing}
        await make(store, "t", prompt_uid="g")
        await store.append("t", [draft("t"), draft("t", choice=1, delivered=False)], {})
        await store.submit([step("u", prompt_uid="g")], "val")
        assert (await store.stats(None, 1)) == {
            "train": {
                **nothing,
                "steps": 1,
                "trajectories": {"open": 1, "complete": 0},
                "groups": {**empty, "open": 1},
            },
            "val": {**nothing, "steps": 1, "trajectories": {"open": 1, "complete": 0}, "groups": {**empty, "open": 1}},
        }
        await store.complete("t", reward=None, channel=None)
        await store.append("t", [draft("t")], {})
        expected = {
            **nothing,
            "steps": 1,
            "late_steps": 1,
            "trajectories": {"open": 0, "complete": 1},
            "groups": {**empty, "ready": 1},
        }
        assert await store.stats("train", 1) == {"train": expected}
        assert (await store.stats("train", 2))["train"]["groups"] == {**empty, "open": 1}
        await lease_all(store)
        await finished(store, "v", "g")
        assert (await store.stats("train", 1))["train"]["groups"] == {**empty, "ready": 1, "leased": 1}

    @on_store
    async def test_steps_are_paged_in_commit_order(self, store, clock):
        for index in range(3):
            for uid in ("t", "u"):
                await store.submit([step(uid, index, prompt_uid=f"g-{uid}", policy_version=index)], None)
        seen, cursor = [], None
        while True:
            page = await store.steps({}, 4, cursor)
            seen += [(one.trajectory_uid, one.step_index) for one in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [(uid, index) for index in range(3) for uid in ("t", "u")]
        for filters, many in (
            ({"trajectory_uid": "t"}, 3),
            ({"prompt_uid": "g-u"}, 3),
            ({"policy_version": 1}, 2),
            ({"policy_version": 1, "trajectory_uid": "u"}, 1),
            ({"channel": "val"}, 0),
            ({"channel": "train", "trajectory_uid": None}, 6),
        ):
            assert len((await store.steps(filters, 200, None)).rows) == many
        page = await store.steps({"trajectory_uid": "t"}, 2, None)
        assert [one.step_index for one in (await store.steps({"trajectory_uid": "t"}, 2, page.next_cursor)).rows] == [2]
        assert (await store.steps({}, 6, None)).next_cursor is None

    @on_store
    async def test_marks_are_shown_and_change_no_lease(self, store, clock):
        await finished(store, "t", "g")
        assert await store.mark("t", 0, {"trainable": False, "tags": ["odd"]}) == {"trainable": False, "tags": ["odd"]}
        assert await store.mark("t", 0, {"note": "why", "tags": None}) == {"trainable": False, "note": "why"}
        (shown,) = (await store.steps({}, 10, None)).rows
        assert shown.marks == {"trainable": False, "note": "why"}
        (lease,) = await lease_all(store)
        assert lease.trajectories[0]["steps"][0].marks is msgspec.UNSET
        assert await store.mark("t", 0, {"trainable": None, "note": None}) == {}
        assert (await store.steps({}, 10, None)).rows[0].marks is msgspec.UNSET
        assert await refused(store.mark("t", 1, {"a": 1})) == "unknown_step"
        assert await refused(store.mark("no", 0, {"a": 1})) == "unknown_trajectory"

    @on_store
    async def test_trajectories_are_paged(self, store, clock):
        await make(store, "t", "u", prompt_uid="g", metadata={"a": 1})
        await store.append("t", [draft("t"), draft("t", choice=1, delivered=False)], {})
        await store.complete("t", reward=1.5, channel=None)
        await store.append("t", [draft("t")], {})
        first = await store.trajectories({}, 1, None)
        (row,) = first.rows
        assert (row.trajectory_uid, row.prompt_uid, row.channel, row.state) == ("t", "g", "train", "complete")
        assert (row.steps, row.late_steps, row.reward, row.metadata) == (1, 1, 1.5, {"a": 1})
        assert (row.created_at, row.completed_at) == (clock.now, clock.now)
        (row,) = (await store.trajectories({}, 1, first.next_cursor)).rows
        assert (row.trajectory_uid, row.state, row.steps, row.completed_at) == ("u", "open", 0, None)
        for filters, many in (({"state": "open"}, 1), ({"prompt_uid": "g"}, 2), ({"channel": "x"}, 0)):
            assert len((await store.trajectories(filters, 10, None)).rows) == many

    @on_store
    async def test_cursors_of_somebody_else_are_refused(self, store, clock):
        for cursor in ("", "a", "7", "zz", "a-1", "aé", "a" + "f" * 40, "a 1"):
            for page in (store.steps, store.trajectories):
                with pytest.raises(UsageError):
                    await page({}, 10, cursor)

    @on_store
    async def test_events_tell_all_in_order_and_go_on_live(self, store, clock):
        heard = []

        async def listen(channel, after, until):
            async for event in store.events(channel, after):
                heard.append(event)
                if event.type == until:
                    return

        await store.submit([step("t", prompt_uid="g"), step("x", prompt_uid="g")], None)
        live = asyncio.create_task(listen("train", 0, "drop"))
        await store.submit([step("u", prompt_uid="h", is_last=True)], "val")
        await store.complete("t", reward=None, channel=None)
        (lease,) = await lease_all(store, consumer="me", lease_s=5)
        clock.now += 5
        (lease,) = await lease_all(store, consumer="you")
        await store.nack([lease.lease_id], delay_s=0, drop=False, reason=None)
        (lease,) = await lease_all(store)
        await store.ack([lease.lease_id])
        await store.complete("x", reward=None, channel=None)
        (lease,) = await lease_all(store)
        await store.nack([lease.lease_id], delay_s=0, drop=True, reason=None)
        await live
        assert [one.type for one in heard] == [
            "step", "step", "complete", "lease", "expire", "lease", "nack", "lease", "ack", "complete", "lease", "nack",
            "drop",
        ]  # fmt: skip
        ids = [one.id for one in heard]
        assert ids == sorted(set(ids))
        assert (heard[0].trajectory_uid, heard[0].prompt_uid, heard[0].step_index) == ("t", "g", 0)
        assert [one.consumer for one in heard if one.type in ("lease", "expire")] == ["me", "me", "you", None, None]
        again, heard = heard, []
        await listen(None, again[3].id, "drop")
        assert heard == again[4:]

    @on_store
    async def test_without_a_place_only_new_events_come(self, store, clock):
        await store.submit([step("t")], None)
        stream = store.events(None, None)
        first = asyncio.create_task(anext(stream))
        while not first.done():
            await finished(store, f"u{clock.now}", "g")
            clock.now += 1
            await asyncio.wait([first], timeout=0.05)
        assert first.result().trajectory_uid != "t"
        await stream.aclose()

    def test_everything_survives_a_restart(self, tmp_path):
        async def scenario():
            clock, ids = Clock(), Ids()
            store = self.new_store(tmp_path, clock, ids)
            await store.open()
            await finished(store, "t", "a")
            await make(store, "u")
            await store.append("u", [draft("u")], {})
            (lease,) = await lease_all(store, lease_s=10)
            before = [await store.calls("u"), await store.sessions(), await store.stats(None, 1)]
            await store.close()
            store = self.new_store(tmp_path, clock, ids)
            await store.open()
            assert before == [await store.calls("u"), await store.sessions(), await store.stats(None, 1)]
            clock.now += 11
            assert (await store.stats(None, 1))["train"]["groups"]["ready"] == 1
            assert await store.ack([lease.lease_id]) == 1
            assert (await store.append("u", [draft("u")], {})).calls[0].seq == 1
            await store.close()

        asyncio.run(scenario())

    def test_a_lease_that_runs_out_is_seen_when_nobody_asks(self, tmp_path):
        async def scenario():
            import time

            store = self.new_store(tmp_path, time.time, Ids(), max_attempts=1)
            await store.open()
            await finished(store, "t", "a")
            await lease_all(store, lease_s=0.05)
            seen = []
            async for event in store.events(None, 0):
                seen.append(event.type)
                if event.type == "drop":
                    break
            assert seen[-3:] == ["lease", "expire", "drop"]
            await store.close()

        asyncio.run(asyncio.wait_for(scenario(), 60))
