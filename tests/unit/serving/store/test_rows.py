"""What is written down of models is read back as it was."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sqlalchemy")

from moorage.errors import UsageError
from moorage.serving.model import Condition, Model, ModelEndpoint, Progress, State
from moorage.serving.spec.spec import Adapter, Autoscaling, ServingSpec
from moorage.serving.store.reading import _born_of, _token_of
from moorage.serving.store.rows import (
    _conditions,
    _progress,
    clean,
    conditions_text,
    from_micros,
    model_of,
    progress_text,
    spec_text,
    storable,
    to_micros,
)

TEXT = st.text(st.characters(), max_size=8)  # with NUL and halves of surrogate pairs
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
SPECS = st.builds(
    ServingSpec,
    model_id=TEXT,
    model_source=TEXT,
    num_replicas=st.integers(1),
    gpus_per_replica=st.integers(1),
    engine_kwargs=st.dictionaries(TEXT, VALUES, max_size=3),
    ttl_s=NUMBERS,
    autoscaling=st.none() | st.builds(Autoscaling, min_replicas=st.integers(0), max_replicas=st.integers(1)),
    lora=st.lists(st.builds(Adapter, name=TEXT, source=TEXT), max_size=2).map(tuple),
)
ENDPOINTS = {
    "base_url": TEXT,
    "model": TEXT,
    "adapters": st.lists(TEXT, max_size=2).map(tuple),
    "key_env": st.none() | TEXT,
}
CONDITIONS = {
    "type": TEXT,
    "status": st.sampled_from([True, False, None]),
    "reason": TEXT,
    "message": TEXT,
    "changed_at": TIMES,
    "generation": st.integers(1),
}
PROGRESS = {
    "serving_generation": st.none() | st.integers(0),
    "serving": st.none() | SPECS,
    "endpoints": st.lists(st.builds(ModelEndpoint, **ENDPOINTS), max_size=2).map(tuple),
    "attempts": st.integers(0),
    "not_before": NUMBERS,
    "deadline": NUMBERS,
    "drain_until": NUMBERS,
    "draining": st.none() | SPECS,
    "serving_attempts": st.integers(0),
    "serving_not_before": NUMBERS,
}
MODELS = {
    "model_key": TEXT,
    "user_id": TEXT,
    "model_id": TEXT,
    "spec": SPECS,
    "generation": st.integers(1),
    "observed_generation": st.integers(0),
    "state": st.sampled_from(list(State)),
    "error_summary": st.none() | TEXT,
    "conditions": st.lists(st.builds(Condition, **CONDITIONS), max_size=3).map(tuple),
    "created_at": TIMES,
    "updated_at": TIMES,
    "accepted_at": TIMES,
    "progress": st.builds(Progress, **PROGRESS),
}


@pytest.mark.parametrize(
    ("kind", "tried"),
    [(Model, MODELS), (Progress, PROGRESS), (Condition, CONDITIONS), (ModelEndpoint, ENDPOINTS)],
)
def test_no_field_is_left_out_here(kind, tried):
    assert {one.name for one in fields(kind)} == set(tried)


def test_what_a_newer_program_wrote_besides_is_passed_over():
    assert _progress('{"attempts":2,"endpoints":[{"base_url":"u","model":"m","x":1}],"new":{}}') == Progress(
        attempts=2, endpoints=(ModelEndpoint(base_url="u", model="m"),)
    )
    told = '[{"type":"t","status":null,"reason":"r","changed_at":0,"generation":1,"new":2}]'
    assert _conditions(told)[0].reason == "r"


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(Model, **MODELS))
def test_a_model_is_read_back_as_it_was(model):
    texts = (spec_text(model.spec), conditions_text(model.conditions), progress_text(model.progress))
    assert all(storable(text) and text.isascii() for text in texts)
    plain = {name: getattr(model, name) for name in ("model_key", "user_id", "model_id", "generation")}
    times = {name: to_micros(getattr(model, name)) for name in ("created_at", "updated_at", "accepted_at")}
    row = SimpleNamespace(
        **plain,
        **times,
        **dict(zip(("spec", "conditions", "progress"), texts, strict=True)),
        observed_generation=model.observed_generation,
        error_summary=model.error_summary,
        state=model.state.value,
    )
    assert model_of(row) == model


@given(st.integers(0, 2**62), st.integers(-14, 14))
def test_times_are_kept_to_the_microsecond_whatever_their_zone(micros, hours):
    micros %= 2**57
    assert to_micros(from_micros(micros)) == micros
    assert to_micros(from_micros(micros).astimezone(timezone(timedelta(hours=hours)))) == micros
    assert to_micros(from_micros(micros).replace(tzinfo=None)) == micros


@given(TEXT)
def test_what_is_cleaned_can_be_stored(text):
    assert storable(clean(text))
    assert clean(text) == text or not storable(text)


@given(st.integers(0, 2**63 - 1))
def test_a_page_token_is_read_back(born):
    assert _born_of(_token_of(born)) == born


@given(st.text(max_size=12))
def test_no_other_token_is_taken(token):
    try:
        assert _token_of(_born_of(token)) == token
    except UsageError as fault:
        assert fault.code == "bad_page_token"
