"""What goes wrong between here and a running job: nothing is submitted twice, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError, TryAgainError, UsageError
from moorage.launch.platforms.slurm.platform import Slurm
from tests.contract.platform_contract import (
    SERVE,
    Start,
    ask,
    await_line,
    drain,
    ignore_progress,
)
from tests.real.parts.slurm_cluster import SlurmCluster, await_so
from tests.real.slurm.services import files_of, jobs_of, life, make, nothing_is_left, supervisors_of

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("changes", "kind", "code", "said"),
    [
        ({"options": {"partition": "nope"}}, UsageError, "bad_partition", "invalid partition specified: nope"),
        ({"gpus": None, "num_gpus": 9}, TryAgainError, "no_capacity", "node configuration is not available"),
        ({"gpus": None, "options": {"gpus_type": "t4"}}, TryAgainError, "no_capacity", "not available"),
    ],
)
def test_a_refused_job_leaves_nothing(
    platform: Slurm,
    start: Start,
    cluster: SlurmCluster,
    changes: dict[str, Any],
    kind: type[MoorageError],
    code: str,
    said: str,
) -> None:
    submission = make(**changes)
    with pytest.raises(kind, match=said) as caught:
        start(submission)
    assert caught.value.code == code
    nothing_is_left(cluster, submission.label)


def test_a_silent_sbatch_is_looked_for_by_name(
    platform: Slurm, start: Start, cluster: SlurmCluster, sbatch_shim: Callable[[str], None]
) -> None:
    sbatch_shim('"$REAL" "$@" >/dev/null')
    entry = start(make())
    assert jobs_of(cluster, entry) == [entry["platform_job_id"]]
    sbatch_shim('"$REAL" "$@" >/dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1')
    entry = start(make())
    assert jobs_of(cluster, entry) == [entry["platform_job_id"]]


def test_a_connection_lost_in_the_middle_submits_once(
    platform: Slurm, start: Start, cluster: SlurmCluster, sbatch_shim: Callable[[str], None]
) -> None:
    # The connection ends before the job is submitted, and with it goes the answer.
    sbatch_shim("pkill -KILL -f '^sshd: root'; sleep 1; '/usr/bin/sbatch' \"$@\"")
    entry = start(make())
    assert jobs_of(cluster, entry) == [entry["platform_job_id"]]
    await_line(platform, entry, "listening")


def test_a_job_that_was_taken_back_before_it_began_ends_at_once(
    platform: Slurm, start: Start, cluster: SlurmCluster
) -> None:
    entry = start(make(options={"partition": "down"}))
    number = entry["platform_job_id"]
    for path in files_of(cluster, entry):
        if path.endswith("entry.json"):
            Path(path).unlink()
    cluster.slurm("scontrol", "update", f"JobId={number}", "Partition=main")
    cluster.await_output("COMPLETED", "squeue", "-h", "-t", "all", "-j", number, "-o", "%T")
    assert [path for path in files_of(cluster, entry) if path.endswith(".log")] == []


def test_a_cut_link_is_unknown_and_heals(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    ask(entry, "PATH")
    cluster.host.cut()
    try:
        fresh = Slurm(platform._environ)
        began = time.monotonic()
        assert life(fresh, entry)[0] == "unknown"
        assert time.monotonic() - began < 20
        with pytest.raises(PlatformUnreachable):
            fresh.stop(entry)
        with pytest.raises(MoorageError):
            fresh.find()
    finally:
        cluster.host.restore()
    await_so(lambda: life(platform, entry) == ("alive", None))
    ask(entry, "PATH")
    platform.stop(entry)
    nothing_is_left(cluster, entry)


def test_slurm_that_does_not_answer_is_unknown(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    entry, ended = start(make()), start(make("exit 4"))
    await_line(platform, entry, "listening")
    drain(platform, ended)
    cluster.stop_controller()
    try:
        state, detail = life(platform, entry)
        assert (state, "Slurm does not answer" in str(detail)) == ("unknown", True)
        with pytest.raises(PlatformUnreachable, match="Slurm"):
            platform.find()
    finally:
        cluster.start_controller("-c")  # it forgets every job
        cluster.await_idle()
    await_so(lambda: life(platform, ended) == ("exited", "exit code 4"))
    await_so(lambda: life(platform, entry)[0] == "exited")
    for forgotten in (entry, ended):
        platform.stop(forgotten)
        assert files_of(cluster, forgotten) == []


def test_a_doctor_who_finds_all_well(platform: Slurm) -> None:
    assert [check.message for check in platform.doctor() if not check.ok] == []


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"SLURM_HOSTNAME": ""}, "configuration", "SLURM_HOSTNAME is not set"),
        ({"SLURM_HOSTNAME": "no-such-host.invalid"}, "login", "no-such-host.invalid"),
        ({"SLURM_PARTITION": "nope"}, "partition", "no partition nope"),
        ({"SLURM_PARTITION": "down"}, "partition", "down is down"),
        ({"SLURM_BASE_RESULTS_DIR": "/proc/none"}, "work folder", "/proc/none"),
    ],
)
def test_a_doctor_who_finds_a_fault(environ: dict[str, str], changes: dict[str, str], name: str, said: str) -> None:
    failed = [check for check in Slurm({**environ, **changes}).doctor() if not check.ok]
    assert [check.name for check in failed] == [name]
    assert said in failed[0].message
    assert failed[0].hint


def test_what_a_start_needs_is_missed_before_it(environ: dict[str, str]) -> None:
    def preflight(options: dict[str, Any], **changes: str) -> None:
        Slurm({**environ, **changes}).preflight(make(options=options), pull="never", report=ignore_progress)

    for options, code in (({"container": "pyxis"}, "pyxis_missing"), ({"workdir": "/proc/x"}, "workdir_missing")):
        with pytest.raises(PreflightError) as caught:
            preflight(options)
        assert caught.value.code == code
    # The second login host answers when the first does not.
    preflight({}, SLURM_HOSTNAME="no-such-host.invalid,cluster")


KILLED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from moorage.launch.platforms.slurm.platform import Slurm
from moorage.launch.remote.paramiko_client import ParamikoHost
from tests.contract.platform_contract import ignore_progress, make_submission
step = int(sys.argv[2])
platform = Slurm(dict(os.environ))
submission = make_submission("slurm", "none", sys.argv[3], options={"container": "none"}, secret_env={"HF_TOKEN": "x"})
known = platform.preflight(submission, pull="never", report=ignore_progress)
submission = submission._replace(label=submission.label | known)
print(json.dumps(submission.label), flush=True)
done = 0
def counted(work):
    def call(*words, **options):
        global done
        if done == step:
            os.kill(os.getpid(), 9)
        done += 1
        return work(*words, **options)
    return call
for name in ("run", "put", "make_folder"):
    setattr(ParamikoHost, name, counted(getattr(ParamikoHost, name)))
platform.submit(submission)
os.kill(os.getpid(), 9)
"""
STEPS = 8
"""Folders, files, sbatch: in front of each of them, and after the last."""


def test_a_start_that_is_killed_at_any_step_is_stopped_without_a_trace(
    cluster: SlurmCluster, environ: dict[str, str]
) -> None:
    platform, submitted = Slurm(environ), []
    for step in range(STEPS):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(ROOT), str(step), SERVE],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -9, killed.stderr
        entry = json.loads(killed.stdout)
        submitted.append(bool(jobs_of(cluster, entry)))
        assert supervisors_of(entry)
        assert platform.status([entry])[entry["job_id"]].exists is submitted[-1]
        platform.stop(entry)
        nothing_is_left(cluster, entry)
    assert submitted == [False] * (STEPS - 1) + [True]
