"""Submitting a service to Slurm once and only once, and taking it away again.

What sbatch answered may be lost with the connection; the job is then looked for by its name. A start that is
interrupted does not wait for that answer: by its name the job is cancelled too. A job that arrives after it was taken
back finds its entry gone and ends at once.
"""

from __future__ import annotations

import json
import time

from moorage.errors import FailedError, MoorageError, PlatformUnreachable, TryAgainError
from moorage.launch.interrupts import interruptible, raise_if_interrupted
from moorage.launch.platforms.slurm.commands import (
    ask_command,
    cancel_command,
    parse_answer,
    parse_reply,
    remove_command,
    submit_command,
)
from moorage.launch.platforms.slurm.faults import is_uncertain, submit_fault
from moorage.launch.platforms.slurm.logins import Logins, run
from moorage.launch.platforms.slurm.place import Place, quoted
from moorage.launch.remote.host import RemoteHost
from moorage.launch.remote.target import RemoteTarget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.entry import Entry

SUBMIT_S = 60.0
LOOK_FOR_S = 15.0
"""How long a job whose submission is in doubt is looked for."""
LOOK_PAUSE_S = 0.5
GRACE_S = 10
"""Between SIGTERM and SIGKILL."""
KILL_S = 40
"""What a cluster may take to end processes that were killed."""


def submit_once(logins: Logins, target: RemoteTarget, place: Place, *, script: str, env: bytes, entry: Entry) -> str:
    """Upload and submit; the job's number. When it fails nothing is left, unless the cluster cannot be reached.

    Raises UsageError, PreflightError, TryAgainError, FailedError with Slurm's own words, or PlatformUnreachable.
    """
    host = logins.host(target)
    try:
        _upload(host, place, script=script, env=env, entry=entry)
        return _submit(logins, target, host, place)
    except BaseException:
        _withdraw(logins, target, place)
        raise


def end_job(logins: Logins, target: RemoteTarget, place: Place) -> None:
    """Cancel the job, wait until it is gone, and remove its files. What is gone already is success.

    Raises FailedError when Slurm does not end it, PlatformUnreachable.
    """
    cancel_job(logins, target, place)
    removed = logins.ask(target, remove_command(place), timeout_s=SUBMIT_S)
    if removed.status != 0:
        raise FailedError(
            f"the files of {place.job_id} cannot be removed: {removed.err.strip()}",
            code="remote_file",
            next=[f"rm -rf {quoted(place.job, place.log, place.slurm_log)}"],
        )
    cancel_job(logins, target, place)  # one that was being submitted meanwhile


def _upload(host: RemoteHost, place: Place, *, script: str, env: bytes, entry: Entry) -> None:
    for folder in (place.job, f"{place.workdir}/logs"):
        host.make_folder(folder)
    host.put(place.log, b"")
    host.put(place.env, env)
    host.put(place.script, script.encode(), mode=0o700)
    host.put(place.entry, json.dumps(entry, ensure_ascii=True).encode())


def _submit(logins: Logins, target: RemoteTarget, host: RemoteHost, place: Place) -> str:
    raise_if_interrupted()
    try:
        ran = interruptible(lambda: run(host, submit_command(place), timeout_s=SUBMIT_S))
    except TryAgainError as lost:  # PlatformUnreachable among them
        return _look_for(logins, target, place, lost)
    reply = parse_reply(ran.out) if ran.status == 0 else None
    if reply is not None:
        return reply
    if ran.status == 0:
        silent = TryAgainError(
            f"sbatch gave no job number for {place.name}, and Slurm knows no such job",
            code="submit_unclear",
            hint="the same command may work now; `squeue --me` on the cluster shows your jobs",
        )
        return _look_for(logins, target, place, silent)
    fault = submit_fault(ran.status, ran.err)
    if is_uncertain(ran.status, ran.err):
        return _look_for(logins, target, place, fault)
    raise fault


def _look_for(logins: Logins, target: RemoteTarget, place: Place, otherwise: MoorageError) -> str:
    """The job by what sbatch left in a file, else by its name. Raises `otherwise` when there is none."""
    deadline = time.monotonic() + LOOK_FOR_S
    while True:
        raise_if_interrupted()
        try:
            found = _ask_for(logins, target, place)
        except PlatformUnreachable:
            found = None
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise otherwise
        time.sleep(LOOK_PAUSE_S)


def _ask_for(logins: Logins, target: RemoteTarget, place: Place) -> str | None:
    kept = logins.host(target).get(place.reply)
    reply = parse_reply((kept or b"").decode(errors="replace"))
    if reply is not None:
        return reply
    answer = parse_answer(logins.ask(target, ask_command([place]), timeout_s=SUBMIT_S).out)
    job = answer.jobs.get(place.name)
    return job.number if job else None


def _withdraw(logins: Logins, target: RemoteTarget, place: Place) -> None:
    """Best effort: what fails here is tried again by the stop that follows a failed start."""
    try:
        end_job(logins, target, place)
    except MoorageError:
        return


def cancel_job(logins: Logins, target: RemoteTarget, job: Place | str) -> None:
    """Cancel it and wait until it is gone: the job of a place, or another tool's by its number.

    Raises FailedError when Slurm does not end it, PlatformUnreachable.
    """
    left = ""
    for kill, wait_s in ((False, GRACE_S), (True, KILL_S)):
        command = cancel_command(job, kill=kill, wait_s=wait_s)
        left = logins.ask(target, command, timeout_s=wait_s + SUBMIT_S).out.strip()
        if not left:
            return
    raise FailedError(
        f"Slurm does not end the job {job.name if isinstance(job, Place) else job}: {left.splitlines()[0]}",
        code="not_ended",
        hint="its node may be down: the job ends when that comes back, and the same command may work then",
    )
