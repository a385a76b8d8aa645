"""What a start will do, decided before anything happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError, UsageError
from moorage.launch.plan import StartRequest, choose_gpus, dry_run, make_plan
from moorage.launch.plane import Plane

TOKEN = "hf_0123456789abcdef"
JOB_ID = "12345678-1234-5678-1234-567812345678"


def plane_in(folder: Path, **environ: str) -> Plane:
    return Plane({"MOORAGE_STATE_FILE": str(folder / "state.json"), **environ})


def wanted(**changes: Any) -> StartRequest:
    return StartRequest(**{"network_arch": "vllm", "model_path": "hf_model://org/model", **changes})


@pytest.mark.parametrize(
    ("num_gpus", "gpus", "chosen"),
    [
        (None, None, (1, None)),
        (4, None, (4, None)),
        (None, "none", (1, "none")),
        (2, "none", (2, "none")),
        (None, "0", (1, "0")),
        (None, "0, 2", (2, "0,2")),
        (2, "GPU-1a-2b,3", (2, "GPU-1a-2b,3")),
    ],
)
def test_gpus(num_gpus: int | None, gpus: str | None, chosen: tuple[int, str | None]) -> None:
    assert choose_gpus(num_gpus, gpus) == chosen


@pytest.mark.parametrize(
    ("num_gpus", "gpus"),
    [(0, None), (-1, "none"), (None, ""), (None, "0,"), (None, "0,0"), (None, "all of them"), (2, "0"), (None, ";rm")],
)
def test_no_gpus(num_gpus: int | None, gpus: str | None) -> None:
    with pytest.raises(UsageError):
        choose_gpus(num_gpus, gpus)


@given(num_gpus=st.none() | st.integers(-3, 9), gpus=st.none() | st.just("none") | st.text("0123,- none", max_size=8))
def test_whatever_is_chosen_is_a_number_of_gpus_and_that_many_ids(num_gpus: int | None, gpus: str | None) -> None:
    try:
        count, ids = choose_gpus(num_gpus, gpus)
    except UsageError:
        return
    assert count >= 1
    assert num_gpus in (None, count)
    assert ids in (None, "none") or len(set(ids.split(","))) == count


def test_the_plan_names_secrets_and_holds_none(tmp_path: Path) -> None:
    plane = plane_in(tmp_path, HF_TOKEN=TOKEN, NGC_KEY=TOKEN)
    plan = make_plan(plane, wanted(job_id=JOB_ID))
    assert plan.secret_env == {"HF_TOKEN": TOKEN}
    submission = plan.submission(plan.entry(8080))
    shown = [
        plan,
        plan.as_data(8080),
        plan.entry(8080),
        submission,
        submission.label,
        submission.command,
        submission.env,
    ]
    assert TOKEN not in repr(shown)
    assert plan.as_data(8080)["secret_env"] == ["HF_TOKEN"]
    assert submission.secret_env == {"HF_TOKEN": TOKEN}


def test_the_label_is_the_entry_without_what_only_this_machine_knows(tmp_path: Path) -> None:
    plan = make_plan(plane_in(tmp_path), wanted(ttl_s=60.0, job_id=JOB_ID))
    entry = {**plan.entry(8080), "starter": {"pid": 1}, "reaper": {"pid": 2}}
    label = plan.submission(entry).label
    assert label == {name: value for name, value in entry.items() if name not in ("state", "starter", "reaper")}
    assert label["ttl_s"] == 60
    assert "idle_timeout_s" not in label
    json.dumps(label)


@pytest.mark.parametrize(
    ("platform", "image", "docker_url"),
    [("local-docker", True, f"http://{JOB_ID}:8080"), ("local-process", False, None)],
)
def test_an_entry(tmp_path: Path, platform: str, image: bool, docker_url: str | None) -> None:
    entry = make_plan(plane_in(tmp_path), wanted(platform=platform, job_id=JOB_ID)).entry(8081)
    assert (entry["host_url"], entry["host_port"], entry["state"]) == ("http://localhost:8081", 8081, "starting")
    assert (bool(entry["image"]), entry.get("docker_url")) == (image, docker_url)
    assert entry["served_model_name"] == "org/model"


@pytest.mark.parametrize("job_id", ["latest", "", "../x", "1234", f"{JOB_ID}0"])
def test_an_id_is_a_uuid(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(UsageError, match="UUID"):
        make_plan(plane_in(tmp_path), wanted(job_id=job_id))


def test_an_id_is_written_in_one_way(tmp_path: Path) -> None:
    for text in (JOB_ID, JOB_ID.upper(), f"{{{JOB_ID}}}", JOB_ID.replace("-", "")):
        assert make_plan(plane_in(tmp_path), wanted(job_id=text)).job_id == JOB_ID
    made = {make_plan(plane_in(tmp_path), wanted()).job_id for _ in range(2)}
    assert len(made) == 2


@pytest.mark.parametrize("changes", [{"mounts": ("/a:/b",)}, {"runtime": "nvidia"}])
def test_what_is_for_containers_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no meaning on local-process"):
        make_plan(plane_in(tmp_path), wanted(**changes))
    make_plan(plane_in(tmp_path), wanted(platform="local-docker", **changes))


def test_a_dry_run_reads_the_registry_and_makes_nothing(tmp_path: Path) -> None:
    plane = plane_in(tmp_path / "none")
    plan, _ = dry_run(plane, wanted())
    assert plan["port"] in range(8080, 8200)
    assert not (tmp_path / "none").exists()
    with plane.registry.transaction() as state:
        state.add({"job_id": "a", "host_port": plan["port"]})
    assert dry_run(plane, wanted())[0]["port"] > plan["port"]
    with pytest.raises(ConflictError, match="held by the service a"):
        dry_run(plane, wanted(host_port=plan["port"]))


@pytest.mark.parametrize(
    ("arch", "path", "warned"),
    [("tao-dataservices", "/m/x.bin", True), ("tao-dataservices", "/m/x", False), ("vllm", "hf_model://a/b.c", False)],
)
def test_a_file_where_a_folder_is_taken_is_warned_about(tmp_path: Path, arch: str, path: str, warned: bool) -> None:
    request = wanted(network_arch=arch, model_path=path, platform="local-docker")
    assert any("looks like" in text for text in make_plan(plane_in(tmp_path), request).warnings) == warned


@pytest.mark.parametrize(
    ("arch", "platform", "warned"),
    [("cosmos-rl", "local-process", True), ("vllm", "local-process", False), ("cosmos-rl", "local-docker", False)],
)
def test_a_server_that_listens_everywhere_is_warned_of(tmp_path: Path, arch: str, platform: str, warned: bool) -> None:
    plan = make_plan(plane_in(tmp_path), wanted(network_arch=arch, platform=platform))
    assert any("listens on all of them" in warning for warning in plan.warnings) == warned


def test_the_platform_s_port_is_nowhere_but_in_the_environment(tmp_path: Path) -> None:
    plans = [
        make_plan(plane_in(tmp_path), wanted(model_path="/models/a b", platform=platform, job_id=JOB_ID))
        for platform in ("local-process", "local-docker")
    ]
    assert plans[0].command == plans[1].command
    assert "${MOORAGE_PORT:-8080}" in plans[0].command
