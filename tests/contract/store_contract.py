"""What every store promises of sessions, calls and submitted steps. Leases are in `store_leases`."""

from __future__ import annotations

import asyncio

import pytest

from moorage.capture.chain import verify_chain
from moorage.capture.packing import pack_ids
from moorage.errors import ConflictError, NotFoundError, UsageError
from moorage.pool.contract import Change, NewTrajectory
from tests.contract.store_parts import StoreTests, blob, draft, lease_all, make, on_store, refused, step


class SessionContract(StoreTests):
    @on_store
    async def test_what_was_made_is_found(self, store, clock):
        made = await store.create(
            NewTrajectory(uid="t", kind="session", metadata={"a": 1}, options={"mode": "exact"}, created_at=5.0)
        )
        assert made == await store.find("t")
        assert (made.state, made.calls, made.metadata, made.options, made.created_at) == (
            "open",
            0,
            {"a": 1},
            {"mode": "exact"},
            5.0,
        )
        assert await store.find("other") is None
        assert await refused(make(store, "t")) == "uid_taken"

    @on_store
    async def test_unknown_uids_are_named(self, store, clock):
        for work in (
            store.change("no", Change()),
            store.append("no", [draft("no")], {}),
            store.complete("no", reward=None, channel=None),
            store.delete("no"),
            store.calls("no"),
            store.extras("no", [0]),
        ):
            with pytest.raises(NotFoundError, match="'no'"):
                await work

    @on_store
    async def test_the_last_register_wins_until_the_first_step_fixes_the_channel(self, store, clock):
        await make(store, "t")
        await store.change("t", Change(channel="a", metadata={"x": 1}))
        assert (await store.change("t", Change(channel="b"))).metadata == {"x": 1}
        await store.append("t", [draft("t")], {})
        found = await store.find("t")
        assert (found.channel, found.channel_fixed) == ("b", True)
        assert await refused(store.change("t", Change(channel="a"))) == "channel_conflict"
        assert await refused(store.complete("t", reward=None, channel="a")) == "channel_conflict"
        assert await refused(store.submit([step("t", 1)], "a")) == "channel_conflict"
        await store.change("t", Change(channel="b"))

    @on_store
    async def test_a_prompt_uid_is_fixed_once(self, store, clock):
        await make(store, "given", prompt_uid="g")
        await make(store, "registered", "stepped", offered_prompt_uid="offered")
        await store.change("registered", Change(prompt_uid="r"))
        await store.submit([step("stepped", prompt_uid="s")], None)
        for uid, prompt_uid in (("given", "g"), ("registered", "r"), ("stepped", "s")):
            assert (await store.find(uid)).prompt_uid == prompt_uid
            assert await refused(store.change(uid, Change(prompt_uid="other"))) == "prompt_uid_conflict"
            assert await refused(store.submit([step(uid, 9, prompt_uid="other")], None)) == "prompt_uid_conflict"

    @on_store
    async def test_the_first_step_takes_the_prompt_uid_that_init_offered_or_makes_one(self, store, clock):
        await make(store, "offered", offered_prompt_uid="o")
        await make(store, "none", "none2")
        for uid in ("offered", "none"):
            await store.append(uid, [draft(uid)], {})
        await store.complete("none2", reward=None, channel=None)
        assert (await store.find("offered")).prompt_uid == "o"
        made = {(await store.find(uid)).prompt_uid for uid in ("none", "none2")}
        assert len(made) == 2 and None not in made

    @on_store
    async def test_deleted_sessions_take_nothing_and_are_not_listed(self, store, clock):
        await make(store, "t", "u")
        await store.append("t", [draft("t")], {})
        await store.delete("t")
        await store.delete("t")
        assert (await store.find("t")).state == "deleted"
        assert [one.uid for one in await store.sessions()] == ["u"]
        assert await store.sessions("session") == []
        for work in (
            store.append("t", [draft("t")], {}),
            store.change("t", Change()),
            store.submit([step("t", 4)], None),
            store.complete("t", reward=None, channel=None),
        ):
            assert await refused(work) == "session_deleted"
        assert len(await store.calls("t")) == 1


