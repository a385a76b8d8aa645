"""Whole services on the cluster through the command line, with the stand-in for the TAO servers on its nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer, Moor
from tests.contract.stand_ins import TEXT_ARCH, add_dataservices, command_line, until
from tests.real.parts.slurm_cluster import SlurmCluster
from tests.real.slurm.services import files_of, jobs_of, nothing_is_left, supervisors_of

pytestmark = pytest.mark.slurm

SLOW_S = 60
SLOW_SBATCH = f'"$REAL" "$@"; sleep {SLOW_S}'
"""Submits, and keeps the answer to itself."""


class Bench:
    """`moor` with a registry of its own and a login on the cluster, whose nodes have the stand-in's programs."""

    def __init__(self, cluster: SlurmCluster, environ: dict[str, str], folder: Path) -> None:
        self.cluster = cluster
        self.state_file = folder / "state.json"
        self.environ = {**environ, "MOORAGE_STATE_FILE": str(self.state_file)}
        self.moor = Moor(self.environ)
        self.model = folder / "model.d"
        self.model.mkdir()
        self.job_ids: list[str] = []

    def words(self, *flags: str) -> list[str]:
        self.job_ids.append(str(uuid.uuid4()))
        words = ["start", "--platform", "slurm", "--network-arch", TEXT_ARCH, "--model-path", str(self.model)]
        return [*words, "--container", "none", "--gpus", "none", "--job-id", self.job_ids[-1], "--json", *flags]

    def start(self, *flags: str, **options: Any) -> dict[str, Any]:
        done = self.moor(*self.words(*flags), **options)
        assert done.rc == 0, (done.out, done.err)
        entry: dict[str, Any] = done.out["data"]
        return entry

    def listed(self) -> dict[str, dict[str, Any]]:
        """Job id → entry, as `moor list` tells it."""
        services = self.moor("list", "--json").out["data"]["services"]
        return {entry["job_id"]: entry for entry in services}

    def entry(self, job_id: str) -> dict[str, Any]:
        """As the registry has it; an entry of the id alone when it has none."""
        state = json.loads(self.state_file.read_text()) if self.state_file.exists() else {}
        found: dict[str, Any] = state.get(job_id) or {"job_id": job_id, "host_port": 1}
        return found

    def request(self, job_id: str) -> Answer:
        return self.moor("request", "--job-id", job_id, "--prompt", "hello", "--accept-defaults", "--json")


@pytest.fixture
def bench(cluster: SlurmCluster, environ: dict[str, str], tmp_path: Path) -> Iterator[Bench]:
    programs = tmp_path / "programs"
    programs.mkdir()
    add_dataservices(programs)
    profile = cluster.login.home / ".bashrc"
    before = profile.read_text() if profile.exists() else ""
    profile.write_text(f"{before}PATH={programs}:$PATH\nexport TAO_SCENARIO=ready\n")
    found = Bench(cluster, environ, tmp_path)
    yield found
    found.moor("stop", "--all", "--json")
    profile.unlink(missing_ok=True)


def test_a_service_from_start_to_stop(bench: Bench, cluster: SlurmCluster) -> None:
    entry = bench.start()
    job_id = entry["job_id"]
    assert entry["state"] == "ready"
    assert entry["host_url"] == f"http://localhost:{entry['host_port']}"
    assert entry["login_host"] == "cluster"
    assert jobs_of(cluster, entry) == [entry["platform_job_id"]]
    now = bench.moor("status", "--json").out["data"]
    assert (now["state"], now["tunnel"]["state"], now["tunnel"]["pid"]) == ("ready", "up", entry["tunnel"]["pid"])
    assert now["slurm_node"] in ("node1", "node2")
    assert isinstance(now["node_port"], int)
    answer = bench.request(job_id)
    assert answer.rc == 0, answer
    assert answer.out["data"]["response"]["object"] == "chat.completion"
    assert "stage ready" in bench.moor("logs", job_id, "--json").out["data"]["lines"]
    assert bench.moor("stop", job_id, "--json").out["data"]["stopped"] == [job_id]
    nothing_is_left(cluster, entry)
    assert bench.listed() == {}


