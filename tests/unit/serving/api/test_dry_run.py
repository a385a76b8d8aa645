"""What a dry run tells of a change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.api.dry_run import differences, same_spec, steps
from moorage.serving.model import Model, Progress, State
from moorage.serving.spec.spec import Adapter, Autoscaling, ServingSpec

VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(0, 1) | st.text("ab", max_size=2)
SPECS = st.builds(
    ServingSpec,
    model_id=st.just("m"),
    model_source=st.sampled_from(["org/a", "/private/hf/a"]),
    num_replicas=st.integers(1, 3),
    gpus_per_replica=st.integers(1, 2),
    engine_kwargs=st.dictionaries(st.sampled_from(["a", "b", "c/~"]), VALUES | st.dictionaries(st.text("xy"), VALUES)),
    ttl_s=st.none() | st.floats(1, 9),
    autoscaling=st.none() | st.builds(Autoscaling, min_replicas=st.just(1), max_replicas=st.integers(1, 2)),
    lora=st.lists(st.builds(Adapter, name=st.just("l"), source=st.sampled_from(["a/b", "a/c"])), max_size=1).map(tuple),
)


def model(spec: ServingSpec, serving: ServingSpec | None = None, state: State = State.RUNNING) -> Model:
    """`serving`: what was healthy last; None: nothing else."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Model(
        model_key="svc-a-20260101-000000-abcd",
        user_id="a",
        model_id="a-202601010000-m",
        spec=spec,
        generation=1,
        observed_generation=1,
        state=state,
        error_summary=None,
        conditions=(),
        created_at=at,
        updated_at=at,
        accepted_at=at,
        progress=Progress(serving=serving or spec),
    )


def never(spec: ServingSpec, state: State) -> Model:
    """Of which nothing was ever healthy."""
    return replace(model(spec, state=state), progress=Progress())


@given(SPECS, SPECS)
def test_differences_lead_from_one_to_the_other(one: ServingSpec, other: ServingSpec) -> None:
    found = one.to_dict()
    for difference in differences(one, other):
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in difference["pointer"][1:].split("/")]
        place: Any = found
        for part in way:
            place = place[part]
        if "to" in difference:
            place[last] = difference["to"]
        else:
            del place[last]
    assert same_spec(ServingSpec.from_dict(found), other)


@given(SPECS, SPECS)
def test_nothing_is_done_when_nothing_differs(one: ServingSpec, other: ServingSpec) -> None:
    same = same_spec(one, other)
    assert (differences(one, other) == []) is same
    assert (steps(model(one), other) == []) is same
    if not same:
        replaces = one.build() != other.build()
        assert ("drain_and_remove" in [step["action"] for step in steps(model(one), other)]) is replaces


A, B, C = (ServingSpec(model_id="m", model_source=f"org/{name}") for name in "abc")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (model(B, A, State.FAILED), A, [("record", A)]),
        (model(B, A, State.FAILED), replace(A, num_replicas=2), [("scale", A)]),
        (model(B, A, State.FAILED), C, [("start", C), ("move_requests", None), ("drain_and_remove", A)]),
        (
            model(B, A, State.FAILED),
            replace(B, ttl_s=9.0),
            [("start", B), ("move_requests", None), ("drain_and_remove", A)],
        ),
        (model(B, A, State.DEPLOYING), A, [("record", A), ("remove", B)]),
        (
            model(B, A, State.DEPLOYING),
            C,
            [("start", C), ("remove", B), ("move_requests", None), ("drain_and_remove", A)],
        ),
        (
            model(B, A, State.DEPLOYING),
            replace(B, num_replicas=2),
            [("scale", B), ("move_requests", None), ("drain_and_remove", A)],
        ),
        (never(B, State.DEPLOYING), C, [("start", C), ("remove", B)]),
        (never(B, State.FAILED), C, [("start", C)]),
    ],
)
def test_what_runs_is_left_and_what_never_served_is_not_drained(
    before: Model, after: ServingSpec, found: list[tuple[str, ServingSpec | None]]
) -> None:
    """Also what failed is not taken away once more."""
    made = [(step["action"], step.get("application")) for step in steps(before, after)]
    assert made == [(act, f"{before.model_key}-{spec.build()}" if spec else None) for act, spec in found]


def test_one_and_true_differ() -> None:
    spec = ServingSpec(model_id="m", model_source="a/b", engine_kwargs={"a": 1})
    assert not same_spec(spec, replace(spec, engine_kwargs={"a": True}))
    assert differences(spec, replace(spec, engine_kwargs={"a": 1.0})) == [
        {"pointer": "/engine_kwargs/a", "from": 1, "to": 1.0}
    ]


def test_a_new_model_is_started() -> None:
    [step] = steps(None, ServingSpec(model_id="m", model_source="a/b", num_replicas=2))
    assert (step["action"], step["num_replicas"]) == ("start", 2)


def test_a_longer_life_starts_nothing() -> None:
    spec = ServingSpec(model_id="m", model_source="a/b")
    assert [step["action"] for step in steps(model(spec), replace(spec, ttl_s=5.0))] == ["record"]
