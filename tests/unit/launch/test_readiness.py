"""What one answer of a server means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.readiness import Answer, Contract, judge, reason_of

FATAL = ("initialization_failed", "initialization_error", "model_load_failed", "model_load_error")
TAO = Contract("tao", ("/api/v1/health/readiness", "/health"), FATAL, "mine", None)
ENGINE = Contract("engine", ("/health", "/v1/models"), FATAL, "mine", "nano")


def answer(status, body):
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("index", "status", "body", "state", "reason"),
    [
        (0, 200, {"status": "ready", "job_id": "mine"}, "ready", None),
        (0, 200, {"status": "ready"}, "ready", None),
        (0, 200, {"status": "ready", "job_id": None}, "ready", None),
        (0, 200, {"status": "ready", "job_id": "other"}, "waiting", "another service answers here: job_id other"),
        (0, 503, {"status": "not_ready", "reason": "server_initializing"}, "waiting", "server_initializing"),
        (0, 503, {"status": "not_ready", "reason": "model_loading", "job_id": "mine"}, "waiting", "model_loading"),
        (0, 503, {"reason": "model_load_failed"}, "fatal", "model_load_failed"),
        (0, 503, {"reason": "initialization_failed"}, "fatal", "initialization_failed"),
        (0, 503, {"error": {"type": "model_load_error", "message": "x"}}, "fatal", "model_load_error"),
        (0, 503, {"error": {"type": "model_not_ready"}}, "waiting", "model_not_ready"),
        (
            0,
            503,
            {"reason": "model_load_failed", "job_id": "other"},
            "waiting",
            "another service answers here: job_id other",
        ),
        (0, 202, {"error": {"type": "model_loading"}}, "waiting", "model_loading"),
        (0, 200, b"<html>log in</html>", "waiting", "200 without a JSON object: another program has this port"),
        (0, 200, [1], "waiting", "200 without a JSON object: another program has this port"),
        (0, 404, {"detail": "Not Found"}, "next", None),
        (1, 200, {"model_loaded": True}, "ready", None),
        (1, 200, {"model_loaded": False}, "waiting", "model_not_loaded"),
        (1, 200, {}, "waiting", "model_not_loaded"),
        (1, 404, b"", "waiting", "no readiness route (404)"),
        (0, 500, b"oops", "waiting", "HTTP 500"),
        (0, 301, b"", "waiting", "HTTP 301"),
    ],
)
def test_tao(index, status, body, state, reason):
    verdict = judge(TAO, index, answer(status, body))
    assert (verdict.state, verdict.reason) == (state, reason)


@pytest.mark.parametrize(
    ("index", "status", "body", "state"),
    [
        (0, 200, b"", "next"),
        (0, 503, b"", "waiting"),
        (0, 404, b"", "waiting"),
        (1, 200, {"object": "list", "data": [{"id": "nano"}]}, "ready"),
        (1, 200, {"data": [{"id": "other"}]}, "waiting"),
        (1, 200, {"data": []}, "waiting"),
        (1, 200, b"<html>", "waiting"),
        (1, 401, b"", "waiting"),
    ],
)
def test_engine(index, status, body, state):
    assert judge(ENGINE, index, answer(status, body)).state == state


def test_nothing_listening_is_waiting():
    assert judge(TAO, 0, None).reason == "not listening yet"


def test_reason_wins_over_error_type():
    assert reason_of({"reason": "model_loading", "error": {"type": "model_load_error"}}) == "model_loading"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["reason", "error", "type", "data", "id"]), inner),
    max_leaves=8,
)


@given(
    contract=st.sampled_from([TAO, ENGINE]),
    index=st.integers(0, 1),
    status=st.integers(100, 599),
    body=JSON | st.binary(),
)
def test_no_answer_breaks_the_judge_and_only_200_is_ready(contract, index, status, body):
    verdict = judge(contract, index, answer(status, body))
    assert verdict.state in ("ready", "waiting", "fatal", "next")
    assert verdict.state != "ready" or status == 200
    assert verdict.reason is not None or verdict.state in ("ready", "next")
