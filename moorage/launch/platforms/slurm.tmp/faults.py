"""What sbatch's own words mean: the error to raise for a submission that was refused. Pure."""

from __future__ import annotations

import re

from moorage.errors import FailedError, MoorageError, PlatformUnreachable, PreflightError, TryAgainError, UsageError

UNCERTAIN = re.compile(
    r"socket timed out|unable to contact slurm controller|connection (?:refused|reset|timed out)|zero bytes"
    r"|unexpected message|transport endpoint|communication|temporarily unable",
    re.IGNORECASE,
)
"""The controller may have taken the job all the same: it is looked for by its name before anything is said."""
NO_CAPACITY = re.compile(
    r"requested node configuration is not available|requested partition configuration not available"
    r"|more processors requested than permitted|memory required by task is not available"
    r"|node count specification invalid|too many tasks requested|requested nodes are busy",
    re.IGNORECASE,
)
POLICY = re.compile(
    r"violates accounting/qos policy|not permitted to use|access/permission denied|time limit specification"
    r"|limit \(user|invalid account or account|account.*not permitted|job submit limit",
    re.IGNORECASE,
)
WRONG = {
    "bad_partition": re.compile(r"invalid partition", re.IGNORECASE),
    "bad_account": re.compile(r"invalid account", re.IGNORECASE),
    "bad_qos": re.compile(r"invalid qos", re.IGNORECASE),
    "bad_time": re.compile(r"invalid --time|time limit (?:is )?invalid|requested time limit", re.IGNORECASE),
    "bad_gpus_type": re.compile(r"invalid generic resource|invalid gres|invalid --gres", re.IGNORECASE),
    "bad_option": re.compile(r"invalid .*specification|unrecognized option|invalid option|invalid --", re.IGNORECASE),
}
HINTS = {
    "bad_partition": "`sinfo -s` on the cluster lists the partitions; --partition or SLURM_PARTITION names one",
    "bad_account": "`sacctmgr show associations user=$USER` lists yours; --account or SLURM_ACCOUNT names one",
    "bad_qos": "`sacctmgr show qos` lists them; leave --qos away for the default",
    "bad_time": "`sinfo -o '%P %l'` lists each partition's longest time; --time or SLURM_TIME_HOURS",
    "bad_gpus_type": "`sinfo -o '%P %G'` lists GPU types; --gpus-type, or --gpus none for an engine without one",
    "bad_option": "see the flags of slurm in its skill",
}
CAPACITY_HINT = "fewer GPUs, another --gpus-type or another --partition; `sinfo -o '%P %D %G %l'` shows what there is"


def is_uncertain(status: int, err: str) -> bool:
    """Whether a failed sbatch may have submitted the job."""
    return status > 128 or bool(UNCERTAIN.search(err))


def submit_fault(status: int, err: str) -> MoorageError:
    """The error for a sbatch that ended with `status`, in its own words."""
    words = _own_words(err) or f"sbatch ended with status {status} and said nothing"
    if status == 127 or "command not found" in err:
        return PreflightError(
            f"sbatch is not there: {words}",
            code="slurm_missing",
            hint="SLURM_HOSTNAME must name a login host; some sites put Slurm on PATH only in login shells",
        )
    if UNCERTAIN.search(err):
        return PlatformUnreachable(f"Slurm does not answer: {words}", hint="the same command may work later")
    if NO_CAPACITY.search(err):
        return TryAgainError(f"Slurm has no room for it: {words}", code="no_capacity", hint=CAPACITY_HINT)
    code = next((code for code, pattern in WRONG.items() if pattern.search(err)), None)
    if code is not None:
        return UsageError(f"Slurm refused the job: {words}", code=code, hint=HINTS[code])
    if POLICY.search(err):
        hint = "the site's limits for your account, partition or QOS; its documentation tells them"
        return PreflightError(f"Slurm refused the job: {words}", code="slurm_policy", hint=hint)
    return FailedError(f"Slurm refused the job: {words}", code="submit_failed", hint="its words say why")


def _own_words(err: str) -> str:
    """The lines that say something, without the prefix that all of them have."""
    lines = [re.sub(r"^sbatch: (?:error: )?", "", line).strip() for line in err.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))[-600:]
