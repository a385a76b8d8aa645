"""Services on the cluster: started, asked, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from moorage.launch.entry import Entry
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.slurm.platform import Slurm
from tests.contract.platform_contract import SERVE, Start, ignore_progress, make_submission
from tests.real.parts.slurm_cluster import SlurmCluster


def make(command: str = SERVE, **changes: Any) -> Submission:
    """A submission that needs no container."""
    options = {"container": "none", **changes.pop("options", {})}
    return make_submission("slurm", "none", command, options=options, **changes)


def started_services(platform: Slurm) -> Iterator[Start]:
    """Preflight and submit; what was started is stopped in the end."""
    started: list[Entry] = []

    def start(submission: Submission) -> Entry:
        known = platform.preflight(submission, pull="never", report=ignore_progress)
        submission = submission._replace(label=submission.label | known)
        started.append(submission.label)
        started[-1] = submission.label | platform.submit(submission)
        return started[-1]

    yield start
    for entry in started:
        platform.stop(entry)


def life(platform: Slurm, entry: Entry) -> tuple[str, str | None]:
    found = platform.status([entry])[entry["job_id"]]
    return found.state, found.detail


def files_of(cluster: SlurmCluster, entry: Entry) -> list[str]:
    """What lies in the work folder of this service."""
    folder = Path(entry.get("workdir") or cluster.login.home / ".moorage")
    return sorted(str(path) for path in folder.rglob("*") if entry["job_id"] in str(path))


def jobs_of(cluster: SlurmCluster, entry: Entry) -> list[str]:
    """Numbers of all jobs that were ever submitted for this service."""
    told = cluster.slurm("squeue", "-h", "-t", "all", "-n", f"moorage-{entry['job_id']}", "-o", "%i")
    return told.split()


def nothing_is_left(cluster: SlurmCluster, entry: Entry) -> None:
    assert files_of(cluster, entry) == []
    assert cluster.slurm("squeue", "-h", "-n", f"moorage-{entry['job_id']}", "-o", "%T").split() == []
    assert supervisors_of(entry) == []
    assert not is_served(entry)


def is_served(entry: Entry) -> bool:
    """Whether this very service answers at its port, which another one may have by now."""
    try:
        said = requests.get(f"http://127.0.0.1:{entry['host_port']}/api/v1/health/readiness", timeout=5).text
    except requests.RequestException:
        return False
    return str(entry["job_id"]) in said


def supervisors_of(entry: Entry) -> list[str]:
    wanted = f"MOORAGE_TUNNEL={entry['job_id']}".encode()
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:
            continue
    return found


def read_file(path: str) -> bytes:
    return Path(path).read_bytes() if Path(path).is_file() else b""
