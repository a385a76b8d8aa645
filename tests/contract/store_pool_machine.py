"""Groups, leases, marks and retention against a model, on any store."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from moorage.pool.contract import Retention
from moorage.pool.marks import is_marked
from tests.contract.store_machine import CHANNELS, PROMPTS, LeaseMachine, Run
from tests.contract.store_parts import ask, draft, make

VALUES = (None, True, False, 1, "x")


class PoolMachine(LeaseMachine):
    """Groups, leases, marks and retention against the model, whose counts are those of the store after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}
        """When a trajectory was touched last, but for its lease."""
        self.marks: dict[tuple[str, int], dict] = {}
        self.last_called: str | None = None
        self.made = 0

    @rule(prompts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=4), channel=st.sampled_from(CHANNELS))
    def begin(self, prompts, channel):
        for number, prompt in enumerate(prompts):
            self.begin_one(prompt, channel, number % 3)

    def begin_one(self, prompt, channel, steps):
        run = Run(f"t{self.made}", prompt, channel)
        self.made += 1
        self.at[run.uid] = self.clock.now
        self.wait(make(self.store, run.uid, prompt_uid=prompt, channel=channel))
        self.runs.append(run)
        self.saw(run)
        for _ in range(steps):
            self.take_step(run, 0, None, last=False)

    def take_step(self, run, policy, reward, *, last):
        before = run.next_index
        super().take_step(run, policy, reward, last=last)
        if run.next_index > before:
            self.at[run.uid] = self.clock.now
            self.last_called = run.uid

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
        self.at[run.uid] = self.clock.now
        self.last_called = run.uid

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), reward=st.sampled_from((None, 1.0, 2.0)))
    def complete(self, data, reward):
        run = self.pick(data)
        was = run.complete
        work = self.store.complete(run.uid, reward=reward, channel=None)
        current = run.steps[run.last][1] if run.last is not None else None
        if run.round is not None and reward is not None and (not run.steps or reward != current):
            work.close()
            return
        self.wait(work)
        run.complete = True
        if not was:
            self.at[run.uid] = self.clock.now
        if reward is not None and run.steps:
            run.steps[run.last] = (run.steps[run.last][0], reward)

    # Marks

    @precondition(lambda self: any(run.next_index for run in self.runs))
    @rule(data=st.data(), value=st.sampled_from(VALUES), name=st.sampled_from(("trainable", "quality")))
    def mark(self, data, value, name):
        run = data.draw(st.sampled_from([run for run in self.runs if run.next_index]))
        index = data.draw(st.integers(0, run.next_index - 1))
        mine = self.marks.setdefault((run.uid, index), {})
        mine[name] = value
        if value is None:
            del mine[name]
        assert self.wait(self.store.mark(run.uid, index, {name: value})) == mine

    @rule(
        channel=st.sampled_from(CHANNELS),
        asked=st.dictionaries(st.sampled_from(("trainable", "quality")), st.sampled_from(VALUES), min_size=1),
    )
    def lease_marked(self, channel, asked):
        self.expire()
        expected, _ = self.ready(channel, 1, 2, None)
        leases, _ = self.wait(self.store.lease(ask(channel=channel, max_groups=2, marks=asked, lease_s=20.0)))
        assert [one.prompt_uid for one in leases] == [round_.group[1] for round_ in expected]
        for one, round_ in zip(leases, expected, strict=True):
            found = {run["trajectory_uid"]: [s.step_index for s in run["steps"]] for run in one.trajectories}
            assert found == {
                run.uid: [n for n in sorted(run.steps) if is_marked(self.marks.get((run.uid, n), {}), asked)]
                for run in round_.runs
            }
            self.deliver(round_, one.lease_id, 20.0)

    # Retention

    @rule(channel=st.sampled_from(CHANNELS), drop=st.booleans(), later=st.booleans())
    def settle(self, channel, drop, later):
        """Whatever there is is completed, leased and done with; and perhaps hours pass."""
        for run in self.runs:
            if run.channel == channel and not run.complete:
                self.wait(self.store.complete(run.uid, reward=None, channel=None))
                run.complete = True
                self.at[run.uid] = self.clock.now
        self.expire()
        expected, _ = self.ready(channel, 1, 1000, None)
        leases = self.wait(self.store.lease(ask(channel=channel, max_groups=1000, lease_s=20.0)))[0]
        for one, round_ in zip(leases, expected, strict=True):
            self.deliver(round_, one.lease_id, 20.0)
            round_.state, round_.lease_state = ("dropped", "nacked") if drop else ("acked", "acked")
        ids = [one.lease_id for one in leases]
        if drop:
            self.wait(self.store.nack(ids, delay_s=0, drop=True, reason=None))
        else:
            self.wait(self.store.ack(ids))
        self.clock.now += later * 3 * 3600

    @rule(hours=st.sampled_from((1.0, 3.0)))
    def hours_pass(self, hours):
        self.clock.now += hours * 3600

    @rule(hours=st.sampled_from((1.0, 2.0)), n=st.integers(1, 2), keep=st.sampled_from(((), ("acked",), ("marked",))))
    def retain(self, hours, n, keep):
        self.expire()
        limits = Retention(older_than_s=hours * 3600, max_bytes=None, n_rollouts=n, keep=frozenset(keep))
        going = self.going(self.clock.now - hours * 3600, n, keep)
        planned = self.wait(self.store.retain(limits, dry_run=True))
        gone = self.wait(self.store.retain(limits, dry_run=False))
        assert gone.trajectories == planned.trajectories == len(going)
        assert gone.calls == planned.calls == sum(run.next_index for run in going)
        assert (gone.bytes, gone.channels) == (planned.bytes, planned.channels)
        for run in going:
            self.runs.remove(run)
            self.marks = {key: value for key, value in self.marks.items() if key[0] != run.uid}
            if run.round in self.rounds:
                self.rounds.remove(run.round)
                self.leases = {name: round_ for name, round_ in self.leases.items() if round_ is not run.round}
            assert self.wait(self.store.find(run.uid)) is None
        self.groups = [group for group in self.groups if self.is_known(group)]

    def is_known(self, group):
        """A group goes with the last of what it had; seen again it is a new one."""
        return any((run.channel, run.prompt) == group for run in self.runs) or any(
            r.group == group for r in self.rounds
        )

    def going(self, until, n, keep):
        found = []
        for round_ in self.rounds:
            at = max(round_.expires_at, *(self.at[run.uid] for run in round_.runs))
            if round_.state in ("acked", "dropped") and at <= until and round_.state not in keep:
                found.append(round_.runs)
        for run in self.runs:
            mine = self.gathering((run.channel, run.prompt))
            running = any(
                one.channel == run.channel and one.prompt == run.prompt and not one.complete for one in self.runs
            )
            if run.complete and run.round is None and not running and len(mine) < n and self.at[run.uid] <= until:
                found.append([run])
        stay = {self.runs[-1].uid if self.runs else None, self.last_called}
        if "marked" in keep:
            stay |= {uid for (uid, _), marks in self.marks.items() if marks}
        return [run for runs in found if not stay & {run.uid for run in runs} for run in runs]
