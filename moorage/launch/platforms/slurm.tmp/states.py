"""What Slurm's words for a job mean for a service. Pure.

`squeue` answers first; `scontrol` and `sacct` are read where it cannot. States come with annotations (`CANCELLED by 0`,
`CANCELLED+`), and what the job itself left, its exit code, is truer than Slurm's summary of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.launch.platforms.life import Life
from moorage.launch.platforms.slurm_nodelist import first_node

SQUEUE_FORMAT = "%i|%T|%r|%N|%B|%l|%j"
SACCT_FIELDS = "JobID,State,Reason,NodeList,Timelimit,ExitCode,JobName"

WAITING, RUNNING, LEAVING, ENDED = "waiting", "running", "leaving", "ended"
"""Not started yet, or again in the queue; serving; its processes are being ended; over."""
PHASES = {
    "PENDING": WAITING,
    "CONFIGURING": WAITING,
    "REQUEUED": WAITING,
    "REQUEUE_FED": WAITING,
    "REQUEUE_HOLD": WAITING,
    "RESV_DEL_HOLD": WAITING,
    "SPECIAL_EXIT": WAITING,
    "POWER_UP_NODE": WAITING,
    "RUNNING": RUNNING,
    "SUSPENDED": RUNNING,
    "STOPPED": RUNNING,
    "RESIZING": RUNNING,
    "SIGNALING": RUNNING,
    "COMPLETING": LEAVING,
    "STAGE_OUT": LEAVING,
    "COMPLETED": ENDED,
    "FAILED": ENDED,
    "TIMEOUT": ENDED,
    "OUT_OF_MEMORY": ENDED,
    "NODE_FAIL": ENDED,
    "BOOT_FAIL": ENDED,
    "LAUNCH_FAILED": ENDED,
    "RECONFIG_FAIL": ENDED,
    "DEADLINE": ENDED,
    "CANCELLED": ENDED,
    "PREEMPTED": ENDED,
    "REVOKED": ENDED,
}
"""Slurm's word → phase. A word that is not here is a newer Slurm's: the service's state is unknown then."""

