"""Shell commands for the login host, and how to read what they print. Pure.

They are for a POSIX shell with coreutils. None holds a secret: any user of the host can list processes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moorage.launch.platforms.slurm_place import NAME_PREFIX, Place, quoted
from moorage.launch.platforms.slurm_states import (
    NOTHING_LEFT,
    SACCT_FIELDS,
    SQUEUE_FORMAT,
    Job,
    Left,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
)

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
LOG_CHUNK_BYTES = 1 << 20
NUMBER = re.compile(r"\d+")
ORDINARY = re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+ (?:DUE TO JOB REQUEUE )?\*\*\*")

# Variables that would win over the script's own lines.
SBATCH_VARIABLES = (
    "SBATCH_JOB_NAME SBATCH_OUTPUT SBATCH_ERROR SBATCH_OPEN_MODE SBATCH_EXPORT SBATCH_ARRAY_INX SBATCH_WAIT "
    "SBATCH_REQUEUE SBATCH_NO_REQUEUE SBATCH_PARTITION SBATCH_ACCOUNT SBATCH_QOS SBATCH_TIMELIMIT SBATCH_CONTAINER"
)
BEGIN = "export LC_ALL=C; me=$(id -un)\n"


class Answer(NamedTuple):
    """What the cluster says of some services."""

    fault: str | None
    """Why squeue gave no answer; None when it did."""
    jobs: dict[str, Job]
    """By name."""
    left: dict[str, Left]
    """By job id."""


class Piece(NamedTuple):
    """Some of a log."""

    here: bool
    """False when the service was stopped: nothing of it is there any more."""
    ended: bool
    """Whether the service had ended by itself before this was read: what is read now may be the last."""
    by_slurm: bool
    """Whether Slurm ended a run of it: the job may be over, or in the queue again."""
    size: int
    data: bytes


def submit_command(place: Place) -> str:
    """sbatch, with its answer also kept in a file, so that it survives the connection."""
    reply = quoted(place.reply)
    return (
        f"{BEGIN}cd; unset {SBATCH_VARIABLES}\n"
        f"sbatch --parsable {quoted(place.script)} > {reply} 2> {reply}.err < /dev/null; code=$?\n"
        f"cat {reply}; cat {reply}.err >&2; exit $code\n"
    )


def parse_reply(text: str) -> str | None:
    """The job's number, of `NUMBER[;CLUSTER]`; None when there is none: then the job is to be asked for by its name."""
    found = re.search(r"^(\d+)(?:;[\w.-]+)?\s*$", text, flags=re.MULTILINE)
    return found[1] if found else None


def ask_command(places: Sequence[Place]) -> str:
    """One question about all of them: Slurm's words, and what their files say."""
    names = quoted(",".join(place.name for place in places))
    return (
        f"{BEGIN}said=$(squeue -h -u \"$me\" -t all -n {names} -o '{SQUEUE_FORMAT}' 2>&1)\n"
        'echo "=squeue $?"; printf "%s\\n" "$said"\n'
        f"for job in {quoted(*(place.job for place in places))}; do\n"
        '  echo "=files ${job##*/}"\n'
        '  [ -e "$job/entry.json" ] && echo here\n'
        '  [ -e "$job/exit" ] && sed "s/^/exit /" "$job/exit"\n'
        '  [ -e "$job/address.json" ] && sed "s/^/address /" "$job/address.json"\n'
        "done; true\n"
    )


def parse_answer(text: str) -> Answer:
    """Of `ask_command`."""
    sections = _sections(text)
    said = next((rest for head, rest in sections if head[0] == "squeue"), None)
    status = next((head[1] for head, _ in sections if head[0] == "squeue"), "1")
    fault = None if status == "0" else (said or "squeue gave no answer").strip()
    left = {head[1]: _left(rest) for head, rest in sections if head[0] == "files"}
    return Answer(fault, parse_squeue(said or "") if fault is None else {}, left)


def ask_elsewhere_command(numbers: Sequence[str]) -> str:
    """For jobs that squeue does not tell of: the controller's record, and the accounting's."""
    known = [number for number in numbers if NUMBER.fullmatch(number)]
    asked = "\n".join(f"scontrol show job -o {number} 2>/dev/null" for number in known)
    listed = ",".join(known)
    return f"{BEGIN}{asked}\necho '=sacct 0'\nsacct -X -n -P -j {listed} -o {SACCT_FIELDS} 2>/dev/null; true\n"


def parse_elsewhere(text: str) -> dict[str, Job]:
    first, _, second = text.partition("=sacct 0")
    return parse_sacct(second) | parse_scontrol(first)


def cancel_command(job: Place | str, *, kill: bool, wait_s: int) -> str:
    """scancel, then wait. Prints the state of what is still there: nothing when all is gone.

    By the name of the place's job; a job of another tool by its number.
    """
    signal = "--full --signal=KILL " if kill else ""
    which = f"-n {quoted(job.name)}" if isinstance(job, Place) else f"-j {quoted(job)}"
    ask = f'squeue -h -u "$me" {which} -o "%T %r" 2>&1 | grep -v "Invalid job id"'
    still = f'left=$({ask}); [ -n "$left" ] && [ "$(date +%s)" -lt "$end" ]'
    return (
        f'{BEGIN}scancel {signal}-u "$me" {which.removeprefix("-j ")} >/dev/null 2>&1\n'
        f"end=$(( $(date +%s) + {wait_s} ))\n"
        f"while {still}; do sleep 0.2 || sleep 1; done\n"
        'printf "%s" "$left"\n'
    )


