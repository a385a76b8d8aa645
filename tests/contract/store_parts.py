"""What the tests of every store share: a clock that is set, drafts and steps, and a store that is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from moorage.capture.call import Draft
from moorage.capture.chain import digest
from moorage.capture.packing import pack_floats, pack_ids
from moorage.pool.contract import LeaseAsk, NewTrajectory, Store, SubmittedStep


class Clock:
    """Unix seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Ids:
    """1, 2, 3…: ids that a test can foresee."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self) -> str:
        self.given += 1
        return f"id-{self.given}"


def draft(uid: str, *, parent: int | None = None, keep: int = 0, **fields: Any) -> Draft:
    values = {
        "call_id": f"call-{uid}-{parent}",
        "request_id": f"request-{uid}-{parent}",
        "choice": 0,
        "delta": pack_ids([1, 2, 3]),
        "completion": pack_ids([7, 8]),
        "logprobs": pack_floats([-0.25, -1.5]),
        "finish_reason": "stop",
        "stop_token": True,
    }
    return Draft(session_id=uid, parent=parent, keep=keep, **{**values, **fields})


def step(uid: str, index: int = 0, **fields: Any) -> SubmittedStep:
    values: dict[str, Any] = {
        "prompt_uid": None,
        "prompt_ids": pack_ids(range(1, 4 + index)),
        "response_ids": pack_ids([50 + index]),
        "rollout_log_probs": pack_floats([-0.5]),
        "reward": None,
        "policy_version": 0,
        "is_last": False,
        "metadata": {},
    }
    return SubmittedStep(trajectory_uid=uid, step_index=index, **{**values, **fields})


def ask(**fields: Any) -> LeaseAsk:
    values: dict[str, Any] = {
        "channel": "train",
        "n_rollouts": 1,
        "max_groups": 1,
        "lease_s": 300.0,
        "min_policy_version": None,
        "consumer": None,
    }
    return LeaseAsk(**{**values, **fields})


def blob(content: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    return digest(content), {digest(content): content}


async def make(store: Store, *uids: str, **fields: Any) -> None:
    for uid in uids:
        await store.create(NewTrajectory(uid=uid, kind="trajectory", **fields))


async def finished(store: Store, uid: str, prompt_uid: str, **fields: Any) -> None:
    """A trajectory of one step, complete."""
    await store.submit([step(uid, prompt_uid=prompt_uid, is_last=True, **fields)], None)


async def lease_all(store: Store, **fields: Any) -> list[Any]:
    leases, _ = await store.lease(ask(**{"max_groups": 1000, **fields}))
    return leases


def names(leases: Sequence[Any]) -> list[tuple[str, list[str]]]:
    """(prompt_uid, trajectory uids) of each."""
    return [(one.prompt_uid, [run["trajectory_uid"] for run in one.trajectories]) for one in leases]


async def refused(work: Awaitable[Any]) -> str:
    """The code of the error that it raises."""
    try:
        await work
    except Exception as fault:
        return str(getattr(fault, "code", type(fault).__name__))
    return "nothing"


class StoreTests:
    """Tests of a store: a subclass says how one is made."""

    def new_store(self, folder: Path, clock: Callable[[], float], make_id: Callable[[], str], **options: Any) -> Store:
        raise NotImplementedError


def on_store(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test's coroutine with an open store and its clock."""

    def run(self: StoreTests, tmp_path: Path) -> None:
        async def scenario() -> None:
            clock = Clock()
            store = self.new_store(tmp_path, clock, Ids())
            await store.open()
            try:
                await asyncio.wait_for(test(self, store, clock), 60)
            finally:
                await store.close()

        asyncio.run(scenario())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run
