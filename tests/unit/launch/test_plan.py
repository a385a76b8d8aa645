"""What a start decides before anything happens."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import UsageError
from moorage.launch.plan import StartRequest, choose_gpus, make_plan
from moorage.launch.plane import Plane


@pytest.fixture
def plane(state_file):
    return Plane({**os.environ, "HF_TOKEN": "hf_not_to_be_shown"})


@pytest.mark.parametrize(
    ("num_gpus", "gpus", "chosen"),
    [
        (None, None, (1, None)),
        (3, None, (3, None)),
        (None, "none", (1, "none")),
        (2, "none", (2, "none")),
        (None, "0,2", (2, "0,2")),
        (2, " 0, 2 ", (2, "0,2")),
        (None, "GPU-4f2a-11", (1, "GPU-4f2a-11")),
    ],
)
def test_gpus(num_gpus, gpus, chosen):
    assert choose_gpus(num_gpus, gpus) == chosen


@pytest.mark.parametrize(
    ("num_gpus", "gpus"), [(0, None), (-1, "none"), (3, "0,2"), (None, "0,,2"), (None, "0,0"), (None, "a b")]
)
def test_gpus_that_make_no_sense(num_gpus, gpus):
    with pytest.raises(UsageError):
        choose_gpus(num_gpus, gpus)


@given(num_gpus=st.none() | st.integers(), gpus=st.none() | st.text(max_size=12))
def test_gpus_are_chosen_or_refused_and_never_fewer_than_one(num_gpus, gpus):
    try:
        count, chosen = choose_gpus(num_gpus, gpus)
    except UsageError:
        return
    assert count >= 1
    assert chosen in (None, "none") or len(chosen.split(",")) == count


@pytest.mark.parametrize(
    ("arch", "platform", "warned"),
    [("cosmos-rl", "local-process", True), ("vllm", "local-process", False), ("cosmos-rl", "local-docker", False)],
)
def test_a_server_that_listens_everywhere_is_warned_of(plane, arch, platform, warned):
    plan = make_plan(plane, StartRequest(network_arch=arch, model_path="hf_model://org/model", platform=platform))
    assert any("listens on all of them" in warning for warning in plan.warnings) == warned


def test_a_plan_shows_secrets_by_name_alone(plane):
    plan = make_plan(plane, StartRequest(network_arch="vllm", model_path="hf_model://org/model"))
    assert plan.as_data(8080)["secret_env"] == ["HF_TOKEN"]
    for text in (repr(plan), repr(plan.as_data(8080)), repr(plan.entry(8080)), repr(plan.submission(plan.entry(8080)))):
        assert "hf_not_to_be_shown" not in text


def test_the_platform_s_port_is_nowhere_but_in_the_environment(plane):
    job_id = "11111111-2222-3333-4444-555555555555"
    plans = [
        make_plan(plane, StartRequest(network_arch="vllm", model_path="/models/a b", platform=platform, job_id=job_id))
        for platform in ("local-process", "local-docker")
    ]
    assert plans[0].command == plans[1].command
    assert "${MOORAGE_PORT:-8080}" in plans[0].command


@pytest.mark.parametrize("flag", [{"mounts": ("/a:/b",)}, {"runtime": "nvidia"}])
def test_what_only_containers_have_is_refused_for_a_process(plane, flag):
    with pytest.raises(UsageError):
        make_plan(plane, StartRequest(network_arch="vllm", model_path="/models/a", **flag))


def test_an_id_that_is_no_uuid(plane):
    with pytest.raises(UsageError, match="not a UUID"):
        make_plan(plane, StartRequest(network_arch="vllm", model_path="/models/a", job_id="latest"))