def test_three_at_once(bench: Bench, cluster: SlurmCluster) -> None:
    starts = [bench.moor.popen(*bench.words()) for _ in range(3)]
    for start in starts:
        out, err = start.communicate(timeout=180)
        assert start.returncode == 0, (out, err)
    listed = bench.listed()
    assert set(listed) == set(bench.job_ids)
    assert {job_id: entry["state"] for job_id, entry in listed.items()} == dict.fromkeys(bench.job_ids, "ready")
    assert len({entry["host_port"] for entry in listed.values()}) == 3
    assert len({(entry["slurm_node"], entry["node_port"]) for entry in listed.values()}) == 3
    for job_id in bench.job_ids:
        assert bench.request(job_id).out["data"]["job_id"] == job_id
    assert set(bench.moor("stop", "--all", "--json").out["data"]["stopped"]) == set(bench.job_ids)
    for entry in listed.values():
        nothing_is_left(cluster, entry)


def test_a_dry_run_shows_the_script_and_asks_nobody(bench: Bench) -> None:
    nowhere = {"SLURM_HOSTNAME": None, "HF_TOKEN": "canary-canary"}
    words = bench.words("--partition", "gpu", "--time", "4:00:00", "--dry-run")
    words[words.index("--model-path") + 1] = "hf_model://org/model"
    shown = bench.moor(*words, env=nowhere)
    assert shown.rc == 0, shown
    script = shown.out["data"]["plan"]["script"]
    assert script.startswith("#!/bin/bash\n")
    assert {"#SBATCH --partition=gpu", "#SBATCH --time=4:00:00"} <= set(script.splitlines())
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=True).returncode == 0
    assert "canary" not in json.dumps(shown.out) + shown.err
    assert shown.out["data"]["plan"]["secret_env"] == ["HF_TOKEN"]
    assert not bench.state_file.exists()


@pytest.mark.parametrize(
    ("flags", "env", "rc", "code"),
    [
        (("--partition", "nope"), {}, 2, "bad_partition"),
        (("--time", "soon"), {}, 2, "bad_option"),
        (("--container", "pyxis"), {}, 5, "pyxis_missing"),
        ((), {"SLURM_HOSTNAME": None}, 5, "not_configured"),
        ((), {"SLURM_HOSTNAME": "no-such-host.invalid"}, 9, "platform_unreachable"),
        (("--num-gpus", "9"), {}, 9, "no_capacity"),
        (("--partition", "short", "--time", "60"), {}, 9, "no_capacity"),
    ],
)
def test_what_cannot_start_leaves_nothing(
    bench: Bench, cluster: SlurmCluster, flags: tuple[str, ...], env: dict[str, str | None], rc: int, code: str
) -> None:
    words = bench.words(*flags)
    if "--num-gpus" in flags:
        at = words.index("--gpus")
        del words[at : at + 2]
    done = bench.moor(*words, env=env)
    assert (done.rc, done.out["error"]["code"]) == (rc, code), done
    assert done.out["error"]["hint"]
    nothing_is_left(cluster, {"job_id": bench.job_ids[-1], "host_port": 1})
    assert bench.listed() == {}


def test_a_service_that_dies_is_undone_with_its_last_words(bench: Bench, cluster: SlurmCluster) -> None:
    profile = cluster.login.home / ".bashrc"
    profile.write_text(profile.read_text() + "export TAO_SCENARIO=crash-at-start\n")
    done = bench.moor(*bench.words())
    assert (done.rc, done.out["error"]["code"]) == (8, "service_died"), done
    assert done.out["error"]["message"]
    assert done.out["data"]["log_tail"]
    nothing_is_left(cluster, {"job_id": bench.job_ids[-1], "host_port": 1})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(
    bench: Bench, cluster: SlurmCluster, sbatch_shim: Callable[[str], None], number: signal.Signals
) -> None:
    """While sbatch keeps its answer, and (the second) while the job waits in the queue."""
    if number is signal.SIGINT:
        sbatch_shim(SLOW_SBATCH)
    flags = () if number is signal.SIGINT else ("--partition", "down")
    start = bench.moor.popen(*bench.words(*flags))
    entry = {"job_id": bench.job_ids[-1], "host_port": 1}
    until(lambda: jobs_of(cluster, entry), "the job is submitted")
    began = time.monotonic()
    start.send_signal(number)
    out, err = start.communicate(timeout=120)
    assert start.returncode == 130, (out, err)
    assert time.monotonic() - began < SLOW_S / 2
    nothing_is_left(cluster, entry)
    assert bench.listed() == {}


