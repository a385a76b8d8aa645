"""From a declared model to the start of its replicas."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.plan import make_plan
from moorage.launch.plane import Plane
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.launch.starting import Terms, job_id_of, start_digest, start_request, told_digest
from moorage.serving.spec.spec import Adapter, ServingSpec
from tests.unit.serving.spec.platform_root import real_table

SPEC = ServingSpec(model_id="m", model_source="/private/hf/m", gpus_per_replica=2, engine_kwargs={"max_model_len": 64})


def wanted(**changes):
    spec = replace(SPEC, **changes)
    return Wanted(app=f"svc-a-{spec.build()}", model_key="svc-a", model_id="alice-202601010000-m", spec=spec)


@pytest.fixture
def plan(tmp_path):
    plane = Plane({"MOORAGE_STATE_FILE": str(tmp_path / "state.json"), "HOME": str(tmp_path)})
    return lambda request: make_plan(plane, request)


def test_the_dated_name_is_served_and_the_label_says_whose_it_is(plan):
    made = plan(start_request(wanted(), Terms(), scope="s", slot=3))
    entry = made.entry(8080)
    assert "--served-model-name alice-202601010000-m " in made.command
    assert made.command.endswith("--max-model-len=64")
    assert (entry["served_model_name"], entry["num_gpus"], made.gpus) == ("alice-202601010000-m", 2, None)
    labels = entry["labels"]
    assert (labels["scope"], labels["app"], labels["slot"]) == ("s", wanted().app, 3)
    assert made.submission(entry).label["labels"] == labels


def test_a_cpu_platform_gives_no_gpu(plan):
    made = plan(start_request(wanted(), Terms(accelerator="cpu"), scope="s", slot=0))
    assert (made.gpus, made.env["MOORAGE_TENSOR_PARALLEL"]) == ("none", "1")


@pytest.mark.parametrize(
    ("accelerator", "kwargs", "defaults", "workers"),
    [
        ("gpu", {}, {}, None),  # as many as GPUs, which the command says by itself
        ("gpu", {"tensor_parallel_size": 4}, {}, None),
        ("gpu", {}, {"tensor_parallel_size": 8}, None),
        ("gpu", {"pipeline_parallel_size": 2}, {}, "2"),
        ("gpu", {"pipeline_parallel_size": 2, "tensor_parallel_size": 2}, {}, "2"),
        ("gpu", {}, {"pipeline_parallel_size": 4}, "1"),
        ("gpu", {}, {"pipeline_parallel_size": 3}, None),  # a default that does not fit these GPUs
        ("gpu", {"pipeline_parallel_size": None}, {}, None),
        ("cpu", {}, {}, None),
        ("cpu", {}, {"tensor_parallel_size": 8}, None),
        ("cpu", {"tensor_parallel_size": 4}, {}, "4"),
    ],
)
def test_workers_are_as_many_as_the_gpus_that_were_counted(plan, accelerator, kwargs, defaults, workers):
    terms = Terms(accelerator=accelerator, engine_kwargs=defaults)
    one = wanted(gpus_per_replica=4, engine_kwargs=kwargs)
    request = start_request(one, terms, scope="s", slot=0)
    assert request.env.get("MOORAGE_TENSOR_PARALLEL") == workers
    made = plan(request)
    assert '--tensor-parallel-size "${MOORAGE_TENSOR_PARALLEL:-4}"' in made.command
    assert made.env.get("MOORAGE_TENSOR_PARALLEL") == (workers or ("1" if accelerator == "cpu" else None))
    assert not any("tensor" in word for word in request.extra_arguments)
    stages = [word for word in request.extra_arguments if "pipeline" in word]
    fits = {**defaults, **kwargs}.get("pipeline_parallel_size") in (2, 4)
    assert len(stages) == fits
    assert not fits or int(stages[0].rpartition("=")[2]) * int(workers or 0) == 4


def test_a_flag_that_only_says_true_is_known_here():
    terms = Terms(engine_kwargs={"disable_log_stats": True}, only_true=real_table().only_true)
    quiet = start_request(wanted(engine_kwargs={}), terms, scope="s", slot=0)
    loud = start_request(wanted(engine_kwargs={"disable_log_stats": False}), terms, scope="s", slot=0)
    assert (quiet.extra_arguments, loud.extra_arguments) == (("--disable-log-stats",), ())
    assert start_digest(wanted(), terms) == start_digest(wanted(), replace(terms, only_true=frozenset()))


def test_gpus_that_are_handed_out_are_named(plan):
    made = plan(start_request(wanted(), Terms(gpu_ids=("4", "7")), scope="s", slot=0, gpus=("4", "7")))
    assert (made.gpus, made.num_gpus) == ("4,7", 2)


def test_a_repo_id_is_a_model_of_the_hub(plan):
    made = plan(start_request(wanted(model_source="org/name"), Terms(), scope="s", slot=0))
    assert made.model_path.text == "hf_model://org/name"


def test_defaults_of_the_platform_are_under_those_of_the_spec():
    terms = Terms(engine_kwargs={"max_model_len": 1, "dtype": "auto"})
    assert start_request(wanted(), terms, scope="s", slot=0).extra_arguments == ("--dtype=auto", "--max-model-len=64")


def test_a_container_on_this_machine_gets_the_model_and_its_adapters_at_their_places():
    lora = (Adapter(name="a", source="/private/hf/a"), Adapter(name="b", source="org/b"))
    request = start_request(wanted(lora=lora), Terms(platform="local-docker"), scope="s", slot=0)
    assert request.mounts == ("/private/hf/m:/private/hf/m:ro", "/private/hf/a:/private/hf/a:ro")


@pytest.mark.parametrize(
    ("rank", "room"), [(4, 16), (16, 16), (17, 32), (300, 320), (9999, 512), ("x", 16), (True, 16)]
)
def test_there_is_room_for_the_largest_adapter(tmp_path, rank, room):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    one = wanted(lora=(Adapter(name="a", source=str(tmp_path)), Adapter(name="b", source="/nowhere")))
    request = start_request(one, Terms(), scope="s", slot=0)
    assert request.extra_arguments[:2] == ("--enable-lora", f"--max-lora-rank={room}")
    assert request.env == {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    said = replace(one, spec=replace(one.spec, engine_kwargs={"max_lora_rank": 8}))
    assert start_request(said, Terms(), scope="s", slot=0).extra_arguments == ("--enable-lora", "--max-lora-rank=8")


def test_adapters_change_what_is_told_and_never_what_is_started():
    one = wanted(lora=(Adapter(name="a", source="/a"),))
    other = wanted(lora=(Adapter(name="b", source="/b"), Adapter(name="c", source="/c")))
    assert one.app == other.app
    assert start_digest(one, Terms()) == start_digest(other, Terms())
    assert told_digest(one, Terms()) != told_digest(other, Terms())
    assert one.app != wanted().app, "a replica without any is another one"


@given(st.text(max_size=8), st.text(max_size=8), st.integers(0, 20), st.integers(0, 20))
def test_a_replica_has_one_id_and_another_has_another(scope, app, slot, other):
    assert job_id_of(scope, app, slot) == job_id_of(scope, app, slot)
    assert (job_id_of(scope, app, slot) == job_id_of(scope, app, other)) == (slot == other)
