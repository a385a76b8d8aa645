"""The batch script of a service: what it says, what it never says, and that bash reads it."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.slurm.options import login_target, read_options
from moorage.launch.platforms.slurm.place import Place, choose_workdir, job_number, place_of
from moorage.launch.platforms.slurm.platform import Slurm
from moorage.launch.platforms.slurm.script import pyxis_image, render_env, render_script
from tests.contract.platform_contract import make_submission

IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl"
CANARY = "hf_canary'0123456789"

# Values of variables reach programs as bytes without NUL; sbatch refuses the line ends of DOS in a script.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=80)


def render(command: str = "umask 0 && serve", environ: dict[str, str] | None = None, **changes: Any) -> str:
    options = read_options(changes.pop("options", {}), environ or {})
    submission = make_submission("slurm", changes.pop("image", IMAGE), command, options={}, **changes)
    return render_script(submission, options, Place(options.workdir, submission.job_id))


def directives(script: str) -> list[str]:
    return re.findall(r"^#SBATCH (.*)$", script.split("\n\n")[0], flags=re.MULTILINE)


def bash_reads(script: str) -> bool:
    done = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True, check=False)
    return done.returncode == 0 and not done.stderr


def test_what_slurm_is_asked_for() -> None:
    options = {
        "partition": "gpu",
        "account": "team",
        "qos": "high",
        "time": "4:00:00",
        "gpus_type": "h200",
        "cpus": 16,
        "mem": "64G",
        "workdir": "/shared/me/moorage",
    }
    script = render(options=options, gpus=None, num_gpus=2)
    lines = directives(script)
    assert re.fullmatch(r"--job-name=moorage-[0-9a-f-]{36}", lines[0])
    assert {
        *("--partition=gpu", "--account=team", "--qos=high", "--time=4:00:00", "--mem=64G", "--cpus-per-task=16"),
        *("--gres=gpu:h200:2", "--requeue", "--open-mode=append", "--nodes=1", "--ntasks=1"),
    } <= set(lines)
    assert any(line.startswith("--output=/shared/me/moorage/logs/") for line in lines)
    assert "srun --nodes=1 --ntasks=1 --export=ALL --cpu-bind=none --mpi=none --cpus-per-task=16" in script
    assert bash_reads(script)


def test_defaults_leave_the_choice_to_the_cluster() -> None:
    lines = directives(render(gpus="none"))
    given = {line.partition("=")[0] for line in lines}
    assert given == {"--job-name", "--nodes", "--ntasks", "--requeue", "--open-mode", "--output"}
    assert any(line.startswith("--output=.moorage/logs/") for line in lines)


def test_variables_of_the_site_are_defaults() -> None:
    environ = {
        "SLURM_PARTITION": "gpu",
        "SLURM_ACCOUNT": "team",
        "SLURM_TIME_HOURS": "1.5",
        "SLURM_BASE_RESULTS_DIR": "/shared/results/",
        "SLURM_USE_REQUEUE": "false",
        "SLURM_CONTAINER_MOUNTS": "/data:/data:ro,/scratch:/scratch",
    }
    script = render(environ=environ, mounts=("/models:/models:ro",))
    assert {"--partition=gpu", "--account=team", "--time=90", "--no-requeue"} <= set(directives(script))
    assert "--output=/shared/results/moorage/logs/" in script
    assert "--container-mounts=/models:/models:ro,/data:/data:ro,/scratch:/scratch" in script
    flags = render(environ=environ, options={"partition": "other", "workdir": "~/here", "time": "30"})
    assert {"--partition=other", "--time=30"} <= set(directives(flags))
    assert "--output=here/logs/" in flags


def test_containers() -> None:
    pyxis = render(env={"A_NAME": "x"}, secret_env={"HF_TOKEN": CANARY})
    assert "--container-image=nvcr.io#nvidia/tao/tao-toolkit:7.0.1-cosmos-rl" in pyxis
    assert "--container-env=A_NAME,HF_TOKEN,MOORAGE_PORT" in pyxis
    for flag in ("--no-container-mount-home", "--no-container-entrypoint", "--container-remap-root"):
        assert flag in pyxis
    assert "--container=/bundles/tao /bin/sh" in render(image="/bundles/tao", options={"container": "oci"})
    none = render(options={"container": "none"})
    assert "srun" not in none
    assert "\n/bin/sh -c 'umask 0 && serve' >> " in none
    assert all(bash_reads(script) for script in (pyxis, none))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (IMAGE, "nvcr.io#nvidia/tao/tao-toolkit:7.0.1-cosmos-rl"),
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.32.0"),
        ("ubuntu", "ubuntu"),
        ("localhost:5000/x:1", "localhost:5000#x:1"),
        ("docker://nvcr.io/a/b:1", "nvcr.io#a/b:1"),
        ("nvcr.io#a/b:1", "nvcr.io#a/b:1"),
        ("/images/tao.sqsh", "/images/tao.sqsh"),
        ("./tao.sqsh", "./tao.sqsh"),
    ],
)
def test_images_as_pyxis_writes_them(image: str, told: str) -> None:
    assert pyxis_image(image) == told


@given(WORDS, st.sampled_from(["none", "pyxis"]))
@settings(max_examples=40)
def test_a_command_arrives_whatever_is_in_it(command: str, container: str) -> None:
    script = render(command, options={"container": container})
    assert bash_reads(script)
    assert "\r\n" not in script
    line = next(part for part in script.split("\n/bin/sh -c ")[1:]) if container == "none" else None
    if line is not None:
        word = line.rpartition(" >> ")[0]
        said = subprocess.run(
            ["bash", "-c", f"printf %s {word}"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        assert said.stdout == command.encode()


@given(WORDS)
@settings(max_examples=40)
def test_the_environment_arrives_whatever_is_in_it(value: str) -> None:
    text = render_env(make_submission("slurm", IMAGE, "true", env={"STRANGE": value}, secret_env={"EMPTY": ""}))
    script = text + b'printf "%s" "$STRANGE$EMPTY"'
    said = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert said.stdout == value.encode()


def test_no_secret_is_in_the_script() -> None:
    script = render(secret_env={"HF_TOKEN": CANARY})
    assert "canary" not in script
    assert b"HF_TOKEN=" in render_env(make_submission("slurm", IMAGE, "true", secret_env={"HF_TOKEN": CANARY}))


def test_the_plan_is_the_script_and_asks_nobody() -> None:
    submission = make_submission("slurm", IMAGE, "serve", secret_env={"HF_TOKEN": CANARY})
    plan = Slurm({}).plan(submission)
    assert plan["script"].startswith("#!/bin/bash\n#SBATCH --job-name=moorage-")
    assert plan == Slurm({}).plan(submission)
    at = submission._replace(label=submission.label | {"workdir": "/home/me/.moorage"})
    assert "--output=/home/me/.moorage/logs/" in Slurm({}).plan(at)["script"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpus": "0,1"}, "Slurm chooses the GPUs"),
        ({"runtime": "nvidia"}, "--runtime"),
        ({"options": {"container": "docker"}}, "--container 'docker'"),
        ({"options": {"container": "oci"}}, "runs a bundle"),
        ({"options": {"container": "none"}, "mounts": ("/a:/b",)}, "--mount"),
        ({"mounts": ("/a,b:/b",)}, "comma"),
        ({"mounts": ("/a:b:/b",)}, "colon"),
        ({"options": {"partition": "a b"}}, "--partition"),
        ({"options": {"partition": "x\n#SBATCH --uid=0"}}, "--partition"),
        ({"options": {"account": "--x"}}, "--account"),
        ({"options": {"time": "4h"}}, "--time"),
        ({"options": {"time": "1-2-3"}}, "--time"),
        ({"options": {"gpus_type": "h200;x"}}, "--gpus-type"),
        ({"options": {"workdir": "/a b"}}, "--workdir"),
        ({"options": {"workdir": "../x"}}, "--workdir"),
        ({"options": {"workdir": "/"}}, "--workdir"),
        ({"environ": {"SLURM_TIME_HOURS": "long"}}, "SLURM_TIME_HOURS"),
        ({"environ": {"SLURM_BASE_RESULTS_DIR": "/a/../b"}}, "SLURM_BASE_RESULTS_DIR"),
        ({"environ": {"SLURM_CONTAINER_MOUNTS": "/a:/b c"}}, "SLURM_CONTAINER_MOUNTS"),
        ({"env": {"no-name": "x"}}, "no-name"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        render(**changes)


@pytest.mark.parametrize("time", ["240", "30:00", "4:00:00", "1-12", "1-12:30", "1-12:30:00", "UNLIMITED"])
def test_times_as_sbatch_reads_them(time: str) -> None:
    assert f"--time={time}" in directives(render(options={"time": time}))


def test_where_to_log_in() -> None:
    target = login_target(
        {"ssh_client": "openssh"}, {"SLURM_HOSTNAME": "a, b", "SLURM_USER": "me", "SSH_KEY_PATH": "/k"}
    )
    assert (target.hosts, target.user, target.identity_file, target.client) == (("a", "b"), "me", "/k", "openssh")
    for environ in ({}, {"SLURM_HOSTNAME": " , "}):
        with pytest.raises(PreflightError) as caught:
            login_target({}, environ)
        assert (caught.value.code, "SLURM_HOSTNAME" in caught.value.message) == ("not_configured", True)


def test_without_a_cluster_everything_says_so() -> None:
    platform = Slurm({})
    with pytest.raises(PreflightError, match="SLURM_HOSTNAME"):
        platform.find()
    (check,) = platform.doctor()
    assert (check.ok, "SLURM_HOSTNAME" in check.message, bool(check.hint)) == (False, True, True)
    entry = {"job_id": "6f1c7a52-3d7e-4c11-9a55-0d2b8e0f6a01", "workdir": "/x"}
    assert platform.status([entry])[entry["job_id"]].state == "unknown"


def test_a_changed_entry_names_no_file_and_no_job() -> None:
    good = {"job_id": "6f1c7a52-3d7e-4c11-9a55-0d2b8e0f6a01", "workdir": "/home/me/.moorage"}
    assert place_of(good) is not None
    for change in (
        {"job_id": "../../x"},
        {"job_id": "*"},
        {"job_id": None},
        {"workdir": "/a/../b"},
        {"workdir": "/a b"},
        {"workdir": ""},
        {"workdir": 5},
    ):
        assert place_of({**good, **change}) is None
    for number in ("12; rm -rf /", "-1", "", None, [12], "١٢"):
        assert job_number({"platform_job_id": number}) is None
    assert job_number({"platform_job_id": 12}) == "12"


def test_the_work_folder() -> None:
    assert choose_workdir(None, {}) == ".moorage"
    assert choose_workdir("/shared/me/", {"SLURM_BASE_RESULTS_DIR": "/r"}) == "/shared/me"
    assert choose_workdir(None, {"SLURM_BASE_RESULTS_DIR": "/r"}) == "/r/moorage"
