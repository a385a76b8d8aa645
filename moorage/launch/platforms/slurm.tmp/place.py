"""Names and paths of one service on a Slurm cluster. Pure.

All that a service has lies in the work folder, which the login host and the nodes share:
`jobs/JOB_ID/` holds its script, its environment, the entry, and what the job reports; `logs/` what it writes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from moorage.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_FOLDER = ".moorage"
"""Under the login folder."""
RESULTS_FOLDER = "moorage"
"""Under SLURM_BASE_RESULTS_DIR."""
NAME_PREFIX = "moorage-"
JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FOLDER = re.compile(r"[\w./+@:=-]+", re.ASCII)
"""What sbatch, a shell and a container option all take as it is."""


class Place:
    """Where one service's files are, as the cluster sees them."""

    __slots__ = ("job", "job_id", "log", "name", "slurm_log", "workdir")

    def __init__(self, workdir: str, job_id: str) -> None:
        self.workdir = workdir
        self.job_id = job_id
        self.name = f"{NAME_PREFIX}{job_id}"
        """The job's name: by it Slurm is asked, so that a job whose number nobody noted is found too."""
        self.job = f"{workdir}/jobs/{job_id}"
        self.log = f"{workdir}/logs/{job_id}.log"
        """What the service writes."""
        self.slurm_log = f"{workdir}/logs/{job_id}.slurm.log"
        """What Slurm and the job script write."""

    @property
    def script(self) -> str:
        return f"{self.job}/script"

    @property
    def env(self) -> str:
        """Variables of the service, also the secret ones: for the owner alone, and gone when the job ends."""
        return f"{self.job}/env"

    @property
    def entry(self) -> str:
        """The entry as known before launch. A job that does not find it when it begins was withdrawn."""
        return f"{self.job}/entry.json"

    @property
    def address(self) -> str:
        """`{"node": …, "port": …}`, for as long as the service runs."""
        return f"{self.job}/address.json"

    @property
    def reply(self) -> str:
        """What sbatch answered: still there when the connection broke before it came."""
        return f"{self.job}/reply"


def place_of(entry: Mapping[str, Any]) -> Place | None:
    """The place of a service; None for an entry that cannot be one of ours (no UUID, no folder)."""
    job_id, workdir = entry.get("job_id"), entry.get("workdir")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        return None
    if not isinstance(workdir, str) or not is_folder(workdir):
        return None
    return Place(workdir, job_id)


def job_number(entry: Mapping[str, Any]) -> str | None:
    """Slurm's number of the job; None when it was never noted, or is none."""
    number = entry.get("platform_job_id")
    return str(number) if isinstance(number, str | int) and str(number).isascii() and str(number).isdigit() else None


def choose_workdir(given: str | None, environ: Mapping[str, str]) -> str:
    """The work folder: absolute, or relative to the login folder. Raises UsageError."""
    base = environ.get("SLURM_BASE_RESULTS_DIR")
    text = given or (f"{base.rstrip('/')}/{RESULTS_FOLDER}" if base else DEFAULT_FOLDER)
    folder = text.removeprefix("~/").rstrip("/")
    if not is_folder(folder):
        source = "--workdir" if given else "SLURM_BASE_RESULTS_DIR"
        raise UsageError(
            f"{source} {given or base!r} cannot be the work folder on the cluster",
            code="bad_workdir",
            hint="a folder that all nodes see, absolute or under the login folder, without spaces, quotes, '%' or '..'",
        )
    return folder


def is_folder(text: str) -> bool:
    return bool(FOLDER.fullmatch(text)) and text != "/" and not {"..", "."} & set(text.split("/"))


def quoted(*texts: str) -> str:
    """Words for a shell."""
    return " ".join(map(shlex.quote, texts))
