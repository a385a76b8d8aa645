"""Single decisions of a plan, and the laws that hold of every plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from moorage.serving.backends.contract import AppState, Seen
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.model import Model, Progress, State
from moorage.serving.plan.conditions import MESSAGE_CHARACTERS, find, plain
from moorage.serving.plan.plan import Plan, difference, plan
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import application
from moorage.serving.plan.situation import Situation
from moorage.serving.plan.steps import STEPS
from moorage.serving.reasons import ACTIONS, CONDITIONS, Reason
from moorage.serving.spec.spec import Autoscaling, ServingSpec
from moorage.serving.store.contract import Change

NOW = 1_800_000_000.0
BACKEND = MemoryBackend(lambda: NOW)
POLICY = Policy()


def model(number: int = 0, **changes: object) -> Model:
    at = datetime.fromtimestamp(NOW, UTC)
    made = Model(
        model_key=f"svc-ann-20270115-080000-{number:04d}",
        user_id="ann",
        model_id=f"ann-202701150800-m{number}",
        spec=ServingSpec(model_id=f"m{number}", model_source="org/tiny"),
        generation=1,
        observed_generation=0,
        state=State.QUEUED,
        error_summary=None,
        conditions=(),
        created_at=at,
        updated_at=at,
        accepted_at=at,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def seen(of: Model, state: AppState = AppState.RUNNING, **changes: object) -> dict[str, Seen]:
    wanted = application(of, of.spec)
    told = Seen(
        app=wanted.app,
        state=state,
        digest=BACKEND.digest(wanted),
        reason=Reason.SERVING if state is AppState.RUNNING else Reason.STARTING,
        replicas_ready=wanted.spec.num_replicas if state is AppState.RUNNING else 0,
    )
    return {wanted.app: replace(told, **changes)}  # type: ignore[arg-type]


def make(models: list[Model], apps: dict[str, Seen], now: float = NOW, policy: Policy = POLICY) -> Plan:
    return plan(models, apps, now, policy, digest=BACKEND.digest)


def noted(of: Model, change: Change) -> Model:
    return replace(
        of,
        state=change.state,
        observed_generation=change.observed_generation,
        error_summary=change.error_summary,
        conditions=change.conditions,
        progress=change.progress,
    )


def served(number: int = 0, **changes: object) -> Model:
    """One that runs, as it is on record."""
    one = model(number, **changes)
    return noted(one, make([one], seen(one)).changes[0])


def reason(of: Model, name: str) -> tuple[bool | None, str]:
    found = find(of.conditions, name)
    assert found is not None
    return found.status, found.reason


def test_every_situation_has_a_row() -> None:
    assert set(STEPS) == set(Situation)


def test_every_reason_has_an_action() -> None:
    assert set(ACTIONS) == set(Reason)


def test_what_is_on_record_is_planned_once() -> None:
    one = served()
    again = make([one], seen(one))
    assert again.changes == () and not difference(again.wanted, seen(one), BACKEND.digest)


def test_a_model_whose_backend_lacks_room_says_so() -> None:
    one = model()
    apps = seen(one, AppState.DEPLOYING, reason=Reason.NO_CAPACITY, message="no node has 1 GPU")
    waiting = noted(one, make([one], apps).changes[0])
    assert waiting.state is State.DEPLOYING
    assert reason(waiting, "Healthy") == (False, Reason.NO_CAPACITY) == reason(waiting, "Ready")
    assert reason(waiting, "Applied") == (True, Reason.ACCEPTED)


def test_a_first_revision_serves_with_its_first_replica() -> None:
    one = model(spec=ServingSpec(model_id="m", model_source="x", num_replicas=3))
    first = noted(one, make([one], seen(one, replicas_ready=1)).changes[0])
    assert first.state is State.RUNNING and reason(first, "Ready") == (True, Reason.SERVING)
    assert reason(first, "Healthy") == (False, Reason.STARTING)
    lost = noted(first, make([first], seen(first, replicas_ready=2, reason=Reason.DEGRADED)).changes[0])
    assert reason(lost, "Healthy") == (False, Reason.DEGRADED) and lost.state is State.RUNNING


def test_requests_move_when_all_replicas_of_the_next_revision_answer() -> None:
    old = served()
    new = replace(old, spec=replace(old.spec, num_replicas=2, engine_kwargs={"a": 1}), generation=2, state=State.QUEUED)
    both = seen(old) | seen(new, replicas_ready=1)
    waiting = make([new], both)
    assert waiting.changes[0].progress.serving == old.spec and len(waiting.wanted) == 2
    moved = make([new], seen(old) | seen(new))
    assert moved.changes[0].progress.serving == new.spec
    assert moved.changes[0].progress.draining == old.spec and len(moved.wanted) == 2
    after = noted(new, moved.changes[0])
    late = make([after], seen(old) | seen(new), NOW + POLICY.drain_s)
    assert [one.spec for one in late.wanted] == [new.spec] and late.changes[0].progress.draining is None
    assert after.progress.drain_until == moved.wake_at == NOW + POLICY.drain_s


def test_part_of_it_is_better_than_none_at_the_deadline() -> None:
    old = served()
    new = replace(old, spec=replace(old.spec, num_replicas=2), generation=2, state=State.QUEUED)
    apps = seen(new, replicas_ready=1)
    waiting = noted(new, make([new], apps).changes[0])
    assert waiting.state is State.DEPLOYING and reason(waiting, "Ready") == (True, Reason.SERVING)
    ended = noted(waiting, make([waiting], apps, NOW + POLICY.deadline_s).changes[0])
    assert ended.state is State.RUNNING and reason(ended, "Healthy") == (False, Reason.STARTING)


def test_autoscaling_needs_its_least() -> None:
    old = served()
    scaling = Autoscaling(min_replicas=2, max_replicas=4)
    new = replace(old, spec=replace(old.spec, num_replicas=3, autoscaling=scaling), generation=2, state=State.QUEUED)
    assert make([new], seen(new, replicas_ready=1)).changes[0].state is State.DEPLOYING
    assert make([new], seen(new, replicas_ready=2)).changes[0].state is State.RUNNING


def test_a_refused_build_leaves_the_older_one_serving() -> None:
    old = served()
    new = replace(old, spec=replace(old.spec, engine_kwargs={"a": 1}), generation=2, state=State.QUEUED)
    one_try = Policy(attempts=1)
    failed = seen(new, AppState.FAILED, reason=Reason.DEPLOY_FAILED, message="bad\x00 argument")
    made = make([new], seen(old) | failed, policy=one_try)
    ended = noted(new, made.changes[0])
    assert [one.spec for one in made.wanted] == [old.spec]
    assert ended.state is State.FAILED and ended.error_summary == "bad  argument"
    assert ended.observed_generation == 2 and ended.progress.serving_generation == 1
    assert reason(ended, "Ready") == (True, Reason.ROLLED_BACK)
    assert [kind for kind, _ in made.changes[0].events] == ["DEPLOY_FAILED", "ROLLED_BACK"]


@pytest.mark.parametrize("state", [AppState.DEGRADED, AppState.FAILED, AppState.DEPLOYING, AppState.REMOVING, None])
def test_what_was_healthy_is_never_given_up(state: AppState | None) -> None:
    one = served()
    apps = {} if state is None else seen(one, state)
    for passed in range(20):
        now = NOW + passed * POLICY.deadline_s
        made = make([one], apps, now)
        one = noted(one, made.changes[0]) if made.changes else one
        assert one.state is State.DEPLOYING and reason(one, "Ready")[0] is False


def test_the_pauses_of_what_dies_again_and_again_grow_and_end_somewhere() -> None:
    pauses = [POLICY.backoff(failures) for failures in (1, 2, 3, 8, 10_000)]
    assert pauses == [0.5, 1.0, 2.0, 60.0, 60.0]


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_a_clock_that_is_set_takes_no_time_away_and_gives_none(step_s: float) -> None:
    one = model()
    apps = seen(one, AppState.DEPLOYING)
    waiting = noted(one, make([one], apps).changes[0])
    moved = plan([waiting], apps, NOW + 10 + step_s, POLICY, digest=BACKEND.digest, stepped_s=step_s)
    assert moved.changes[0].progress.deadline == NOW + step_s + POLICY.deadline_s
    assert moved.changes[0].state is State.DEPLOYING


def test_no_time_on_record_lies_further_ahead_than_it_can_have_been_set() -> None:
    """The clock was set back while nobody ran."""
    far = Progress(attempts=1, not_before=NOW + 9e6, deadline=NOW + 9e6)
    one = replace(model(), state=State.DEPLOYING, progress=far)
    made = make([one], {})
    assert made.changes[0].progress.not_before == NOW + POLICY.backoff_max_s


def test_it_ends_when_its_time_to_live_is_over() -> None:
    one = served(spec=ServingSpec(model_id="m", model_source="x", ttl_s=60.0))
    assert make([one], seen(one)).wake_at == NOW + 60
    made = make([one], seen(one), NOW + 60)
    ended = noted(one, made.changes[0])
    assert made.wanted == () and ended.state is State.DELETING and ended.progress.endpoints == ()
    assert reason(ended, "Ready") == (False, Reason.EXPIRED)
    going = make([ended], seen(one, AppState.REMOVING), NOW + 61).changes
    assert not going or reason(noted(ended, going[0]), "Ready") == (False, Reason.EXPIRED)
    gone = noted(ended, make([ended], {}, NOW + 62).changes[0])
    assert gone.state is State.DELETED and reason(gone, "Ready") == (False, Reason.DELETED)


def test_a_change_of_ttl_alone_touches_nothing_that_runs() -> None:
    old = served()
    new = replace(old, spec=replace(old.spec, ttl_s=60.0), generation=2, state=State.QUEUED)
    made = make([new], seen(old))
    assert made.changes[0].state is State.RUNNING and not difference(made.wanted, seen(old), BACKEND.digest)


def test_what_is_going_is_waited_for() -> None:
    one = model()
    made = make([one], seen(one, AppState.REMOVING))
    assert made.wanted == () and made.changes[0].state is State.DEPLOYING


def test_what_no_model_is_known_of_is_taken_away() -> None:
    stranger = seen(model(7))
    assert difference(make([], stranger).wanted, stranger, BACKEND.digest).gone == tuple(stranger)


def test_the_plan_holds_until_it_says_it_does_not() -> None:
    one = served(spec=ServingSpec(model_id="m", model_source="x", ttl_s=60.0))
    for passed in (0.0, 30.0, 59.999):
        assert make([one], seen(one), NOW + passed).changes == ()


def test_conditions_are_those_of_the_catalogue_and_remember_when_they_turned() -> None:
    one = served()
    assert [condition.type for condition in one.conditions] == list(CONDITIONS)
    later = make([one], seen(one, AppState.DEGRADED), NOW + 60).changes[0]
    turned = {condition.type: condition.changed_at for condition in later.conditions}
    start = datetime.fromtimestamp(NOW, UTC)
    assert turned["Ready"] == start + timedelta(seconds=60) and turned["Accepted"] == start


@pytest.mark.parametrize("text", ["\x00\x07\ud800", "x" * 10_000, "\u0085\x9b31m"])
def test_what_a_backend_says_can_be_stored_and_shown(text: str) -> None:
    said = plain(text)
    said.encode()
    assert len(said) <= MESSAGE_CHARACTERS and not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in said)


def test_a_thousand_models_cost_ten_times_a_hundred() -> None:
    def cost_s(count: int) -> float:
        models = [served(number) for number in range(count)]
        apps = {name: one for of in models for name, one in seen(of).items()}
        return min(_timed(lambda: make(models, apps)) for _ in range(5))

    assert cost_s(1000) <= 12 * cost_s(100)


def _timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began