class CallContract(StoreTests):
    @on_store
    async def test_calls_are_numbered_chained_and_read_back_as_they_were(self, store, clock):
        await make(store, "t")
        name, blobs = blob(b'{"reply": "hello"}')
        first = await store.append(
            "t", [draft("t", extras_digest=name), draft("t", choice=1, completion=pack_ids([]), logprobs=b"")], blobs
        )
        second = await store.append("t", [draft("t", parent=1, keep=3, delivered=False)], {})
        calls = [*first.calls, *second.calls]
        assert [(call.seq, call.step_index, call.late, call.is_last) for call in calls] == [
            (0, 0, False, False),
            (1, 1, False, False),
            (2, 2, False, False),
        ]
        assert await store.calls("t") == calls
        assert verify_chain(await store.records("t")) is None
        assert await store.extras("t", [0, 1, 2]) == {0: b'{"reply": "hello"}'}
        found = await store.find("t")
        assert (found.calls, found.version) == (3, second.version)
        assert second.version == first.version + 1

    @on_store
    async def test_every_write_changes_the_version(self, store, clock):
        await make(store, "t")
        versions = [(await store.find("t")).version]
        versions.append((await store.append("t", [draft("t")], {})).version)
        versions.append((await store.append("t", [draft("t", parent=0, keep=5)], {})).version)
        versions.append((await store.change("t", Change(metadata={"a": 1}))).version)
        versions.append((await store.complete("t", reward=1.0, channel=None)).version)
        await lease_all(store)
        versions.append((await store.find("t")).version)
        versions.append((await store.append("t", [draft("t", parent=1, keep=5)], {})).version)
        assert versions == sorted(set(versions))
        assert (await store.find("t")).version == versions[-1]

    @on_store
    async def test_many_at_once_are_all_there_without_gaps(self, store, clock):
        await make(store, *(f"t{n}" for n in range(10)))
        await asyncio.gather(
            *(store.append(f"t{n % 10}", [draft(f"t{n % 10}", call_id=f"c{n}")], {}) for n in range(300))
        )
        for n in range(10):
            calls = await store.calls(f"t{n}")
            assert [call.seq for call in calls] == [call.step_index for call in calls] == list(range(30))
            assert {call.record.call_id for call in calls} == {f"c{k}" for k in range(n, 300, 10)}
            assert verify_chain(await store.records(f"t{n}")) is None

    @on_store
    async def test_long_prompts_come_back(self, store, clock):
        await make(store, "t")
        ids = pack_ids((n * 2_654_435_761) % 2**32 for n in range(100_000))
        await store.append("t", [draft("t", delta=ids, metadata_digest=b"m" * 16)], {b"m" * 16: b'{"k": "v"}'})
        await store.append("t", [draft("t", parent=0, keep=100_002, delta=pack_ids([5]))], {})
        await store.append("t", [draft("t", parent=1, keep=50_000, delta=pack_ids([6]))], {})
        assert (await store.calls("t"))[0].record.delta == ids
        steps = (await store.steps({}, 10, None)).rows
        assert pack_ids(steps[0].prompt_ids) == ids
        assert pack_ids(steps[1].prompt_ids) == ids + pack_ids([7, 8, 5])
        assert pack_ids(steps[2].prompt_ids) == ids[:200_000] + pack_ids([6])
        assert [one.metadata for one in steps] == [{"k": "v"}, {}, {}]

    @on_store
    async def test_after_completion_a_call_is_late(self, store, clock):
        await make(store, "t")
        await store.append("t", [draft("t")], {})
        await store.append("t", [draft("t", parent=0, keep=5, delivered=False)], {})
        clock.now += 7
        done = await store.complete("t", reward=2.5, channel=None)
        assert (done.state, done.completed_at) == ("complete", clock.now)
        late = await store.append("t", [draft("t", parent=0, keep=5)], {})
        assert late.calls[0].late and late.calls[0].step_index == 2
        assert [(call.late, call.is_last, call.reward) for call in await store.calls("t")] == [
            (False, True, 2.5),
            (False, False, None),
            (True, False, None),
        ]

    @on_store
    async def test_a_refused_call_leaves_its_neighbours_alone(self, store, clock):
        await make(store, "t")
        results = await asyncio.gather(
            *(store.append("t" if n % 2 else "no", [draft("t")], {}) for n in range(20)),
            store.append("t", [draft("t", policy_version=2**70)], {}),
            return_exceptions=True,
        )
        assert sum(isinstance(one, NotFoundError) for one in results) == 10
        assert isinstance(results[-1], UsageError)
        assert len(await store.calls("t")) == 10


