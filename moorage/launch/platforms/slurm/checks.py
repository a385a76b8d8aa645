"""What a cluster must have for Moorage: the checks of `doctor`, and what a start makes sure of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moorage.errors import MoorageError, PreflightError
from moorage.launch.platforms.life import Check
from moorage.launch.platforms.slurm.commands import BEGIN, prepare_command
from moorage.launch.platforms.slurm.logins import Logins
from moorage.launch.platforms.slurm.options import SlurmOptions, login_target, read_options
from moorage.launch.remote.target import RemoteTarget

ASK_S = 60.0
PYXIS_HINT = "without pyxis: --container none (the program must be on the nodes), or oci; or ask the admins for pyxis"
PARTITIONS = "sinfo -h -o '%P|%a|%l|%D|%G'"
CREDENTIALS = "~/.config/enroot/.credentials"


class Facts(NamedTuple):
    """What a login host says of itself."""

    name: str
    missing: tuple[str, ...]
    """Slurm's programs that are not on PATH."""
    pyxis: bool
    workdir: str | None
    """Absolute; None when the folder cannot be made or written to."""
    complaint: str
    """Why not."""


def prepare(logins: Logins, target: RemoteTarget, options: SlurmOptions) -> Facts:
    """Log in, make the work folder, and see what there is. Raises what `connect` raises."""
    host = logins.host(target)
    ran = logins.ask(target, prepare_command(options.workdir), timeout_s=ASK_S)
    words = [line.partition(" ") for line in ran.out.splitlines()]
    missing = tuple(rest for word, _, rest in words if word == "missing")
    workdir = next((rest for word, _, rest in words if word == "workdir"), None)
    return Facts(host.name, missing, any(word == "pyxis" for word, _, _ in words), workdir, ran.err.strip())


def require(facts: Facts, options: SlurmOptions) -> str:
    """The absolute work folder. Raises PreflightError naming what is missing and what to do."""
    if facts.missing:
        raise PreflightError(
            f"{facts.name} has no {', '.join(facts.missing)}",
            code="slurm_missing",
            hint="SLURM_HOSTNAME must name a login host; Slurm must be on PATH without a login shell (~/.bashrc)",
        )
    if facts.workdir is None:
        raise PreflightError(
            f"the work folder {options.workdir} cannot be used on {facts.name}: {facts.complaint or 'not writable'}",
            code="workdir_missing",
            hint="--workdir names a folder of yours that the login host and the nodes share",
        )
    if options.container == "pyxis" and not facts.pyxis:
        raise PreflightError(f"srun on {facts.name} has no --container-image", code="pyxis_missing", hint=PYXIS_HINT)
    return facts.workdir


def run_checks(logins: Logins, environ: Mapping[str, str]) -> list[Check]:
    """Every check, the good ones too. Raises nothing."""
    try:
        target, options = login_target({}, environ), read_options({}, environ)
    except MoorageError as fault:
        return [Check(name="configuration", ok=False, message=fault.message, hint=fault.hint)]
    checks = [Check(name="configuration", ok=True, message=f"SLURM_HOSTNAME={','.join(target.hosts)}")]
    try:
        facts = prepare(logins, target, options)
    except MoorageError as fault:
        return [*checks, _failed("login", fault)]
    checks.append(Check(name="login", ok=True, message=f"{facts.name} answers"))
    checks += [_programs(facts), _workdir(facts, options), _pyxis(facts)]
    if facts.missing:
        return checks
    try:
        return checks + _ask_slurm(logins, target, options)
    except MoorageError as fault:
        return [*checks, _failed("Slurm", fault)]


def partition_check(lines: list[str], wanted: str | None) -> Check:
    """Whether the partition is there and takes jobs; None: the cluster's default one. Pure."""
    rows = [line.split("|") for line in lines if line.count("|") == 4]
    names = sorted({row[0].rstrip("*") for row in rows})
    hint = f"--partition or SLURM_PARTITION, one of: {', '.join(names)}" if names else "sinfo on the cluster"
    if wanted is None:
        row = next((row for row in rows if row[0].endswith("*")), None)
        if row is None:
            return Check(name="partition", ok=False, message="none is given, and there is no default", hint=hint)
    else:
        row = next((row for row in rows if row[0].rstrip("*") == wanted.partition(",")[0]), None)
        if row is None:
            return Check(name="partition", ok=False, message=f"there is no partition {wanted}", hint=hint)
    name, state, limit, nodes, gpus = row
    message = f"{name.rstrip('*')} is {state}, {nodes} nodes, at most {limit}, GPUs: {gpus}"
    return Check(name="partition", ok=state == "up", message=message, hint="" if state == "up" else hint)


def _ask_slurm(logins: Logins, target: RemoteTarget, options: SlurmOptions) -> list[Check]:
    script = (
        f"{BEGIN}{PARTITIONS} || exit 1\ngrep -q nvcr.io {CREDENTIALS} 2>/dev/null && echo enroot-credentials; true\n"
    )
    ran = logins.ask(target, script, timeout_s=ASK_S)
    if ran.status != 0:
        hint = "`scontrol ping` on the login host; if the controller is down, the site must start it"
        return [Check(name="Slurm", ok=False, message=ran.err.strip() or "sinfo gave no answer", hint=hint)]
    lines = ran.out.splitlines()
    there = "enroot-credentials" in lines
    message = f"{CREDENTIALS} {'names' if there else 'does not name'} nvcr.io"
    hint = "" if there else "images of nvcr.io that need a login: add lines for it there (enroot ignores NGC_KEY)"
    return [
        Check(name="Slurm", ok=True, message="the controller answers"),
        partition_check(lines, options.partition),
        Check(name="enroot credentials", ok=True, message=message, hint=hint),
    ]


def _failed(name: str, fault: MoorageError) -> Check:
    hint = fault.hint or "`ssh` to it by hand shows more"
    return Check(name=name, ok=False, message=fault.message, hint=f"{hint}: {fault.next[0]}" if fault.next else hint)


def _programs(facts: Facts) -> Check:
    ok = not facts.missing
    message = "sbatch, squeue, scancel… are there" if ok else f"not on PATH: {', '.join(facts.missing)}"
    return Check(name="Slurm commands", ok=ok, message=message, hint="" if ok else "PATH of a shell without a terminal")


def _workdir(facts: Facts, options: SlurmOptions) -> Check:
    if facts.workdir is not None:
        return Check(name="work folder", ok=True, message=facts.workdir)
    message = f"{options.workdir}: {facts.complaint or 'not writable'}"
    return Check(name="work folder", ok=False, message=message, hint="--workdir, or SLURM_BASE_RESULTS_DIR")


def _pyxis(facts: Facts) -> Check:
    """Never a failed check: a cluster without it is a good one, for services that need no container."""
    message = "srun has --container-image" if facts.pyxis else "srun has no --container-image"
    return Check(name="pyxis", ok=True, message=message, hint="" if facts.pyxis else PYXIS_HINT)
