"""When a service ends by itself: decisions by table; the process itself is tested on real services."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.activity import Activity, from_liveness, from_metrics, parse_metrics
from moorage.launch.readiness import Answer
from moorage.launch.reaper import Limits, next_look_s, reap_reason

NAMES = ["vllm:request_success", "vllm:num_requests_running"]
METRICS = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b"} %s
# TYPE vllm:request_success counter
vllm:request_success_total{finished_reason="stop",model_name="x} y"} %s
vllm:request_success_total{finished_reason="length",model_name="x"} 2.0
python_info 1.0
"""


@pytest.mark.parametrize(
    ("now", "limits", "ends"),
    [
        (109.0, Limits(10, None), False),
        (110.0, Limits(10, None), True),
        (154.0, Limits(None, 5), False),
        (155.0, Limits(None, 5), True),
        (155.0, Limits(60, 5), True),
        (155.0, Limits(60, 6), False),
        (1e9, Limits(None, None), False),
    ],
)
def test_when_it_ends(now, limits, ends):
    assert (reap_reason(now, started_s=100.0, last_used_s=150.0, limits=limits) is not None) == ends


SECONDS = st.floats(0, 1e6)


@given(now=SECONDS, started=SECONDS, used=SECONDS, ttl=st.none() | SECONDS, idle=st.none() | SECONDS)
def test_the_next_look_is_never_late_and_never_a_busy_loop(now, started, used, ttl, idle):
    limits = Limits(ttl, idle)
    pause = next_look_s(now, started, used, limits)
    assert 0.1 <= pause <= 5.0
    if pause > 0.1 and reap_reason(now, started, used, limits) is None:
        assert reap_reason(now + pause * 0.999, started, used, limits) is None


def metrics(running, done):
    return Answer(200, (METRICS % (running, done)).encode())


def test_counters_are_summed_over_their_series():
    values = parse_metrics(METRICS % ("1.0", "3.0"), NAMES)
    assert values == {"vllm:request_success": 5.0, "vllm:num_requests_running": 1.0}


def test_engine_activity():
    first = from_metrics(metrics(0, 3), Activity(0.0), NAMES, now_s=10.0)
    assert first.last_used_s == 10.0  # nothing is known yet: that counts as use
    assert from_metrics(metrics(0, 3), first, NAMES, now_s=20.0).last_used_s == 10.0
    assert from_metrics(metrics(0, 4), first, NAMES, now_s=20.0).last_used_s == 20.0
    assert from_metrics(metrics(1, 3), first, NAMES, now_s=20.0).last_used_s == 20.0


@pytest.mark.parametrize("answer", [None, Answer(503, b""), Answer(200, b""), Answer(200, b"<html>")])
def test_what_cannot_be_read_counts_as_use(answer):
    assert from_metrics(answer, Activity(0.0), NAMES, now_s=20.0).last_used_s == 20.0
    assert from_liveness(answer, Activity(0.0), now_s=20.0).last_used_s == 20.0


@pytest.mark.parametrize(
    ("body", "last_used_s"),
    [
        ({"model_loaded": True, "idle_time_minutes": 2}, 880.0),
        ({"model_loaded": False, "idle_time_minutes": 2}, 1000.0),
        ({"model_loaded": True}, 1000.0),
        ([], 1000.0),
    ],
)
def test_tao_activity(body, last_used_s):
    answer = Answer(200, json.dumps(body).encode())
    assert from_liveness(answer, Activity(0.0), now_s=1000.0).last_used_s == last_used_s