class SubmitContract(StoreTests):
    @on_store
    async def test_a_repeat_is_stored_once_and_other_content_is_refused(self, store, clock):
        batch = [step("t", 0, metadata={"a": 1, "b": 2}), step("t", 1, reward=1.0)]
        assert (await store.submit(batch, None)).duplicates == 0
        again = [step("t", 1, reward=1.0), step("t", 0, metadata={"b": 2, "a": 1}), step("t", 2), step("t", 2)]
        submitted = await store.submit(again, None)
        assert (submitted.accepted, submitted.duplicates) == (4, 3)
        for change in (
            {"reward": 2.0},
            {"metadata": {"a": 2}},
            {"policy_version": 1},
            {"is_last": True},
            {"prompt_ids": pack_ids([9])},
            {"response_ids": pack_ids([9])},
            {"rollout_log_probs": None},
            {"routed_experts": [[1]]},
        ):
            assert await refused(store.submit([step("u", 0), step("t", 2, **change)], None)) == "step_conflict"
        assert await refused(store.submit([step("t", 5), step("t", 5, reward=0.0)], None)) == "step_conflict"
        assert await store.find("u") is None
        assert len(await store.calls("t")) == 3

    @on_store
    async def test_is_last_completes_and_a_repeat_is_judged_by_what_was_submitted(self, store, clock):
        await store.submit([step("t", 1, is_last=True, reward=0.5), step("t", 0)], "val")
        done = await store.complete("t", reward=3.0, channel="val")
        assert (done.state, done.channel) == ("complete", "val")
        assert (await store.submit([step("t", 1, is_last=True, reward=0.5)], None)).duplicates == 1
        assert await refused(store.submit([step("t", 1, is_last=True, reward=3.0)], None)) == "step_conflict"
        assert await refused(store.submit([step("t", 2)], None)) == "trajectory_complete"
        rows = (await store.steps({"trajectory_uid": "t"}, 10, None)).rows
        assert [(one.step_index, one.is_last, one.reward) for one in rows] == [(1, True, 3.0), (0, False, None)]

    @on_store
    async def test_a_step_above_the_last_one_of_its_batch_is_refused(self, store, clock):
        late = [step("t", 0, is_last=True), step("t", 1)]
        assert await refused(store.submit(late, None)) == "trajectory_complete"
        assert await store.find("t") is None

    @on_store
    async def test_submitted_steps_and_model_calls_share_their_numbers(self, store, clock):
        await make(store, "t")
        await store.append("t", [draft("t")], {})
        await store.submit([step("t", 4)], None)
        assert (await store.append("t", [draft("t")], {})).calls[0].step_index == 5
        assert await refused(store.submit([step("t", 0)], None)) == "step_conflict"
        assert await refused(store.submit([step("t", 5)], None)) == "step_conflict"
        await store.submit([step("t", 2)], None)
        assert (await store.append("t", [draft("t")], {})).calls[0].step_index == 6
        assert verify_chain(await store.records("t")) is None

    @on_store
    async def test_steps_come_back_whole(self, store, clock):
        given = step(
            "t",
            3,
            prompt_ids=pack_ids([1, 2**32 - 1]),
            response_ids=b"",
            rollout_log_probs=None,
            reward=-1.0,
            policy_version=4,
            metadata={"é": [1, None]},
            multi_modal_data={"images": ["x"]},
            routed_experts=[[[0, 1]]],
        )
        await store.submit([given], None)
        (one,) = (await store.steps({}, 10, None)).rows
        assert (one.prompt_ids, one.response_ids, one.rollout_log_probs) == ([1, 2**32 - 1], [], None)
        assert (one.reward, one.policy_version, one.metadata) == (-1.0, 4, {"é": [1, None]})
        assert (one.multi_modal_data, one.routed_experts) == ({"images": ["x"]}, [[[0, 1]]])
        assert (one.channel, one.late, one.delivered, one.step_index) == ("train", False, True, 3)

    @on_store
    async def test_prompts_that_part_from_each_other_come_back(self, store, clock):
        prompts = [[1, 2, 3], [1, 2, 3, 50, 4], [1, 2, 9], [8], [1, 2, 9, 53]]
        for index, ids in enumerate(prompts):
            await store.submit([step("t", index, prompt_ids=pack_ids(ids), response_ids=pack_ids([50 + index]))], None)
        rows = (await store.steps({"trajectory_uid": "t"}, 10, None)).rows
        assert [one.prompt_ids for one in rows] == prompts


class CompleteContract(StoreTests):
    @on_store
    async def test_completing_again_updates_the_reward_until_the_lease(self, store, clock):
        await store.submit([step("t", 0, reward=0.1), step("t", 1, reward=0.2)], None)
        for reward, current in ((None, 0.2), (None, 0.2), (1.0, 1.0), (None, 1.0), (2.0, 2.0)):
            await store.complete("t", reward=reward, channel=None)
            assert (await store.trajectories({}, 10, None)).rows[0].reward == current
        (lease,) = await lease_all(store)
        assert [one.reward for one in lease.trajectories[0]["steps"]] == [0.1, 2.0]
        await store.complete("t", reward=2.0, channel=None)
        await store.complete("t", reward=None, channel=None)
        with pytest.raises(ConflictError):
            await store.complete("t", reward=3.0, channel=None)
        await store.nack([lease.lease_id], delay_s=0, drop=False, reason=None)
        assert await refused(store.complete("t", reward=3.0, channel=None)) == "reward_frozen"

    @on_store
    async def test_the_last_step_is_the_highest_that_a_lease_may_hold(self, store, clock):
        await store.submit([step("t", 2), step("t", 7), step("t", 5)], None)
        await store.append("t", [draft("t", delivered=False)], {})
        await store.complete("t", reward=1.0, channel=None)
        rows = (await store.steps({}, 10, None)).rows
        assert [(one.step_index, one.is_last, one.reward) for one in rows] == [
            (2, False, None),
            (7, True, 1.0),
            (5, False, None),
            (8, False, None),
        ]

    @on_store
    async def test_a_trajectory_without_steps_completes(self, store, clock):
        await make(store, "t", prompt_uid="g")
        await store.complete("t", reward=None, channel="val")
        (lease,) = await lease_all(store, channel="val")
        assert (lease.prompt_uid, lease.trajectories[0]["steps"], lease.trajectories[0]["reward"]) == ("g", [], None)


class StoreContract(SessionContract, CallContract, SubmitContract, CompleteContract):
    """All of the above."""
