"""Ray's list of applications is replaced whole: everybody's are in it, and none comes back that was leaving."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import FailedError
from moorage.serving.backends.ray_serve.listing import document, is_ours, is_settled
from moorage.serving.backends.ray_serve.rendering import digest_of, render
from tests.unit.serving.backends.ray_serve.cluster_details import CPU, application, details, foreign, wanted


def names(body: dict[str, Any]) -> list[str]:
    return [one["name"] for one in body["applications"]]


def test_the_first_list_starts_serve_on_a_port_of_its_own() -> None:
    one = wanted()
    body = document(details(proxy=None), [one], CPU)
    assert body == {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8123},
        "applications": [render(one, CPU)],
    }


def test_what_others_declared_is_carried_over_to_the_letter() -> None:
    theirs = foreign("theirs")
    before = copy.deepcopy(theirs["deployed_app_config"])
    body = document(details(theirs, application(wanted())), [], CPU)
    assert body["applications"] == [before]


def test_what_serve_listens_on_and_its_capacity_stay() -> None:
    running = details(target_capacity=50.0, http_options={"host": "0.0.0.0", "port": 8000, "root_path": "/r", "x": 1})
    body = document(running, [], CPU)
    assert body["http_options"] == {"host": "0.0.0.0", "port": 8000, "root_path": "/r"}
    assert body["target_capacity"] == 50.0


def test_nobodys_leaving_application_is_brought_back() -> None:
    assert names(document(details(foreign("theirs", status="DELETING")), [], CPU)) == []


def test_what_serve_run_made_is_in_no_list() -> None:
    one = foreign("theirs", source="imperative", deployed_app_config=None)
    assert names(document(details(one), [], CPU)) == []


@pytest.mark.parametrize("hidden", ["env", "nothing"])
def test_what_cannot_be_carried_over_is_not_overwritten(hidden: str) -> None:
    theirs = foreign("theirs")
    if hidden == "env":
        theirs["deployed_app_config"]["runtime_env"]["env_vars"]["KEY"] = "<redacted>"
    else:
        theirs["deployed_app_config"] = None
    with pytest.raises(FailedError, match="theirs") as said:
        document(details(theirs), [wanted()], CPU)
    assert said.value.code == "ray_applications_hidden"


def test_two_control_planes_do_not_take_each_others_for_their_own() -> None:
    one = wanted()
    other = replace(CPU, owner="other")
    live = application(one, other)
    assert not is_ours(one.app, live, "ours") and is_ours(one.app, live, "other")
    assert names(document(details(live), [], CPU)) == [one.app]
    assert names(document(details(live), [], other)) == []


def test_what_runs_is_only_scaled() -> None:
    one, grown = wanted(), wanted(num_replicas=2)
    live = application(one, replace(CPU, engine_kwargs={"max_model_len": 1}))
    (told,) = document(details(live), [grown], CPU)["applications"]
    assert told["args"] == live["deployed_app_config"]["args"]
    assert told["deployments"][0]["autoscaling_config"]["min_replicas"] == 2
    assert digest_of(told) == digest_of(render(grown, CPU), grown.spec.build())


def test_what_is_leaving_and_wanted_again_is_told_anew() -> None:
    one = wanted()
    live = application(one, replace(CPU, engine_kwargs={}), status="DELETING")
    assert not is_settled(details(live), [one], CPU)
    assert document(details(live), [one], CPU)["applications"] == [render(one, CPU)]


def test_nothing_is_said_twice() -> None:
    one, two = wanted(), wanted("b", key="svc-bob-20260106-123000-abcdef")
    live = details(application(one), application(two), foreign("theirs"))
    assert is_settled(live, [two, one], CPU)
    assert not is_settled(live, [one], CPU)
    assert not is_settled(live, [one, two, wanted("c", key="svc-cid-20260106-123000-abcdef")], CPU)
    assert not is_settled(live, [replace(one, spec=replace(one.spec, num_replicas=2)), two], CPU)


keys = st.sets(st.sampled_from(["ann", "bob", "cid", "dan"]))


@given(live=keys, asked=keys, strangers=keys, replicas=st.integers(1, 3))
def test_the_list_is_theirs_and_exactly_what_is_wanted_of_ours(
    live: set[str], asked: set[str], strangers: set[str], replicas: int
) -> None:
    def one(who: str, **spec: Any) -> Any:
        return wanted("m", key=f"svc-{who}-20260106-123000-abcdef", **spec)

    there = details(*(application(one(who)) for who in live), *(foreign(who) for who in strangers))
    body = document(there, [one(who, num_replicas=replicas) for who in asked], CPU)
    assert set(names(body)) == strangers | {one(who).app for who in asked}
    assert len(names(body)) == len(set(names(body)))
    after = details(*(application(one(who, num_replicas=replicas)) for who in asked), *(foreign(w) for w in strangers))
    assert is_settled(after, [one(who, num_replicas=replicas) for who in asked], CPU)
