"""What callers give, as requests: pure."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.client.gateway.asks import pool, sessions, trajectories
from moorage.client.gateway.asks.body import encoded, part
from moorage.client.gateway.lease_terms import LeaseTerms
from moorage.client.gateway.values import Step
from moorage.client.http.ask import Reply
from moorage.client.http.faults import fault_of
from moorage.client.http.place import address_of, key_headers
from moorage.client.http.terms import terms_of
from moorage.client.sessions.config import APIServerConfig, ServerBaseline
from moorage.client.sessions.node import state_of
from moorage.client.sessions.request import chat_request, completion_request, logprobs_request
from moorage.client.sessions.stated import configs_of
from moorage.errors import ConflictError, FailedError, NotFoundError, PreflightError, TryAgainError, UsageError

IDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20)
ASKED = [{"role": "user", "content": "x"}]


@given(
    ids=IDS,
    said=IDS,
    reward=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    metadata=st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53), max_size=3),
)
def test_steps_go_round(ids: list[int], said: list[int], reward: float | None, metadata: dict[str, Any]) -> None:
    step = Step(trajectory_uid="t", prompt_ids=ids, response_ids=said, reward=reward, metadata=metadata)
    ask = trajectories.submit([step], None)
    assert ask.content is not None
    [sent] = json.loads(ask.content)["steps"]
    assert msgspec.convert(sent, Step) == step


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_sent_as_nothing(value: float) -> None:
    step = Step(trajectory_uid="t", prompt_ids=[1], response_ids=[2], reward=value)
    for body in ({"reward": value}, {"steps": [step]}, {1: [value]}):
        with pytest.raises(UsageError, match="JSON") as caught:
            encoded(body)
        assert caught.value.code == "not_json"
    assert encoded({"reward": None, "text": "null"}) == b'{"reward":null,"text":"null"}'


@given(st.text(max_size=10))
def test_a_uid_is_one_part(text: str) -> None:
    try:
        said = part(text)
    except UsageError as fault:
        assert fault.code == "uid_wrong"
    else:
        assert said == text
        assert "/" not in said
        assert "?" not in said
        assert said not in (".", "..")


def test_what_a_call_sends() -> None:
    asked = chat_request({"messages": ASKED, "split": "eval", "model": "m", "skip_reasoning": True, "seed": None})
    assert json.loads(asked.content) == {"messages": ASKED}
    assert asked.lane == "eval"
    asked = chat_request({"messages": ASKED, "model": "m", "extra_body": {"top_k": 4}, "timeout": 3}, keep_model=True)
    assert json.loads(asked.content) == {"messages": ASKED, "model": "m", "top_k": 4}
    assert asked.timeout_s == 3.0
    assert json.loads(completion_request({"input_ids": (1, 2)}).content) == {"prompt": [1, 2]}
    assert json.loads(logprobs_request({"prompt": "x", "top_logprobs": 0}).content) == {"prompt": "x", "top_k": 1}
    for wrong in ({}, {"prompt": "x", "input_ids": [1]}):
        with pytest.raises(UsageError):
            logprobs_request(wrong)


def test_only_what_may_be_repeated_is() -> None:
    assert sessions.call("u", "chat/completions", b"{}", "key").repeatable
    assert sessions.call("u", "chat/completions", b"{}", "key").headers == {"idempotency-key": "key"}
    assert not sessions.open_call("chat/completions", b"{}").repeatable
    assert not sessions.create({}).repeatable
    assert not trajectories.init(None, None, None).repeatable
    assert pool.lease({}).repeatable
    assert pool.nack(["a", "b"], 0, False, None).done_when_repeated == {"lease_lost": 2}


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (
            422,
            {"code": "body_wrong", "detail": "d", "errors": [{"pointer": "/n", "detail": "x"}]},
            UsageError,
            "body_wrong",
        ),
        (400, {"error": {"message": "m", "code": "messages_empty", "param": "messages"}}, UsageError, "messages_empty"),
        (400, {"error": {"message": "m", "code": 400}}, UsageError, "http_400"),
        (401, {"code": "key_missing", "detail": "d"}, PreflightError, "key_missing"),
        (404, {"code": "session_unknown", "detail": "d"}, NotFoundError, "session_unknown"),
        (409, {"code": "lease_lost", "detail": "d"}, ConflictError, "lease_lost"),
        (429, {"code": "paused", "detail": "d"}, TryAgainError, "paused"),
        (502, {"type": "error", "error": {"type": "api_error", "message": "m"}}, FailedError, "http_502"),
        (500, [1], FailedError, "http_500"),
        (503, {"error": "busy"}, TryAgainError, "http_503"),
    ],
)
def test_faults(status: int, body: Any, kind: type[Exception], code: str) -> None:
    fault = fault_of(status, json.dumps(body).encode(), "http://g")
    assert type(fault) is kind
    assert fault.code == code
    assert fault.message.startswith("http://g: ")
    assert fault.data is not None
    assert fault.data["status"] == status


@given(st.integers(400, 599), st.binary(max_size=50))
def test_any_error_reply_is_a_fault(status: int, content: bytes) -> None:
    assert fault_of(status, content, "g").code


@given(st.binary(max_size=40))
def test_no_reply_breaks_a_reader(content: bytes) -> None:
    for ask in (pool.lease({}), pool.ack([]), pool.steps({}, None), sessions.create({}), sessions.nodes("u")):
        try:
            ask.read(Reply(200, {}, content))
        except FailedError as fault:
            assert fault.code == "bad_reply"


@pytest.mark.parametrize("url", ["", "x", "ftp://h", "http://", "http://u:p@h", "http://h?q", "http://h:99999"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        address_of(url)


def test_keys() -> None:
    assert key_headers("MOORAGE_KEY", {}) == {}
    assert key_headers("K", {"K": "secret"}) == {"authorization": "Bearer secret"}
    assert key_headers(None, {"MOORAGE_KEY": "secret"}) == {}
    for environ in ({}, {"K": "two words"}, {"K": "new\nline"}):
        with pytest.raises(PreflightError) as caught:
            key_headers("K", environ)
        assert "two words" not in caught.value.message
    assert "secret" not in repr(terms_of("http://h", key_env="K", environ={"K": "secret"}))


def test_when_a_run_of_leases_ends() -> None:
    assert LeaseTerms(limit=2).body(idle_for_s=0, taken=2) is None
    assert LeaseTerms(idle_s=1.0).body(idle_for_s=1.5, taken=0) is None
    body = LeaseTerms(idle_s=5.0, limit=3, max_groups=8, n_rollouts=4).body(idle_for_s=1.0, taken=1)
    assert body is not None
    assert (body["wait_s"], body["max_groups"], body["n_rollouts"]) == (4.0, 2, 4)
    endless = LeaseTerms().body(idle_for_s=1e9, taken=10**9)
    assert endless is not None
    assert endless["wait_s"] <= 60


def test_samples_that_read_the_same_are_all_there() -> None:
    node = {"full_text": "a", "tokens": [1], "masked_tokens": [1], "logprobs": [-0.1], "metadata": None}
    state = state_of([node, node], track_tree=True)
    assert len(state["nodes"]) == 2
    assert list(state["tree"]) == ["a"]


def test_servers_of_a_slurm_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\nprintf 'n1\\nn2\\nn3\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    environ = {"SLURM_JOB_NODELIST": "n[1-3]", "NUM_TRAINING_NODES": "1", "INFER_TP": "4"}
    made = configs_of(ServerBaseline(server_type="vllm"), environ, slurm=False)
    assert [one.base_url for one in made] == [f"http://n{n}:{p}/v1" for n in (2, 3) for p in (9000, 9001)]
    first = APIServerConfig(base_url="http://x/v1", api_key="k", server_type="sglang")
    made = configs_of([first], environ, slurm=True)
    assert {one.server_type for one in made} == {"sglang"}
    with pytest.raises(UsageError):
        configs_of([first], {**environ, "INFER_TP": "four"}, slurm=True)
    with pytest.raises(PreflightError):
        monkeypatch.setenv("PATH", str(tmp_path / "none"))
        configs_of([first], environ, slurm=True)
