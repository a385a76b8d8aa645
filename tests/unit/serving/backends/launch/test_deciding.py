"""What is done about replicas: laws over everything that may be seen of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.backends.launch.deciding import Life, Replica, backoff_s, decide

DRAIN_S = 30.0


@st.composite
def replicas(draw):
    slots = draw(st.lists(st.integers(0, 8), unique=True, max_size=6))
    return [
        Replica(
            job_id=f"job-{slot}",
            slot=slot,
            life=draw(st.sampled_from(Life)),
            current=draw(st.booleans()),
            busy=(busy := draw(st.booleans())),
            ending=busy and draw(st.booleans()),
            retiring_since=draw(st.none() | st.floats(0, 100)),
        )
        for slot in slots
    ]


@given(replicas(), st.integers(0, 5), st.booleans())
def test_nothing_is_started_twice_and_never_too_many(found, wanted, may_start):
    decision = decide(found, wanted=wanted, now=100.0, drain_s=DRAIN_S, may_start=may_start)
    living = [one for one in found if one.life is not Life.DEAD and not one.ending and one.current]
    assert len(decision.start) == (max(0, wanted - len(living)) if may_start else 0)
    assert not set(decision.start) & {one.slot for one in found}
    assert len(set(decision.start)) == len(decision.start)


@given(replicas(), st.integers(1, 5), st.booleans())
def test_what_is_wanted_and_lives_stays(found, wanted, may_start):
    decision = decide(found, wanted=wanted, now=100.0, drain_s=DRAIN_S, may_start=may_start)
    by_id = {one.job_id: one for one in found}
    assert not any(by_id[job_id].busy for job_id in decision.stop)
    current = [one for one in found if one.life is not Life.DEAD and not one.ending and one.current]
    gone = set(decision.stop) | set(decision.retire)
    assert len([one for one in current if one.job_id not in gone]) >= min(wanted, len(current))
    ready = [one for one in current if one.life is Life.READY]
    assert len([one for one in ready if one.job_id not in gone]) >= min(wanted, len(ready))


@given(replicas(), st.integers(1, 5))
def test_what_answers_is_drained_before_it_is_stopped(found, wanted):
    decision = decide(found, wanted=wanted, now=100.0, drain_s=DRAIN_S, may_start=True)
    for one in found:
        if one.job_id in decision.stop and one.life in (Life.READY, Life.SILENT):
            assert one.retiring_since is not None
            assert 100.0 - one.retiring_since >= DRAIN_S


@given(replicas(), st.integers(1, 5))
def test_an_older_start_serves_until_the_new_one_does(found, wanted):
    decision = decide(found, wanted=wanted, now=100.0, drain_s=DRAIN_S, may_start=True)
    ready = [one for one in found if one.current and one.life is Life.READY and not one.ending]
    older = {one.job_id for one in found if not one.current and one.life is not Life.DEAD}
    if len(ready) < wanted:
        assert not older & (set(decision.stop) | set(decision.retire))


@given(replicas())
def test_when_nothing_is_wanted_all_that_may_be_touched_ends(found):
    decision = decide(found, wanted=0, now=100.0, drain_s=DRAIN_S, may_start=False)
    assert set(decision.stop) == {one.job_id for one in found if not one.busy}
    assert decision.start == ()


def test_a_retiring_replica_is_taken_back_before_another_is_started():
    found = [
        Replica(job_id="a", slot=0, life=Life.READY, current=True),
        Replica(job_id="b", slot=1, life=Life.READY, current=True, retiring_since=99.0),
    ]
    decision = decide(found, wanted=2, now=100.0, drain_s=DRAIN_S, may_start=True)
    assert (decision.start, decision.stop, decision.keep) == ((), (), ("b",))


def test_the_healthy_one_stays_whichever_slot_it_has():
    found = [
        Replica(job_id="starts", slot=0, life=Life.STARTING, current=True),
        Replica(job_id="serves", slot=1, life=Life.READY, current=True),
    ]
    assert decide(found, wanted=1, now=1.0, drain_s=DRAIN_S, may_start=True).stop == ("starts",)


@given(st.integers(0, 10_000))
def test_pauses_grow_and_end(failures):
    assert 1.0 <= backoff_s(failures) <= backoff_s(failures + 1) <= 60.0