REASONS = {
    "OUT_OF_MEMORY": "it used more memory than the job was given",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "LAUNCH_FAILED": "it could not be launched on its node",
    "RECONFIG_FAIL": "its node could not be configured",
    "DEADLINE": "it reached its deadline",
    "CANCELLED": "the job was cancelled",
    "PREEMPTED": "another job took its place",
    "REVOKED": "another cluster took the job",
}
HELD = frozenset({"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
"""In the queue, and never started again by itself."""
HELD_REASONS = ("launch failed requeued held", "JobHoldMaxRequeue", "user env retrieval failed requeued held")
NEVER = re.compile(
    r"PartitionNodeLimit|PartitionTimeLimit|BadConstraints|\w+(?:PerJob|PerJobLimit|MinutesPerJobLimit|WallDurationPerJobLimit)"
    r"|QOSTimeLimit|AssociationTimeLimit|DependencyNeverSatisfied|NodesRequiredNotInPartition|ReservationDeleted"
)
"""Reasons of a pending job that no waiting ends: it asks for more than it may ever get."""
REFUSED = frozenset({"InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"})


class Job(NamedTuple):
    """What Slurm says of one job."""

    number: str
    state: str
    """One word, without annotations."""
    reason: str
    node: str | None
    """The one that runs it; None when none does yet."""
    limit: str
    """Its wall time, as Slurm writes it."""
    name: str
    exit_code: int | None = None
    """None where this answer does not tell."""

    @property
    def phase(self) -> str | None:
        """None for a word that is not known."""
        return PHASES.get(self.state)

    @property
    def is_over(self) -> bool:
        return self.phase == ENDED


class Left(NamedTuple):
    """What the service's files say."""

    here: bool
    """Whether they are there at all."""
    exit_code: int | None
    by_slurm: bool
    """Whether Slurm ended the service, and it did not end by itself."""
    address: Mapping[str, Any] | None


NOTHING_LEFT = Left(here=False, exit_code=None, by_slurm=False, address=None)


def state_word(text: str) -> str:
    """`CANCELLED by 1000` and `CANCELLED+` → `CANCELLED`; "" when there is none."""
    words = text.split()
    return words[0].rstrip("+*") if words else ""


def parse_squeue(text: str) -> dict[str, Job]:
    """Job name → job, of `squeue -o SQUEUE_FORMAT`. Of two with one name, which nobody makes, the living one."""
    jobs: dict[str, Job] = {}
    for line in text.splitlines():
        fields = line.split("|", 6)
        if len(fields) != 7 or not fields[0].strip().partition("_")[0].isdecimal():
            continue
        number, state, reason, nodes, host, limit, name = (field.strip() for field in fields)
        job = Job(number, state_word(state), reason, first_node(host) or first_node(nodes), limit, name)
        _keep(jobs, job)
    return jobs


def parse_scontrol(text: str) -> dict[str, Job]:
    """Job name → job, of `scontrol show job -o`."""
    jobs: dict[str, Job] = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(?:^| )([A-Za-z]\w*)=(\S*)", line))
        if "JobId" not in fields:
            continue
        node = first_node(fields.get("BatchHost", "")) or first_node(fields.get("NodeList", ""))
        code = _exit_code(fields.get("ExitCode", ""))
        word = state_word(fields.get("JobState", ""))
        limit, name = fields.get("TimeLimit", ""), fields.get("JobName", "")
        _keep(jobs, Job(fields["JobId"], word, fields.get("Reason", ""), node, limit, name, code))
    return jobs


def parse_sacct(text: str) -> dict[str, Job]:
    """Job name → job, of `sacct -X -n -P -o SACCT_FIELDS`; empty just after a submission."""
    jobs: dict[str, Job] = {}
    for line in text.splitlines():
        fields = line.split("|", 6)
        if len(fields) == 7 and fields[0].partition("_")[0].isdecimal():
            number, state, reason, nodes, limit, code, name = (field.strip() for field in fields)
            _keep(jobs, Job(number, state_word(state), reason, first_node(nodes), limit, name, _exit_code(code)))
    return jobs


def life_of(job: Job | None, left: Left) -> Life:
    """Whether the service lives. `job` None: Slurm knows no such job (any more)."""
    if job is None:
        return _forgotten(left)
    phase = job.phase
    if phase is None:
        detail = f"Slurm's word for it is {job.state or 'empty'}, which this version does not know"
        return Life(state="unknown", detail=detail, fields={"platform_job_id": job.number})
    if phase == ENDED:
        return Life(state="exited", detail=_ending(job, left), exists=left.here)
    if phase == LEAVING and left.exit_code is not None and not left.by_slurm:
        return Life(state="exited", detail=f"exit code {left.exit_code}")
    return Life(state="alive", detail=_detail(job), outlook=outlook_of(job), fields=_fields(job, left))


def outlook_of(job: Job) -> str | None:
    """`no_capacity` for a request that can never be met, `failed` for a job that will never start; else None."""
    if job.state in HELD or job.reason in HELD_REASONS:
        return "failed"
    if job.state != "PENDING":
        return None
    if job.reason in REFUSED:
        return "failed"
    return "no_capacity" if NEVER.fullmatch(job.reason) else None


def _forgotten(left: Left) -> Life:
    if not left.here:
        return Life(state="exited", detail="no such job", exists=False)
    if left.exit_code is None:
        return Life(state="exited", detail="Slurm knows no such job, and it left no exit code")
    by_whom = "ended by Slurm, " if left.by_slurm else ""
    return Life(state="exited", detail=f"{by_whom}exit code {left.exit_code}")


def _ending(job: Job, left: Left) -> str:
    if job.state == "TIMEOUT":
        return f"TIMEOUT: the wall time of {job.limit} is over"
    if job.state in REASONS:
        return f"{job.state}: {REASONS[job.state]}"
    code = left.exit_code if left.exit_code is not None else job.exit_code
    if code is not None:
        return f"exit code {code}"
    if job.state == "COMPLETED":
        return "exit code 0"
    return f"{job.state}: {job.reason}" if job.reason not in ("", "None") else job.state


def _detail(job: Job) -> str | None:
    """None while it simply runs."""
    if job.state == "RUNNING":
        return None
    said = job.reason not in ("", "None")
    return f"{job.state}: {job.reason}" if said and job.phase == WAITING else job.state


def _fields(job: Job, left: Left) -> dict[str, Any]:
    """Fields of the entry as they are now: a node only while it has one."""
    runs = job.phase == RUNNING
    port = (left.address or {}).get("port") if runs else None
    node = job.node if runs else None
    return {"platform_job_id": job.number, "slurm_node": node, "node_port": port if isinstance(port, int) else None}


def _exit_code(text: str) -> int | None:
    """`3:0` → 3; `0:9`, ended by a signal, → 137."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None:
        return None
    code, signal = int(found[1]), int(found[2])
    return code or (128 + signal if signal else 0)


def _keep(jobs: dict[str, Job], job: Job) -> None:
    known = jobs.get(job.name)
    if known is None or known.is_over:
        jobs[job.name] = job