def remove_command(place: Place) -> str:
    """Take away every file of the service."""
    return f"rm -rf {quoted(place.job)} && rm -f {quoted(place.log, place.slurm_log)}"


def prepare_command(workdir: str) -> str:
    """Make the work folder and print its whole path; say what is missing on the host."""
    programs = " ".join(PROGRAMS)
    folder = quoted(workdir)
    return (
        f"{BEGIN}umask 077\n"
        f'for name in {programs}; do command -v "$name" >/dev/null 2>&1 || echo "missing $name"; done\n'
        "srun --help 2>&1 | grep -q -e --container-image && echo pyxis\n"
        f"mkdir -p {folder}/jobs {folder}/logs && cd {folder} && [ -w jobs ] && [ -w logs ] && echo "
        '"workdir $(pwd)"\n'
    )


def log_command(place: Place, offset: int, tail: int | None) -> str:
    """A piece of the service's log from `offset` on, in base64; with `tail`, its last lines instead."""
    log = quoted(place.log)
    cut = f"tail -n {tail} " if tail is not None else f"tail -c +{offset + 1} | head -c {LOG_CHUNK_BYTES} "
    return (
        f"cd {quoted(place.job)} 2>/dev/null && [ -e entry.json ] && here=yes\n"
        '[ "$here" ] && read -r code by < exit 2>/dev/null\n'
        "cd\n"
        f"size=$(wc -c < {log} 2>/dev/null)\n"
        'echo "${here:-no} ${code:-no} ${by:-no} ${size:-0}"\n'
        f'[ "${{size:-0}}" -gt {offset} ] && head -c "$size" {log} | {cut}| base64; true\n'
    )


def parse_log(text: str) -> Piece | None:
    """None when it is no answer at all."""
    head, _, rest = text.partition("\n")
    found = re.fullmatch(r"(yes|no) (\S+) (\S+) (\d+)", head)
    if found is None:
        return None
    here, code, by, size = found.groups()
    return Piece(here == "yes", code != "no", by != "no", int(size), base64.b64decode("".join(rest.split())))


def slurm_log_command(place: Place) -> str:
    """What Slurm and the job script said, in base64: a few lines at most."""
    return f"tail -n 20 {quoted(place.slurm_log)} 2>/dev/null | head -c 20000 | base64\n"


def parse_slurm_log(text: str) -> list[str]:
    """Lines that tell something. That a job was cancelled, or put back into the queue, its state says already."""
    lines = base64.b64decode("".join(text.split())).decode(errors="replace").splitlines()
    return [line for line in lines if line.strip() and not ORDINARY.search(line)]


def find_command(workdir: str) -> str:
    """Every entry in the work folder, and every job of this user that has a name of ours."""
    return (
        f"{BEGIN}said=$(squeue -h -u \"$me\" -t all -o '{SQUEUE_FORMAT}' 2>&1); code=$?\n"
        f'echo "=squeue $code"; printf "%s\\n" "$said" | grep -e "|{NAME_PREFIX}"\n'
        f"[ $code = 0 ] || printf '%s\\n' \"$said\"\n"
        f"for job in {quoted(workdir)}/jobs/*; do\n"
        '  [ -e "$job/entry.json" ] || continue\n'
        '  echo "=entry ${job##*/}"; cat "$job/entry.json"; echo\n'
        "done; true\n"
    )


def parse_found(text: str) -> tuple[str | None, dict[str, Job], dict[str, dict[str, Any]]]:
    """(why squeue gave no answer, jobs by name, entries by job id). What is no entry is left out."""
    sections = _sections(text)
    status, said = next(((head[1], rest) for head, rest in sections if head[0] == "squeue"), ("1", ""))
    entries = {}
    for head, rest in sections:
        entry = _object(rest)
        if head[0] == "entry" and entry is not None and entry.get("job_id") == head[1]:
            entries[head[1]] = entry
    return (said.strip() or "no answer") if status != "0" else None, parse_squeue(said), entries


def whole_path_command(workdir: str) -> str:
    """The work folder as an absolute path; nothing when there is none."""
    return f"cd {quoted(workdir)} 2>/dev/null && pwd\n"


def where_command(number: str) -> str:
    """Where a job's own output goes, which tells its work folder."""
    return f"scontrol show job -o {quoted(number)} 2>/dev/null | tr ' ' '\\n' | sed -n 's/^StdOut=//p'"


def parse_where(text: str) -> str | None:
    """The work folder, out of the path of a job's output; None when it is none of ours."""
    found = re.fullmatch(r"(/.*)/logs/[0-9a-f-]{36}\.slurm\.log", text.strip())
    return found[1] if found else None


def _sections(text: str) -> list[tuple[list[str], str]]:
    """What follows each line `=WORD WORD`."""
    parts = re.split(r"^=(squeue|files|entry) (\S+)\n", text, flags=re.MULTILINE)
    return [([parts[at], parts[at + 1]], parts[at + 2]) for at in range(1, len(parts) - 2, 3)]


def _left(text: str) -> Left:
    left = NOTHING_LEFT
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "here":
            left = left._replace(here=True)
        elif word == "exit":
            code, _, by = rest.strip().partition(" ")
            if NUMBER.fullmatch(code):
                left = left._replace(exit_code=int(code), by_slurm=bool(by))
        elif word == "address":
            left = left._replace(address=_object(rest))
    return left


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return dict(value) if isinstance(value, Mapping) else None
