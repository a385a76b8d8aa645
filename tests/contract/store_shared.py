"""What every store promises of stamps, and of what all gateways over it share."""

from __future__ import annotations

import asyncio

from moorage.pool.contract import Change, Key
from tests.contract.store_parts import StoreTests, draft, finished, lease_all, make, on_store, refused, step


def key(name: str, **fields: object) -> Key:
    values = {
        "role": "trainer",
        "digest": name.encode().ljust(32, b"."),
        "note": "",
        "created_at": 5.0,
        "expires_at": None,
        "revoked_at": None,
    }
    return Key(key_id=name, **{**values, **fields})


class SharedContract(StoreTests):
    @on_store
    async def test_every_write_changes_the_stamp_of_its_trajectory_alone(self, store, clock):
        await make(store, "t", "other")
        other = await store.stamp("other")
        seen = [await store.stamp("t")]
        assert await store.stamp("t") == seen[0]
        appended = await store.append("t", [draft("t")], {})
        seen.append(await store.stamp("t"))
        assert appended.stamp == seen[-1]
        for write in (
            store.change("t", Change(metadata={"a": 1})),
            store.submit([step("t", 4)], None),
            store.complete("t", reward=1.0, channel=None),
            lease_all(store),
            store.delete("t"),
        ):
            await write
            seen.append(await store.stamp("t"))
            assert await store.stamp("t") == seen[-1]
        assert len(set(seen)) == len(seen)
        assert await store.stamp("other") == other

    @on_store
    async def test_a_uid_has_a_stamp_before_it_is_known(self, store, clock):
        before = await store.stamp("t")
        await make(store, "t")
        assert await store.stamp("t") != before

    @on_store
    async def test_a_fresh_copy_is_a_whole_one(self, store, clock):
        """Whoever notes the stamp and then reads has all that was written until then."""
        await make(store, "t")
        going = True

        async def read() -> int:
            looks = 0
            while going or looks < 20:
                stamp = await store.stamp("t")
                calls = len(await store.calls("t"))
                if await store.stamp("t") == stamp:
                    assert len(await store.calls("t")) >= calls
                looks += 1
            return looks

        reading = asyncio.create_task(read())
        for count in range(100):
            appended = await store.append("t", [draft("t")], {})
            assert await store.stamp("t") == appended.stamp
            assert len(await store.calls("t")) == count + 1
        going = False
        assert await reading

    @on_store
    async def test_state_is_set_by_name(self, store, clock):
        assert await store.state() == {}
        before = await store.stamp("")
        assert await store.set_state({"paused": {"since": 1.5}, "weights": 3}) == {
            "paused": {"since": 1.5},
            "weights": 3,
        }
        assert await store.stamp("") != before
        assert await store.set_state({"paused": None, "never": None, "é": [None]}) == {"weights": 3, "é": [None]}
        assert await store.state() == {"weights": 3, "é": [None]}
        await store.set_state({"weights": None, "é": None})
        assert await store.state() == {}

    @on_store
    async def test_keys_are_kept_and_revoked_once(self, store, clock):
        first = key("b", role="admin", note="é", expires_at=9.5)
        before = await store.stamp("")
        await store.add_key(first)
        await store.add_key(key("a"))
        assert await store.stamp("") != before
        assert await store.keys() == [first, key("a")]
        assert await refused(store.add_key(key("b", digest=b"x"))) == "key_taken"
        assert await refused(store.add_key(key("c", digest=first.digest))) == "key_taken"
        before = await store.stamp("")
        assert await store.revoke_key("a", 7.0) == key("a", revoked_at=7.0)
        assert await store.stamp("") != before
        assert await store.revoke_key("a", 8.0) == key("a", revoked_at=7.0)
        assert await refused(store.revoke_key("no", 7.0)) == "unknown_key"
        assert await store.keys() == [first, key("a", revoked_at=7.0)]

    @on_store
    async def test_a_lease_holds_only_steps_that_are_marked_as_asked(self, store, clock):
        await store.submit([step("t", 0, prompt_uid="g"), step("t", 1, is_last=True, reward=2.0)], None)
        await finished(store, "u", "g")
        await store.mark("t", 1, {"trainable": False, "quality": 3})
        await store.mark("u", 0, {"trainable": True})
        for marks, expected in (
            ({}, {"t": [0, 1], "u": [0]}),
            ({"trainable": True}, {"t": [0], "u": [0]}),
            ({"trainable": False}, {"t": [1], "u": []}),
            ({"quality": 3, "trainable": False}, {"t": [1], "u": []}),
            ({"quality": 4}, {"t": [], "u": []}),
        ):
            (lease,) = await lease_all(store, marks=marks, n_rollouts=2)
            held = {run["trajectory_uid"]: [one.step_index for one in run["steps"]] for run in lease.trajectories}
            assert held == expected
            assert lease.trajectories[0]["reward"] == 2.0
            if marks != {"quality": 4}:
                await store.nack([lease.lease_id], delay_s=0, drop=False, reason=None)
