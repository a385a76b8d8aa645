"""Looking at services on Slurm: what they do, what they wrote, which there are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorage.errors import MoorageError, PlatformUnreachable
from moorage.launch.platforms.life import Life
from moorage.launch.platforms.slurm.commands import (
    Answer,
    Piece,
    ask_command,
    ask_elsewhere_command,
    find_command,
    log_command,
    parse_answer,
    parse_elsewhere,
    parse_found,
    parse_log,
    parse_slurm_log,
    parse_where,
    slurm_log_command,
    where_command,
    whole_path_command,
)
from moorage.launch.platforms.slurm.faults import UNCERTAIN
from moorage.launch.platforms.slurm.logins import Logins, target_of
from moorage.launch.platforms.slurm.place import NAME_PREFIX, Place, is_folder, job_number, place_of
from moorage.launch.platforms.slurm.states import NOTHING_LEFT, Job, life_of
from moorage.launch.remote.target import RemoteTarget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.entry import Entry

ASK_S = 20.0
LIFE_S = 12.0
"""Slurm's commands try for 9 s before they say that the controller is down."""
CONNECT_S = 5.0
FOLLOW_PAUSE_S = 0.3
LIFE_EVERY_S = 2.0
"""While a log is followed: how often Slurm is asked whether the job is over, when the job itself cannot say so."""


def lives_of(logins: Logins, environ: Mapping[str, str], entries: Sequence[Entry]) -> dict[str, Life]:
    """`job_id` → life, by one question to each cluster. Raises nothing."""
    lives: dict[str, Life] = {}
    groups: dict[RemoteTarget, list[Entry]] = {}
    for entry in entries:
        if place_of(entry) is None and job_number(entry) is None:
            lives[str(entry["job_id"])] = Life(state="exited", detail="no such job", exists=False)
            continue
        try:
            groups.setdefault(target_of(entry, environ), []).append(entry)
        except MoorageError as fault:
            lives[str(entry["job_id"])] = Life(state="unknown", detail=fault.message)
    for target, group in groups.items():
        try:
            lives.update(_ask(logins, target, group))
        except MoorageError as fault:
            lives.update({str(entry["job_id"]): Life(state="unknown", detail=fault.message) for entry in group})
    return lives


def read_log(logins: Logins, target: RemoteTarget, place: Place, tail: int | None) -> Iterator[str]:
    """Lines of the log as it is now, and then what Slurm said: out of memory, out of time, no such image."""
    said = parse_slurm_log(logins.ask(target, slurm_log_command(place), timeout_s=ASK_S).out)
    if tail is not None:
        said = said[-tail:] if tail else []
        tail -= len(said)
    yield from _service_lines(logins, target, place, tail)
    yield from said


def _service_lines(logins: Logins, target: RemoteTarget, place: Place, tail: int | None) -> Iterator[str]:
    rest, offset = b"", 0
    while True:
        piece = _piece(logins, target, place, offset, tail)
        *lines, rest = (rest + piece.data).split(b"\n")
        yield from map(_text, lines)
        offset += len(piece.data)
        if tail is not None or not piece.data or offset >= piece.size:
            break
    if rest:
        yield _text(rest)


def follow_log(
    logins: Logins, environ: Mapping[str, str], entry: Entry, place: Place, tail: int | None
) -> Iterator[str]:
    """Lines as they come, until the service has ended and its log was read to the end.

    A connection that breaks is made anew, for as long as the cluster can be reached at all.
    """
    target = target_of(entry, environ)
    first = _piece(logins, target, place, 0, tail) if tail is not None else None
    *lines, rest = first.data.split(b"\n") if first else (b"",)
    yield from map(_text, lines)
    offset = first.size if first else 0
    asked_s = time.monotonic()
    while True:
        ended = False
        if time.monotonic() - asked_s >= LIFE_EVERY_S:
            asked_s = time.monotonic()
            ended = lives_of(logins, environ, [entry])[place.job_id].state == "exited"
        piece = _piece(logins, target, place, offset, None)
        offset += len(piece.data)
        *lines, rest = (rest + piece.data).split(b"\n")
        yield from map(_text, lines)
        ended = ended or not piece.here or (piece.ended and not piece.by_slurm)
        if ended and offset >= piece.size:
            break
        if not piece.data:
            time.sleep(FOLLOW_PAUSE_S)
    if rest:
        yield _text(rest)


