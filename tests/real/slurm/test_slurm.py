"""slurm against a real cluster: the contract of every platform, and what only Slurm has."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from moorage.launch.plane import Plane
from moorage.launch.platforms.slurm.platform import Slurm
from moorage.launch.recover import recover
from tests.contract.platform_contract import (
    SERVE,
    Make,
    PlatformContract,
    Start,
    ask,
    await_line,
    digest,
    drain,
    ignore_progress,
)
from tests.real.parts.slurm_cluster import SlurmCluster, await_so
from tests.real.slurm.services import files_of, life, make, nothing_is_left, read_file, supervisors_of

pytestmark = pytest.mark.slurm


class TestSlurm(PlatformContract):
    stop_within_s = 40.0

    @pytest.fixture
    def platform(self, environ: dict[str, str]) -> Slurm:
        return Slurm(environ)

    @pytest.fixture
    def make(self) -> Make:
        return make


def test_gpus_are_asked_for(platform: Slurm, start: Start) -> None:
    entry = start(make("echo $SLURM_JOB_GPUS; " + SERVE, gpus=None, num_gpus=2, options={"gpus_type": "h200"}))
    await_line(platform, entry, "0,1")


def test_it_moves_to_another_node_with_its_job(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    secret = uuid.uuid4().hex
    entry = start(make(secret_env={"HF_TOKEN": secret}))
    await_line(platform, entry, "listening")
    assert ask(entry, "HF_TOKEN") == digest(secret)
    before = platform.status([entry])[entry["job_id"]].fields
    number, node = before["platform_job_id"], before["slurm_node"]
    cluster.slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        cluster.slurm("scontrol", "requeue", number)
        await_so(lambda: life(platform, entry) == ("alive", "PENDING: BeginTime"))
        assert Path(entry["workdir"], "jobs", entry["job_id"], "env").exists()
        cluster.slurm("scontrol", "update", f"JobId={number}", "StartTime=now")
        await_so(lambda: life(platform, entry) == ("alive", None))
        assert ask(entry, "HF_TOKEN") == digest(secret)
        after = platform.status([entry])[entry["job_id"]].fields
        assert after["slurm_node"] not in (node, None)
        assert after["platform_job_id"] == number
    finally:
        cluster.slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
    platform.stop(entry)
    nothing_is_left(cluster, entry)


def test_the_end_of_the_wall_time_is_told(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    entry = start(make(options={"time": "1"}))
    await_line(platform, entry, "listening")
    cluster.slurm("scontrol", "update", f"JobId={entry['platform_job_id']}", "EndTime=now")
    await_so(lambda: life(platform, entry)[0] == "exited")
    assert "TIMEOUT: the wall time of" in str(life(platform, entry)[1])
    lines = list(platform.logs(entry, tail=None, follow=False))
    assert "DUE TO TIME LIMIT" in lines[-1]
    assert not Path(entry["workdir"], "jobs", entry["job_id"], "env").exists()


def test_a_job_that_waits_says_why_and_can_be_stopped(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    entry = start(make(options={"partition": "down"}))
    assert life(platform, entry) == ("alive", "PENDING: PartitionDown")
    assert platform.status([entry])[entry["job_id"]].outlook is None
    platform.stop(entry)
    nothing_is_left(cluster, entry)
    impossible = start(make(options={"partition": "short", "time": "60"}))
    await_so(lambda: "PartitionTimeLimit" in str(life(platform, impossible)[1]))
    assert platform.status([impossible])[impossible["job_id"]].outlook == "no_capacity"


def test_services_are_found_without_any_record(
    platform: Slurm, start: Start, cluster: SlurmCluster, tmp_path: Path
) -> None:
    elsewhere = cluster.folder.parent / "elsewhere"
    here, there = start(make()), start(make(options={"workdir": str(elsewhere)}))
    for entry in (here, there):
        await_line(platform, entry, "listening")
    # Another machine: no tunnel of ours runs there, and the port may serve something else.
    stranger = Slurm({**platform._environ, "XDG_STATE_HOME": str(tmp_path / "other")})
    found = {entry["job_id"]: entry for entry in stranger.find()}
    for entry in (here, there):
        again = found[entry["job_id"]]
        assert again["workdir"] == entry["workdir"]
        assert again["platform_job_id"] == entry["platform_job_id"]
        assert stranger.status([again])[entry["job_id"]].state == "alive"
    Path(there["workdir"], "jobs", there["job_id"], "entry.json").unlink()
    bare = {entry["job_id"]: entry for entry in stranger.find()}[there["job_id"]]
    stranger.stop(bare)
    nothing_is_left(cluster, there)


def test_a_lost_tunnel_is_made_again_when_the_service_is_found(
    platform: Slurm, start: Start, environ: dict[str, str], tmp_path: Path
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    os.kill(entry["tunnel"]["pid"], 9)
    await_so(lambda: not supervisors_of(entry))
    life = platform.status([entry])[entry["job_id"]]
    assert (life.fields["tunnel"]["state"], life.lost_tunnel is not None) == ("broken", True)
    plane = Plane({**environ, "MOORAGE_STATE_FILE": str(tmp_path / "state.json")}, platforms={"slurm": platform})
    again = {found["job_id"]: found for found in recover(plane, "slurm", ignore_progress)}[entry["job_id"]]
    assert supervisors_of(entry) == [str(again["tunnel"]["pid"])]
    ask(entry, "PATH")
    platform.stop(entry)
    assert supervisors_of(entry) == []


def test_jobs_of_other_tools_are_seen_and_stopped_by_their_number(platform: Slurm, cluster: SlurmCluster) -> None:
    number = cluster.slurm("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 1000").strip()
    entry = {"job_id": str(uuid.uuid4()), "platform": "slurm", "platform_job_id": number, "host_url": "x"}
    await_so(lambda: life(platform, entry) == ("alive", None))
    platform.stop(entry)
    assert life(platform, entry)[0] == "exited"
    cluster.await_output("CANCELLED", "squeue", "-h", "-t", "all", "-j", number, "-o", "%T")


def test_a_secret_is_seen_nowhere_on_the_cluster(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    secret = f"canary{uuid.uuid4().hex}"
    submission = make(secret_env={"HF_TOKEN": secret})
    entry = start(submission)
    await_line(platform, entry, "listening")
    number = entry["platform_job_id"]
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert secret.encode() not in b"".join(processes)
    told = [
        cluster.slurm("scontrol", "show", "job", "-dd", number),
        cluster.slurm("scontrol", "write", "batch_script", number, "-"),
        cluster.slurm("squeue", "-o", "%all"),
        repr([entry, platform.plan(submission), platform.find(), platform.status([entry]), submission]),
    ]
    assert secret not in "".join(told)
    holders = [path for path in files_of(cluster, entry) if secret.encode() in read_file(path)]
    env = Path(entry["workdir"], "jobs", entry["job_id"], "env")
    assert holders == [str(env)]
    assert (env.stat().st_mode & 0o777, env.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for log in [*(cluster.folder / "log").iterdir(), *Path(platform._environ["XDG_STATE_HOME"]).rglob("*")]:
        assert secret.encode() not in read_file(str(log))
    platform.stop(entry)
    assert not env.exists()


def test_the_environment_goes_with_the_service(platform: Slurm, start: Start) -> None:
    entry = start(make("exit 3", secret_env={"HF_TOKEN": "canary"}))
    drain(platform, entry)
    await_so(lambda: life(platform, entry)[0] == "exited")
    assert not Path(entry["workdir"], "jobs", entry["job_id"], "env").exists()


def test_the_system_s_ssh_does_as_well(platform: Slurm, start: Start, cluster: SlurmCluster) -> None:
    entry = start(make(options={"ssh_client": "openssh"}, secret_env={"HF_TOKEN": "canary"}))
    assert entry["remote"]["client"] == "openssh"
    await_line(platform, entry, "listening")
    assert ask(entry, "HF_TOKEN") == digest("canary")
    assert life(platform, entry) == ("alive", None)
    platform.stop(entry)
    nothing_is_left(cluster, entry)
