"""What an endpoint's state means for its service: tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.platforms.lepton.states import (
    ALIVE_PHASES,
    ENDED_PHASES,
    QUEUE_PATIENCE_S,
    Clues,
    Endpoint,
    crashes_in,
    ends_in,
    issues_in,
    life_of,
    phase_of,
    url_of,
)
from moorage.launch.platforms.life import Life

NOW_S = 1_800_000_000.0
URL = "https://moorage-1.example"
ALIVE, EXITED = "alive", "exited"
NO_GPU = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."


def life(phase: str = "Starting", *, was_ready: bool = False, **clues: Any) -> Life:
    endpoint = Endpoint(name="moorage-1", phase=phase, url=URL, env={}, labels={})
    return life_of(endpoint, Clues(**clues), now_s=NOW_S, was_ready=was_ready)


@pytest.mark.parametrize(
    ("phase", "state", "detail", "outlook"),
    [
        ("Ready", ALIVE, None, None),
        ("Starting", ALIVE, "Starting", None),
        ("Updating", ALIVE, "Updating", None),
        ("Scaling", ALIVE, "Scaling", None),
        ("Migrating", ALIVE, "Migrating", None),
        ("Restarting", ALIVE, "Restarting", None),
        ("Not Ready", ALIVE, "Not Ready", None),
        ("UNK", ALIVE, "UNK", None),
        ("Something New", ALIVE, "Something New", None),
        ("Error", ALIVE, "Error", "failed"),
        ("Stopping", EXITED, "Stopping", None),
        ("Stopped", EXITED, "Stopped", None),
        ("Deleting", EXITED, "Deleting", None),
    ],
)
def test_each_phase(phase: str, state: str, detail: str | None, outlook: str | None) -> None:
    found = life(phase)
    assert (found.state, found.detail, found.outlook, found.exists) == (state, detail, outlook, True)
    assert found.fields == ({"host_url": URL} if state == ALIVE else {})


def test_one_that_is_not_there_has_left_nothing() -> None:
    found = life_of(None, Clues(), now_s=NOW_S, was_ready=True)
    assert (found.state, found.exists, found.detail) == (EXITED, False, "no such endpoint")


@pytest.mark.parametrize(
    ("state", "phase", "word"),
    [
        ("Ready", None, "Ready"),
        ("Not Ready", "Stopped", "Stopped"),
        ("NotReady", None, "Not Ready"),
        ("Not Ready", "NotReady", "Not Ready"),
        ("UNK", None, "UNK"),
        ("", "", "UNK"),
    ],
)
def test_the_phase_tells_more_than_the_state(state: str, phase: str | None, word: str) -> None:
    assert phase_of(state, phase) == word


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.example/", "https://a.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("a.example", "https://a.example"),
        (" ", None),
        (None, None),
        ("ftp://a.example", None),
        ("file:///etc/passwd", None),
    ],
)
def test_an_address_keeps_its_scheme(text: str | None, url: str | None) -> None:
    assert url_of(text) == url


def test_an_address_that_is_not_known_changes_nothing() -> None:
    endpoint = Endpoint(name="moorage-1", phase="Ready", url=None, env={}, labels={})
    assert life_of(endpoint, Clues(), now_s=NOW_S, was_ready=False).fields == {}


@pytest.mark.parametrize(
    ("issue", "outlook", "detail"),
    [
        (("NoCapacity", NO_GPU), "no_capacity", f"NoCapacity: {NO_GPU}"),
        (("NoCapacity", ""), "no_capacity", "NoCapacity"),
        (("Queueing", "waiting in line"), None, "Queueing: waiting in line"),
        (("Queueing", "insufficient quota for gpu.h100"), "no_capacity", "Queueing: insufficient quota for gpu.h100"),
        (("ConfigError", "bad command"), "failed", "ConfigError: bad command"),
        (("InProgress", "ImagePullBackOff: x:1"), "failed", "InProgress: ImagePullBackOff: x:1"),
        (("InProgress", "pulling the weights"), None, "pulling the weights"),
        (("InProgress", ""), None, "Starting"),
        (("SystemError", "node is lost"), None, "SystemError: node is lost"),
        (("RequireReadinessApproval", ""), None, "RequireReadinessApproval"),
        (("Ready", ""), None, "Starting"),
        (("Invented", "something"), None, "Invented: something"),
    ],
)
def test_each_reason_of_a_replica(issue: tuple[str, str], outlook: str | None, detail: str) -> None:
    found = life(issues=[{"reason": issue[0], "message": issue[1]}])
    assert (found.state, found.outlook, found.detail) == (ALIVE, outlook, detail)


@pytest.mark.parametrize(("age_s", "outlook"), [(QUEUE_PATIENCE_S - 1, None), (QUEUE_PATIENCE_S + 1, "no_capacity")])
def test_a_queue_is_waited_in_for_a_while(age_s: float, outlook: str | None) -> None:
    since = datetime.fromtimestamp(NOW_S - age_s, UTC).isoformat().replace("+00:00", "Z")
    assert life(issues=[{"reason": "Queueing", "message": "", "creationTimestamp": since}]).outlook == outlook


def event(reason: str, *, kind: str = "Warning", at: int = 0, who: str = "r0", **more: Any) -> dict[str, Any]:
    moment = datetime.fromtimestamp(NOW_S + at, UTC).isoformat()
    return {"type": kind, "reason": reason, "regarding": {"name": who}, "last_observed_time": moment, "count": 1} | more


@pytest.mark.parametrize(
    ("events", "outlook", "detail"),
    [
        ([event("FailedScheduling", message=NO_GPU)], "no_capacity", f"FailedScheduling: {NO_GPU}"),
        ([event("FailedScheduling", note=NO_GPU)], "no_capacity", f"FailedScheduling: {NO_GPU}"),
        ([event("FailedScheduling")], None, "FailedScheduling"),
        ([event("FailedScheduling", count=3)], "no_capacity", "FailedScheduling"),
        ([event("FailedScheduling", message="volume not bound yet")], None, "FailedScheduling: volume not bound yet"),
        ([event("QuotaExceeded")], "no_capacity", "QuotaExceeded"),
        ([event("ImagePullBackOff")], "failed", "ImagePullBackOff"),
        ([event("Failed", message='Failed to pull image "x"')], "failed", 'Failed: Failed to pull image "x"'),
        ([event("BackOff", message="restarting failed container")], None, "BackOff: restarting failed container"),
        ([event("Pulling", kind="Normal")], None, "Starting"),
        ([event("FailedScheduling", message=NO_GPU), event("Scheduled", kind="Normal", at=1)], None, "Starting"),
        (
            [event("Scheduled", kind="Normal", at=1, who="r1"), event("FailedScheduling", count=9)],
            "no_capacity",
            "FailedScheduling",
        ),
        ([event("A", at=1), event("B", at=2)], None, "B"),
    ],
)
def test_each_event(events: list[dict[str, Any]], outlook: str | None, detail: str) -> None:
    found = life(events=events)
    assert (found.outlook, found.detail) == (outlook, detail)


def ends(*codes: int, reason: str = "Error") -> list[dict[str, Any]]:
    return [{"exit_code": code, "finished_at": at, "reason": reason} for at, code in enumerate(codes)]


@pytest.mark.parametrize("phase", ["Starting", "Not Ready", "Error", "UNK"])
def test_a_container_that_ended_has_an_exit_code(phase: str) -> None:
    found = life(phase, crashes={"r0": ends(1, 17)})
    assert (found.state, found.exists, found.detail) == (EXITED, True, "exit code 17")
    assert life(phase, crashes={"r0": ends(137, reason="OOMKilled")}).detail == "OOMKilled (exit code 137)"


@pytest.mark.parametrize("phase", ["Ready", "Updating", "Scaling", "Migrating", "Restarting"])
def test_replicas_that_lepton_itself_replaces_have_not_crashed(phase: str) -> None:
    assert life(phase, crashes={"r0": ends(137)}).state == ALIVE


def test_one_that_was_ready_may_come_back_twice() -> None:
    assert life("Not Ready", was_ready=True, crashes={"r0": ends(1, 1), "r1": ends(1)}).state == ALIVE
    assert life("Not Ready", was_ready=True, crashes={"r0": ends(1, 1, 1)}).state == EXITED


def test_the_gravest_reason_counts() -> None:
    issues = [{"reason": "InProgress", "message": "x"}, {"reason": "NoCapacity"}]
    assert life(issues=issues).outlook == "no_capacity"
    assert life(issues=issues, events=[event("ErrImagePull")]).outlook == "failed"
    assert life("Error", issues=[{"reason": "SystemError", "message": "boom"}]).detail == "Error: SystemError: boom"


def test_what_the_older_family_tells_of_ends() -> None:
    assert crashes_in({"r0": [{"exit_code": 3}], "r1": []}) == {"r0": [{"exit_code": 3}]}


def test_what_a_replica_s_status_tells_is_found_at_any_depth() -> None:
    status = {"a": [{"b": {"exit_code": 3, "reason": "Error"}}], "readiness_issue": {"reason": "NoCapacity"}}
    assert list(ends_in(status)) == [{"exit_code": 3, "reason": "Error"}]
    assert list(issues_in(status)) == [{"reason": "NoCapacity"}]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["reason", "message", "exit_code", "type", "count", "regarding", "x"]), part)
    ),
    max_leaves=12,
)


@given(ODD, st.lists(st.dictionaries(st.text(max_size=6), ODD), max_size=3), st.sampled_from(sorted(ALIVE_PHASES)))
def test_no_answer_breaks_it(odd: Any, objects: list[dict[str, Any]], phase: str) -> None:
    clues = {"crashes": crashes_in(odd), "issues": [*issues_in(odd)], "events": [*objects, *issues_in(odd)]}
    found = life(phase, **clues)
    assert found.state in (ALIVE, EXITED)
    assert found.outlook in (None, "failed", "no_capacity")


@given(st.sampled_from(sorted(ENDED_PHASES)), ODD)
def test_nothing_brings_an_ended_one_back(phase: str, odd: Any) -> None:
    assert life(phase, issues=issues_in(odd), was_ready=True).state == EXITED