def test_a_start_killed_before_it_noted_the_job_is_stopped_without_a_trace(
    bench: Bench, cluster: SlurmCluster, sbatch_shim: Callable[[str], None]
) -> None:
    sbatch_shim(SLOW_SBATCH)
    start = bench.moor.popen(*bench.words())
    job_id = bench.job_ids[-1]
    until(lambda: jobs_of(cluster, {"job_id": job_id}), "the job is submitted")
    start.kill()
    start.wait()
    entry = bench.entry(job_id)
    assert "platform_job_id" not in entry
    assert bench.listed()[job_id]["state"] in ("starting", "ready")
    assert bench.moor("stop", job_id, "--json").rc == 0
    nothing_is_left(cluster, entry)


def test_a_lost_state_file_is_built_again(bench: Bench, cluster: SlurmCluster) -> None:
    entry = bench.start()
    job_id = entry["job_id"]
    bench.state_file.unlink()
    assert bench.listed() == {}
    done = bench.moor("recover", "--platform", "slurm", "--json")
    assert done.rc == 0, done
    (found,) = [one for one in done.out["data"]["recovered"] if one["job_id"] == job_id]
    for name in ("platform_job_id", "host_port", "host_url", "network_arch", "model_path", "workdir"):
        assert found[name] == entry[name], name
    assert found["tunnel"]["pid"] == entry["tunnel"]["pid"]
    assert bench.request(job_id).rc == 0
    assert bench.moor("stop", job_id, "--json").rc == 0
    nothing_is_left(cluster, entry)


def test_a_tunnel_is_not_started_again_while_its_service_is_stopped(
    bench: Bench, cluster: SlurmCluster, shim: Callable[[str, str], None]
) -> None:
    entry = bench.start()
    job_id = entry["job_id"]
    first = entry["tunnel"]["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: bench.listed()[job_id]["tunnel"]["pid"] != first, "whoever looks starts it again")
    until(lambda: bench.listed()[job_id]["state"] == "ready", "it is ready again")
    begun, go = (cluster.login.home / name for name in ("scancel-begun", "scancel-go"))
    shim("scancel", f'touch {begun}; until [ -e {go} ]; do sleep 0.1; done; "$REAL" "$@"')
    stop = bench.moor.popen("stop", job_id, "--json")
    until(begun.exists, "it is being stopped")
    for pid in supervisors_of(entry):
        os.kill(int(pid), signal.SIGKILL)
    until(lambda: not supervisors_of(entry), "its tunnel is gone")
    assert bench.listed()[job_id]["tunnel"]["state"] == "broken"
    assert bench.moor("status", job_id, "--json").out["data"]["stop_requested_at"]
    assert supervisors_of(entry) == []
    lists = [bench.moor.popen("list", "--json") for _ in range(2)]
    go.touch()
    out, err = stop.communicate(timeout=120)
    assert stop.returncode == 0, (out, err)
    assert [one.wait(120) for one in lists] == [0, 0]
    nothing_is_left(cluster, entry)


def test_a_cut_link_is_seen_and_heals(bench: Bench, cluster: SlurmCluster) -> None:
    entry = bench.start()
    job_id = entry["job_id"]
    cluster.host.cut()
    try:
        until(lambda: bench.listed()[job_id]["state"] == "unknown", "the state is unknown")
        refused = bench.moor("stop", job_id, "--json")
        assert (refused.rc, refused.out["error"]["code"]) == (9, "platform_unreachable"), refused
        assert job_id in bench.listed()
    finally:
        cluster.host.restore()
    until(lambda: bench.listed()[job_id]["state"] == "ready", "it is ready again")
    assert bench.request(job_id).rc == 0


def test_no_secret_is_seen_while_a_service_starts(bench: Bench, cluster: SlurmCluster) -> None:
    secret = f"canary{uuid.uuid4().hex}"
    words = bench.words()
    words[words.index("--model-path") + 1] = "hf_model://org/model"
    start = bench.moor.popen(*words, env={"HF_TOKEN": secret})
    seen: set[str] = set()
    while start.poll() is None:
        seen |= {command_line(int(path.name)) for path in Path("/proc").glob("[1-9]*")}
        time.sleep(0.02)
    out, err = start.communicate()
    assert start.returncode == 0, (out, err)
    told = [out, err, *seen, bench.state_file.read_text(), cluster.slurm("scontrol", "show", "job", "-dd")]
    assert secret not in "".join(told)
    holders = [path for path in files_of(cluster, bench.entry(bench.job_ids[-1])) if secret in read_text(path)]
    assert [Path(path).name for path in holders] == ["env"]


def read_text(path: str) -> str:
    return Path(path).read_text(errors="replace") if Path(path).is_file() else ""
