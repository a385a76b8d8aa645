"""What Ray is told of a model: the platform's word over the user's, and scaling that builds nothing anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.backends.ray_serve.rendering import digest_of, model_deployment, render, rescaled
from moorage.serving.spec.spec import Autoscaling
from tests.unit.serving.backends.ray_serve.cluster_details import CPU, GPU, wanted


def llm(one: Any, platform: Any = CPU) -> dict[str, Any]:
    config: dict[str, Any] = render(one, platform)["args"]["llm_configs"][0]
    return config


def test_a_model_on_cpus_is_an_application_of_its_own() -> None:
    one = wanted(engine_kwargs={"max_num_seqs": 16})
    told = render(one, CPU)
    assert told["name"] == one.app
    assert told["route_prefix"] == f"/ours/{one.app}"
    assert told["import_path"] == "ray.serve.llm:build_openai_app"
    config = llm(one)
    assert config["model_loading_config"] == {"model_id": one.model_id, "model_source": "/private/hf/qwen"}
    assert config["accelerator_config"] == {"kind": "cpu"} and "accelerator_type" not in config
    assert config["placement_group_config"] == {"bundle_per_worker": {"CPU": 1}}
    assert config["engine_kwargs"] == {"max_model_len": 2048, "max_num_seqs": 16, "tensor_parallel_size": 1}
    json.dumps(told)


def test_what_gpus_there_are_is_the_platforms_to_say() -> None:
    config = llm(wanted(gpus_per_replica=4), GPU)
    assert config["accelerator_type"] == "H20"
    assert "accelerator_config" not in config and "placement_group_config" not in config
    assert config["engine_kwargs"]["tensor_parallel_size"] == 4
    assert "VLLM_CPU_KVCACHE_SPACE" not in config["runtime_env"]["env_vars"]


def test_the_users_kwargs_go_before_the_platforms() -> None:
    assert llm(wanted(engine_kwargs={"max_model_len": 7}))["engine_kwargs"]["max_model_len"] == 7


@pytest.mark.parametrize(
    ("kwargs", "gpus", "shape"),
    [
        ({"tensor_parallel_size": 8}, 1, (1, None)),
        ({"pipeline_parallel_size": 2}, 4, (2, 2)),
        ({"pipeline_parallel_size": 3}, 4, (4, None)),
        ({"pipeline_parallel_size": "x"}, 2, (2, None)),
    ],
)
def test_as_many_workers_run_as_gpus_were_counted(kwargs: dict[str, Any], gpus: int, shape: tuple[int, Any]) -> None:
    told = llm(wanted(gpus_per_replica=gpus, engine_kwargs=kwargs), GPU)["engine_kwargs"]
    assert (told["tensor_parallel_size"], told.get("pipeline_parallel_size")) == shape


def test_a_folder_needs_no_hub_and_a_repo_id_does() -> None:
    folder = wanted()
    repo = replace(folder, spec=replace(folder.spec, model_source="Qwen/Qwen3-0.6B"))
    assert llm(folder)["runtime_env"]["env_vars"]["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in llm(repo)["runtime_env"]["env_vars"]


def test_ray_refuses_metrics_without_statistics() -> None:
    assert llm(wanted(engine_kwargs={"disable_log_stats": True}))["log_engine_metrics"] is False
    assert "log_engine_metrics" not in llm(wanted())


def test_a_deployment_is_called_as_ray_serve_llm_calls_it() -> None:
    assert model_deployment("alice-202601061230-qwen-0.5b") == "LLMServer:alice-202601061230-qwen-0_5b"
    assert model_deployment("Qwen/Qwen3") == "LLMServer:Qwen--Qwen3"


counts = st.integers(1, 20)
BOUNDS = ("min_replicas", "max_replicas")
scalings = st.one_of(
    st.none(), st.tuples(counts, counts).map(lambda two: Autoscaling(min_replicas=min(two), max_replicas=max(two)))
)


@given(first=counts, then=counts, scaling=scalings, later=scalings)
def test_scaling_changes_nothing_that_ray_builds_from(
    first: int, then: int, scaling: Autoscaling | None, later: Autoscaling | None
) -> None:
    """Ray builds anew when `args` differ, and when an autoscaling is given where none was, or the other way round."""
    for platform in (CPU, GPU):
        before = render(wanted(num_replicas=first, autoscaling=scaling), platform)
        after = render(wanted(num_replicas=then, autoscaling=later), platform)
        assert {**before, "deployments": None} == {**after, "deployments": None}
        given_before, given_after = (
            ["autoscaling_config" in one for one in told["deployments"]] for told in (before, after)
        )
        assert given_before == given_after == [True, False]
        bounds = after["deployments"][0]["autoscaling_config"]
        assert bounds["min_replicas"] <= bounds["initial_replicas"] <= bounds["max_replicas"]
        if later is None:
            assert bounds["min_replicas"] == bounds["max_replicas"] == then
        told = [
            [one["deployments"][0]["autoscaling_config"][name] for name in BOUNDS] + one["deployments"][1:]
            for one in (before, after)
        ]
        assert (digest_of(before) == digest_of(after)) == (told[0] == told[1])


def test_what_the_load_has_called_for_stays_when_the_bounds_change() -> None:
    """Ray goes back to `initial_replicas` when anything of a deployment differs, from however many are at work."""
    live = render(wanted(num_replicas=2, autoscaling=Autoscaling(min_replicas=1, max_replicas=8)), GPU)
    wider = wanted(num_replicas=2, autoscaling=Autoscaling(min_replicas=1, max_replicas=9))
    told = rescaled(live, wider, GPU)
    scaling = told["deployments"][0]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling.get("initial_replicas")) == (1, 9, None)
    assert digest_of(told) == digest_of(render(wider, GPU), wider.spec.build())
    assert rescaled(told, wider, GPU) == told


def test_one_that_is_told_again_unchanged_may_still_begin_where_it_should() -> None:
    """A list holds every application, also those that are only being built."""
    one = wanted(num_replicas=2, autoscaling=Autoscaling(min_replicas=1, max_replicas=8))
    live = render(one, GPU)
    assert rescaled(live, one, GPU) == live


def test_other_defaults_of_the_platform_do_not_touch_what_serves() -> None:
    one = wanted()
    live = render(one, CPU)
    grown = wanted(num_replicas=3)
    told = rescaled(live, grown, replace(CPU, engine_kwargs={"max_model_len": 9}, target_ongoing_requests=16))
    assert told["args"] == live["args"]
    assert digest_of(told) == digest_of(render(grown, CPU), grown.spec.build())


def test_a_front_grows_with_the_model_where_it_has_cpus_of_its_own() -> None:
    assert render(wanted(num_replicas=4), GPU)["deployments"][1]["num_replicas"] == 4
    assert render(wanted(num_replicas=100), GPU)["deployments"][1]["num_replicas"] == 8
    assert render(wanted(num_replicas=4), CPU)["deployments"][1]["num_replicas"] == 1
