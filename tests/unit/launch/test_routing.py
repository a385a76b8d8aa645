"""Which service a command means: the TAO skill's rules 6.0, by table and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import AmbiguousError, FailedError, MoorageError, NotFoundError, UsageError
from moorage.launch.routing import resolve


def services(*archs: str) -> dict[str, dict[str, object]]:
    return {
        f"id{index}": {"job_id": f"id{index}", "network_arch": arch, "host_url": f"http://localhost:{8080 + index}"}
        for index, arch in enumerate(archs)
    }


def test_one_service_needs_no_name():
    assert resolve(services("vllm"))["job_id"] == "id0"


def test_an_id_is_taken_as_it_is():
    assert resolve(services("vllm", "vllm"), job_id="id1")["job_id"] == "id1"


def test_an_arch_names_its_only_service():
    assert resolve(services("vllm", "cosmos-rl"), network_arch="cosmos-rl")["job_id"] == "id1"


@pytest.mark.parametrize("live_only", [False, True])
def test_two_services_are_never_chosen_between(live_only):
    with pytest.raises(AmbiguousError) as caught:
        resolve(services("vllm", "cosmos-rl"), live_only=live_only)
    assert {one["job_id"] for one in caught.value.data["candidates"]} == {"id0", "id1"}
    assert {"job_id", "network_arch", "host_url", "started_at"} <= set(caught.value.data["candidates"][0])


def test_candidates_come_newest_first():
    two = services("vllm", "vllm")
    two["id0"]["started_at"] = "2026-01-01T00:00:00+05:00"  # 19:00 UTC the day before
    two["id1"]["started_at"] = "2025-12-31T20:00:00Z"
    with pytest.raises(AmbiguousError) as caught:
        resolve(two, network_arch="vllm")
    assert [one["job_id"] for one in caught.value.data["candidates"]] == ["id1", "id0"]


@pytest.mark.parametrize("word", ["latest", "nobody", ""])
def test_an_unknown_id_is_not_found_and_latest_is_no_id(word):
    with pytest.raises(NotFoundError):
        resolve(services("vllm"), job_id=word)


def test_nothing_running_says_how_to_start():
    with pytest.raises(NotFoundError) as caught:
        resolve({})
    assert caught.value.next


def test_id_and_arch_that_disagree():
    with pytest.raises(UsageError):
        resolve(services("vllm", "cosmos-rl"), job_id="id0", network_arch="cosmos-rl")


def test_a_dead_service_is_no_candidate_for_a_request_and_one_for_a_stop():
    two = services("vllm", "vllm")
    assert resolve(two, dead={"id0"}, live_only=True)["job_id"] == "id1"
    with pytest.raises(AmbiguousError):
        resolve(two, dead={"id0"})


def test_a_dead_service_named_for_a_request():
    with pytest.raises(FailedError):
        resolve(services("vllm"), job_id="id0", dead={"id0"}, live_only=True)


ARCHS = st.sampled_from(["vllm", "cosmos-rl", "sglang"])


@given(
    archs=st.lists(ARCHS, max_size=5),
    wanted=st.none() | ARCHS,
    job_id=st.none() | st.sampled_from([f"id{index}" for index in range(5)]),
    dead=st.sets(st.sampled_from([f"id{index}" for index in range(5)])),
    live_only=st.booleans(),
)
def test_whatever_is_chosen_is_the_only_one_it_could_be(archs, wanted, job_id, dead, live_only):
    all_services = services(*archs)
    possible = {
        key
        for key, entry in all_services.items()
        if (job_id in (None, key)) and wanted in (None, entry["network_arch"]) and not (live_only and key in dead)
    }
    try:
        chosen = resolve(all_services, job_id=job_id, network_arch=wanted, dead=dead, live_only=live_only)
    except MoorageError as fault:
        assert len(possible) != 1
        assert isinstance(fault, AmbiguousError) == (len(possible) > 1)
    else:
        assert possible == {chosen["job_id"]}
