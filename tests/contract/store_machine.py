"""Groups and leases against a model that is simple enough to be read next to the contract."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from moorage.capture.packing import pack_ids
from moorage.errors import ConflictError, NotFoundError
from moorage.pool.contract import Change, Store
from tests.contract.store_parts import Clock, Ids, ask, draft, make, step

MAX_ATTEMPTS = 3
PROMPTS = ("g", "h", "i")
CHANNELS = ("train", "val")


@dataclass
class Run:
    """A trajectory as the contract describes it."""

    uid: str
    prompt: str
    channel: str = ""
    complete: bool = False
    round: Round | None = None
    steps: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """Those that a lease may hold: step_index → (policy_version, reward)."""
    next_index: int = 0
    late: int = 0

    @property
    def last(self) -> int | None:
        return max(self.steps) if self.steps and self.complete else None


@dataclass
class Round:
    group: tuple[str, str]
    runs: list[Run]
    state: str = "leased"
    lease: str = ""
    lease_state: str = "out"
    attempts: int = 0
    expires_at: float = 0.0
    not_before: float = 0.0


class LeaseMachine(RuleBasedStateMachine):
    """A subclass says how a store is made, in `new_store`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="moorage-store-"))
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.ids = Ids()
        self.store = self.new_store(self.folder, self.clock, self.ids)
        self.wait(self.store.open())
        self.runs: list[Run] = []
        self.groups: list[tuple[str, str]] = []
        self.rounds: list[Round] = []
        self.leases: dict[str, Round] = {}

    def new_store(self, folder: Path, clock: Callable[[], float], make_id: Callable[[], str]) -> Store:
        raise NotImplementedError

    def teardown(self) -> None:
        self.wait(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def wait(self, work):
        return self.loop.run_until_complete(work)

    # What agents do

    @rule(prompt=st.sampled_from(PROMPTS), channel=st.sampled_from(CHANNELS), steps=st.integers(0, 2))
    def begin(self, prompt, channel, steps):
        run = Run(f"t{len(self.runs)}", prompt, channel)
        self.wait(make(self.store, run.uid, prompt_uid=prompt, channel=channel))
        self.runs.append(run)
        self.saw(run)
        for _ in range(steps):
            self.take_step(run, 0, None, last=False)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), policy=st.integers(0, 2), reward=st.sampled_from((None, 0.5)), last=st.booleans())
    def submit(self, data, policy, reward, last):
        self.take_step(self.pick(data), policy, reward, last=last)

    def take_step(self, run, policy, reward, *, last):
        index = run.next_index
        one = step(run.uid, index, policy_version=policy, reward=reward, is_last=last, prompt_ids=pack_ids([index + 1]))
        if run.complete:
            self.refuses(self.store.submit([one], None))
            return
        self.wait(self.store.submit([one], None))
        assert self.wait(self.store.submit([one], run.channel)).duplicates == 1
        run.steps[index] = (policy, reward)
        run.next_index += 1
        run.complete = last

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), policy=st.integers(0, 2), delivered=st.booleans())
    def call(self, data, policy, delivered):
        run = self.pick(data)
        given = draft(run.uid, policy_version=policy, delivered=delivered)
        (call,) = self.wait(self.store.append(run.uid, [given], {})).calls
        assert (call.step_index, call.late) == (run.next_index, run.complete)
        run.late += run.complete
        if delivered and not run.complete:
            run.steps[run.next_index] = (policy, None)
        run.next_index += 1

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), reward=st.sampled_from((None, 1.0, 2.0)))
    def complete(self, data, reward):
        run = self.pick(data)
        work = self.store.complete(run.uid, reward=reward, channel=None)
        current = run.steps[run.last][1] if run.last is not None else None
        if run.round is not None and reward is not None and run.steps and reward != current:
            self.refuses(work)
            return
        if run.round is not None and not run.steps and reward is not None:
            # A reward without a step: whether it changes is the store's own affair.
            work.close()
            return
        self.wait(work)
        run.complete = True
        if reward is not None and run.steps:
            run.steps[run.last] = (run.steps[run.last][0], reward)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), channel=st.sampled_from(CHANNELS))
    def register(self, data, channel):
        run = self.pick(data)
        work = self.store.change(run.uid, Change(channel=channel))
        if (run.next_index or run.complete) and channel != run.channel:
            self.refuses(work)
            return
        self.wait(work)
        run.channel = channel
        self.saw(run)

    # What trainers do

    @rule(
        channel=st.sampled_from(CHANNELS),
        n=st.integers(1, 3),
        many=st.integers(1, 3),
        minimum=st.sampled_from((None, None, 1, 2)),
        lease_s=st.sampled_from((5.0, 20.0)),
    )
    def lease(self, channel, n, many, minimum, lease_s):
        self.expire()
        expected, stale = self.ready(channel, n, many, minimum)
        leases, skipped = self.wait(
            self.store.lease(
                ask(channel=channel, n_rollouts=n, max_groups=many, min_policy_version=minimum, lease_s=lease_s)
            )
        )
        assert skipped == stale
        assert [(one.prompt_uid, one.attempt) for one in leases] == [(r.group[1], r.attempts + 1) for r in expected]
        for one, round_ in zip(leases, expected, strict=True):
            self.compare(one, round_)
            assert one.lease_id not in self.leases
            self.deliver(round_, one.lease_id, lease_s)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def ack(self, data):
        self.expire()
        ids = self.some_leases(data)
        work = self.store.ack(ids)
        if not all(self.standing(one) in ("out", "expired", "acked") for one in ids):
            self.refuses(work)
            return
        assert self.wait(work) == len(ids)
        for one in ids:
            self.leases[one].state = self.leases[one].lease_state = "acked"

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), delay_s=st.sampled_from((0.0, 0.0, 7.0)), drop=st.booleans())
    def nack(self, data, delay_s, drop):
        self.expire()
        ids = self.some_leases(data)
        work = self.store.nack(ids, delay_s=delay_s, drop=drop, reason=None)
        if not all(self.standing(one) in ("out", "expired", "nacked") for one in ids):
            self.refuses(work)
            return
        self.wait(work)
        for one in ids:
            round_ = self.leases[one]
            round_.lease_state = "nacked"
            if round_.state != "dropped":
                self.end(round_, self.clock.now + delay_s, drop=drop)

    @rule()
    def ack_nothing_known(self):
        for work in (self.store.ack(["no"]), self.store.nack(["no"], delay_s=0, drop=False, reason=None)):
            self.refuses(work, NotFoundError)

    @rule(seconds=st.sampled_from((1.0, 5.0, 8.0, 30.0)))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule()
    def restart(self):
        self.wait(self.store.close())
        self.store = self.new_store(self.folder, self.clock, self.ids)
        self.wait(self.store.open())

    @invariant()
    def counts_agree(self):
        self.expire()
        for n in (1, 2):
            stats = self.wait(self.store.stats(None, n))
            for channel in CHANNELS:
                if channel in stats or any(run.channel == channel for run in self.runs):
                    assert stats[channel] == self.expected_stats(channel, n)

    # The model

    def saw(self, run):
        if (run.channel, run.prompt) not in self.groups:
            self.groups.append((run.channel, run.prompt))

    def pick(self, data):
        return data.draw(st.sampled_from(self.runs))

    def some_leases(self, data):
        return data.draw(st.lists(st.sampled_from(sorted(self.leases)), min_size=1, max_size=2))

    def refuses(self, work, error=ConflictError):
        try:
            self.wait(work)
        except error:
            return
        raise AssertionError("it was accepted")

    def standing(self, lease_id):
        round_ = self.leases[lease_id]
        return round_.lease_state if round_.lease == lease_id else "lost"

    def gathering(self, group):
        return [run for run in self.runs if (run.channel, run.prompt) == group and run.complete and run.round is None]

    def ready(self, channel, n, many, minimum):
        found, stale = [], 0
        for group in (one for one in self.groups if one[0] == channel):
            waiting = [r for r in self.rounds if r.group == group and r.state == "waiting"]
            waiting = [r for r in waiting if r.not_before <= self.clock.now]
            for round_ in [*waiting, Round(group, self.gathering(group), state="fresh")]:
                if len(round_.runs) < n or len(found) == many:
                    continue
                policies = [policy for run in round_.runs for policy, _ in run.steps.values()]
                if minimum is not None and min(policies, default=minimum) < minimum:
                    stale += 1
                else:
                    found.append(round_)
        return found, stale

    def deliver(self, round_, lease_id, lease_s):
        if round_.state == "fresh":
            self.rounds.append(round_)
            for run in round_.runs:
                run.round = round_
        round_.state, round_.lease, round_.lease_state = "leased", lease_id, "out"
        round_.attempts += 1
        round_.expires_at = self.clock.now + lease_s
        self.leases[lease_id] = round_

    def expire(self):
        for round_ in self.rounds:
            if round_.state == "leased" and round_.expires_at <= self.clock.now:
                round_.lease_state = "expired"
                self.end(round_, self.clock.now, drop=False)

    def end(self, round_, not_before, *, drop):
        round_.state = "dropped" if drop or round_.attempts >= MAX_ATTEMPTS else "waiting"
        round_.not_before = not_before

    def compare(self, lease, round_):
        assert [one["trajectory_uid"] for one in lease.trajectories] == sorted(run.uid for run in round_.runs)
        for one in lease.trajectories:
            (run,) = [run for run in round_.runs if run.uid == one["trajectory_uid"]]
            assert [(s.step_index, s.policy_version, s.reward) for s in one["steps"]] == [
                (index, *run.steps[index]) for index in sorted(run.steps)
            ]
            assert [s.step_index for s in one["steps"] if s.is_last] == ([run.last] if run.steps else [])
            if run.steps:
                assert one["reward"] == run.steps[run.last][1]

    def expected_stats(self, channel, n):
        runs = [run for run in self.runs if run.channel == channel]
        groups = dict.fromkeys(("open", "ready", "leased", "acked", "dropped"), 0)
        for round_ in (one for one in self.rounds if one.group[0] == channel):
            ready = len(round_.runs) >= n and round_.not_before <= self.clock.now
            groups[("ready" if ready else "open") if round_.state == "waiting" else round_.state] += 1
        for group in {(run.channel, run.prompt) for run in runs if run.round is None}:
            groups["ready" if len(self.gathering(group)) >= n else "open"] += 1
        return {
            "steps": sum(len(run.steps) for run in runs),
            "late_steps": sum(run.late for run in runs),
            "trajectories": {
                "open": sum(not run.complete for run in runs),
                "complete": sum(run.complete for run in runs),
            },
            "groups": groups,
        }