def find_entries(logins: Logins, target: RemoteTarget, workdir: str) -> list[Entry]:
    """Every service of ours: those with files in the work folder, and jobs by name.

    Raises PlatformUnreachable when Slurm does not answer.
    """
    fault, jobs, entries = parse_found(logins.ask(target, find_command(workdir), timeout_s=ASK_S).out)
    if fault is not None:
        raise PlatformUnreachable(f"Slurm does not answer: {fault}", hint="squeue on the login host says more")
    host = logins.host(target)
    whole = logins.ask(target, whole_path_command(workdir), timeout_s=ASK_S).out.strip()
    places = {job_id: Place(whole or workdir, job_id) for job_id in entries}
    for job in jobs.values():
        job_id = job.name.removeprefix(NAME_PREFIX)
        place = None if job.is_over or job_id in entries else _place_of_job(logins, target, job, job_id)
        if place is not None:
            places[job_id] = place
            entries[job_id] = _object(host.get(place.entry)) or _bare_entry(job_id)
    found = []
    for job_id, entry in entries.items():
        known = {"workdir": places[job_id].workdir, "remote": target.as_dict(), "login_host": host.name}
        known_job = jobs.get(places[job_id].name)
        number = {"platform_job_id": known_job.number} if known_job else {}
        found.append({**entry, **known, **number})
    return found


def _ask(logins: Logins, target: RemoteTarget, group: list[Entry]) -> dict[str, Life]:
    places = {str(entry["job_id"]): place for entry in group if (place := place_of(entry))}
    answer = Answer(None, {}, {})
    if places:
        ran = logins.ask(target, ask_command(list(places.values())), timeout_s=LIFE_S, connect_s=CONNECT_S)
        answer = parse_answer(ran.out)
    elsewhere = _ask_elsewhere(logins, target, group, answer)
    lives = {}
    for entry in group:
        job_id = str(entry["job_id"])
        name, left = f"{NAME_PREFIX}{job_id}", answer.left.get(job_id, NOTHING_LEFT)
        job = answer.jobs.get(name) or elsewhere.get(job_number(entry) or "")
        if job_id not in places:  # another tool's: it has no files of ours
            lives[job_id] = life_of(job, NOTHING_LEFT)
        elif job is None and answer.fault is not None:
            lives[job_id] = Life(state="unknown", detail=f"Slurm does not answer: {answer.fault}")
        elif job is None and left.exit_code is None and job_number(entry) is None:
            lives[job_id] = life_of(None, NOTHING_LEFT)  # its start has not come to the submission, or never did
        else:
            lives[job_id] = life_of(job, left)
    return lives


def _ask_elsewhere(logins: Logins, target: RemoteTarget, group: list[Entry], answer: Answer) -> dict[str, Job]:
    """By number: jobs that squeue did not tell of although they were submitted, and that left no exit code."""
    numbers = []
    for entry in group:
        left = answer.left.get(str(entry["job_id"]), NOTHING_LEFT)
        is_told = f"{NAME_PREFIX}{entry['job_id']}" in answer.jobs
        is_plain = (
            answer.fault is None and place_of(entry) is not None and (not left.here or left.exit_code is not None)
        )
        if not (is_told or is_plain):
            numbers.append(job_number(entry))
    known = [number for number in numbers if number is not None]
    if not known or (answer.fault is not None and UNCERTAIN.search(answer.fault)):
        return {}
    jobs = parse_elsewhere(logins.ask(target, ask_elsewhere_command(known), timeout_s=LIFE_S, connect_s=CONNECT_S).out)
    return {job.number: job for job in jobs.values()}


def _piece(logins: Logins, target: RemoteTarget, place: Place, offset: int, tail: int | None) -> Piece:
    ran = logins.ask(target, log_command(place, offset, tail), timeout_s=ASK_S)
    piece = parse_log(ran.out)
    if piece is None:
        raise PlatformUnreachable(f"the log of {place.job_id} cannot be read: {ran.err.strip() or ran.out[:200]}")
    return piece


def _place_of_job(logins: Logins, target: RemoteTarget, job: Job, job_id: str) -> Place | None:
    workdir = parse_where(logins.ask(target, where_command(job.number), timeout_s=ASK_S).out)
    return Place(workdir, job_id) if workdir and is_folder(workdir) else None


def _bare_entry(job_id: str) -> Entry:
    """For a job of ours whose entry is gone: enough to see and to stop it."""
    return {"job_id": job_id, "platform": "slurm", "network_arch": None, "host_url": None, "host_port": None}


def _object(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(data or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
