"""Rewards of trajectories and of single steps: set, and what they were before.

A trajectory's reward is its last step's, and what a lease hands out; it can be set once the trajectory is complete and
until its group is leased. A single step's can be set as soon as the step is stored, and no longer either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.call import Call
from moorage.errors import ConflictError, NotFoundError
from moorage.pool.contract import Trajectory
from moorage.pool.faults import unknown_step, unknown_trajectory
from moorage.pool.marks import merged
from moorage.pool.times import rfc3339
from moorage.rewards.versions import FIRST_MARK, Given, Of, Version, is_news, marks_for, versions_in

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["check_place", "complete_with", "history_of", "set_reward"]

PAGE = 1000


async def complete_with(
    gateway: Gateway, trajectory: Trajectory, reward: float | None, channel: str | None
) -> Trajectory:
    """Complete it, as the store does; another reward than before is another version."""
    if reward is None or trajectory.state == "open":
        return await gateway.store.complete(trajectory.uid, reward=reward, channel=channel)
    given = Given(reward=reward, by="completed", at=gateway.clock(), of="trajectory")
    await set_reward(gateway, trajectory.uid, None, given, channel=channel)
    found = await gateway.store.find(trajectory.uid)
    return found if found is not None else trajectory


async def check_place(gateway: Gateway, uid: str, step_index: int | None) -> Trajectory:
    """Raises NotFoundError, and ConflictError for the reward of a trajectory that is not complete."""
    trajectory = await gateway.store.find(uid)
    if trajectory is None or trajectory.kind != "trajectory" or trajectory.state == "deleted":
        raise unknown_trajectory(uid)
    if trajectory.state == "open" and step_index is None:
        raise ConflictError(
            f"the trajectory {uid!r} is not complete",
            code="trajectory_open",
            hint="complete it with its reward, or give the step_index of a step",
        )
    return trajectory


async def set_reward(
    gateway: Gateway, uid: str, step_index: int | None, given: Given, *, channel: str | None = None
) -> Version:
    """The version that it is now. The same again is the version that it was.

    `step_index` None: the trajectory's own. Raises what the store raises: `reward_frozen` when its group was leased.
    """
    trajectory = await check_place(gateway, uid, step_index)
    steps = [call for call in await gateway.store.calls(uid) if not call.late and call.record.delivered]
    last = max(steps, key=lambda call: call.step_index, default=None)
    of = _of(trajectory, step_index, last)
    given = msgspec.structs.replace(given, of=of)
    call = last if of == "trajectory" else next((one for one in steps if one.step_index == step_index), None)
    if of == "step" and call is None:
        raise unknown_step(uid, step_index or 0)
    first = await _first(gateway, trajectory, of, call)
    if call is None:  # complete without any step: there is no place for a history
        await gateway.store.complete(uid, reward=given.reward, channel=channel)
        return Version(version=1, given=given)
    marks = await gateway.store.mark(uid, call.step_index, {})
    before = versions_in(marks, of, first)
    noted = marks_for(given, gateway.new_id(), marks, first) if is_news(given, before) else {}
    merged(marks, noted)  # refused here, nothing has happened yet
    # Noted before it is set: when this process dies in between, what the reward was is not lost, and the same request
    # again sets it.
    marks = await gateway.store.mark(uid, call.step_index, noted) if noted else marks
    await _put(gateway, uid, given, channel, call.step_index, noted)
    return versions_in(marks, of, first)[-1]


async def _put(
    gateway: Gateway, uid: str, given: Given, channel: str | None, step_index: int, noted: dict[str, Any]
) -> None:
    """Set it; what was noted of it is taken away when it cannot be set."""
    try:
        if given.of == "trajectory":
            await gateway.store.complete(uid, reward=given.reward, channel=channel)
        else:
            await gateway.store.reward_step(uid, step_index, given.reward)
    except ConflictError:
        gone = {name: None for name in noted if name != FIRST_MARK}
        if gone:
            await gateway.store.mark(uid, step_index, gone)
        raise
    gateway.sessions.forget(uid)


async def history_of(gateway: Gateway, uid: str) -> dict[str, Any]:
    """Every version of the trajectory's reward and of its steps', oldest first. Raises NotFoundError."""
    trajectory = await gateway.store.find(uid)
    if trajectory is None:
        raise unknown_trajectory(uid)
    calls = {call.step_index: call for call in await gateway.store.calls(uid)}
    marks = await _marks(gateway, uid)
    last = max((one.step_index for one in calls.values() if not one.late and one.record.delivered), default=None)
    own = await _first(gateway, trajectory, "trajectory", calls.get(last) if last is not None else None)
    steps = []
    for step_index, call in sorted(calls.items()):
        is_own = step_index == last and trajectory.state != "open"
        versions = versions_in(marks.get(step_index, {}), "step", None if is_own else _of_step(call))
        if versions:
            steps.append({"step_index": step_index, "versions": _shown(versions)})
    versions = versions_in(marks.get(last, {}) if last is not None else {}, "trajectory", own)
    return {
        "trajectory_uid": uid,
        "state": trajectory.state,
        "reward": await _reward_now(gateway, trajectory),
        "versions": _shown(versions),
        "steps": steps,
    }


def _of(trajectory: Trajectory, step_index: int | None, last: Call | None) -> Of:
    """The reward of a complete trajectory's last step is the trajectory's."""
    if step_index is None:
        return "trajectory"
    is_last = last is not None and last.step_index == step_index
    return "trajectory" if trajectory.state != "open" and is_last else "step"


async def _first(gateway: Gateway, trajectory: Trajectory, of: Of, call: Call | None) -> Given | None:
    """The reward that was there before any was noted; None: none."""
    if of == "step":
        return None if call is None else _of_step(call)
    if trajectory.state == "open":
        return None
    reward = await _reward_now(gateway, trajectory)
    if reward is None:
        return None
    return Given(reward=reward, by="completed", at=trajectory.completed_at or 0.0, of="trajectory")


def _of_step(call: Call) -> Given | None:
    if call.reward is None:
        return None
    return Given(reward=call.reward, by="submitted", at=call.record.created_at, of="step")


async def _reward_now(gateway: Gateway, trajectory: Trajectory) -> float | None:
    page = await gateway.store.trajectories({"trajectory_uid": trajectory.uid}, 1, None)
    for row in page.rows:
        reward: float | None = row.reward
        return reward
    raise NotFoundError(f"no session or trajectory is called {trajectory.uid!r}", code="unknown_trajectory")


async def _marks(gateway: Gateway, uid: str) -> dict[int, dict[str, Any]]:
    """step_index → marks, of the steps that have some."""
    found: dict[int, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        page = await gateway.store.steps({"trajectory_uid": uid}, PAGE, cursor)
        found |= {step.step_index: step.marks for step in page.rows if step.marks}
        cursor = page.next_cursor
        if cursor is None:
            return found


def _shown(versions: Sequence[Version]) -> list[dict[str, Any]]:
    return [
        {
            "version": one.version,
            "reward": one.given.reward,
            "by": one.given.by,
            "function": one.given.function,
            "function_version": one.given.function_version,
            "at": rfc3339(one.given.at),
            "info": one.given.info,
        }
        for one in versions
    ]
