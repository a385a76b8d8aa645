"""The batch script of one service, and its environment file. Pure: the same plan gives the same bytes.

The script holds no secret: it sources a file that only the owner may read. The file goes when the service ends, and
stays when Slurm puts the job back into the queue, since the next run needs it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from moorage.errors import UsageError
from moorage.launch.platforms.slurm_options import SlurmOptions
from moorage.launch.platforms.slurm_place import Place, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.platforms.base import Submission

VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
FIRST_PORT, LAST_PORT = 20000, 29999
"""Below the ports that kernels give to connections."""

# Everything that the service itself does not decide: one text, filled in once.
BODY = """\
umask 077
job={job}
log={log}
[[ $job == /* ]] || {{ job=$PWD/$job; log=$PWD/$log; }}
[[ -d ${{job%/jobs/*}} ]] || {{ echo "moorage: ${{job%/jobs/*}} is not there on $(hostname)" >&2; exit 1; }}
# Without its entry the start was taken back before the job began.
[[ -e $job/entry.json ]] || {{ rm -f "$log" "${{log%.log}}.slurm.log"; exit 0; }}
rm -f "$job/exit" "$job/address.json"

free_port() {{
  local taken port try
  taken=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  for try in {{1..500}}; do
    port=$(( {first} + (RANDOM * 32768 + RANDOM) % {count} ))
    [[ $taken == *:$(printf %04X "$port")\\ * ]] || {{ echo "$port"; return; }}
  done
  return 1
}}

tell_address() {{
  local node address
  node=${{SLURMD_NODENAME:-$(hostname)}}
  address=$(scontrol show node -o "$node" 2>/dev/null | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
  printf '{{"node": "%s", "port": %d}}\\n' "${{address:-$node}}" "$MOORAGE_PORT" > "$job/address.tmp"
  mv -f "$job/address.tmp" "$job/address.json"
}}

goes_back_to_the_queue() {{
  local restarts
  restarts=$(scontrol show job -o "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/.* Restarts=\\([0-9]*\\).*/\\1/p')
  [[ ${{restarts:-unknown}} != "${{SLURM_RESTART_COUNT:-0}}" ]]
}}

ended_by=
end_by_slurm() {{
  ended_by=SIGTERM
  rm -f "$job/address.json"
  goes_back_to_the_queue || rm -f "$job/env"
}}
trap end_by_slurm TERM INT

set -a
. "$job/env" || exit 1
MOORAGE_PORT=$(free_port) || {{ echo "moorage: no free port on $(hostname)" >&2; exit 1; }}
set +a
tell_address
cd "$job" || exit 1
{run} >> "$log" 2>&1 < /dev/null &
service=$!
while :; do
  wait "$service"
  code=$?
  kill -0 "$service" 2>/dev/null || break
done
printf '%d %s\\n' "$code" "$ended_by" > "$job/exit.tmp" && mv -f "$job/exit.tmp" "$job/exit"
[[ $ended_by ]] || rm -f "$job/env" "$job/address.json"
exit "$code"
"""


def render_script(submission: Submission, options: SlurmOptions, place: Place) -> str:
    """The whole script. Raises UsageError for what Slurm or its containers cannot do."""
    check_submission(submission, options)
    directives = "\n".join(f"#SBATCH {line}" for line in _directives(submission, options, place))
    body = BODY.format(
        job=quoted(place.job),
        log=quoted(place.log),
        first=FIRST_PORT,
        count=LAST_PORT - FIRST_PORT + 1,
        run=_run(submission, options),
    )
    return f"#!/bin/bash\n{directives}\n\n{body}"


def render_env(submission: Submission) -> bytes:
    """The environment file: `NAME='value'` lines for bash, secrets among them. Never shown."""
    variables = submission.env | submission.secret_env
    lines = [f"{name}={_literal(value)}\n" for name, value in variables.items()]
    return "".join(lines).encode("utf-8", "surrogateescape")


def pyxis_image(image: str) -> str:
    """As enroot writes it: `nvcr.io/org/name:tag` → `nvcr.io#org/name:tag`. A path, or what has a `#`, stays."""
    if image.startswith(("/", "./")) or "#" in image:
        return image
    bare = image.removeprefix("docker://")
    first, slash, rest = bare.partition("/")
    is_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return f"{first}#{rest}" if is_registry else bare


def check_submission(submission: Submission, options: SlurmOptions) -> None:
    """Raises UsageError for flags that have no meaning here."""
    if submission.gpus not in (None, "none"):
        raise UsageError(
            f"--gpus {submission.gpus}: Slurm chooses the GPUs itself",
            code="gpus_chosen_by_scheduler",
            hint="give their number with --num-gpus, and their type with --gpus-type",
        )
    if submission.runtime:
        raise UsageError("--runtime has no meaning on slurm", hint="--container pyxis|oci|none chooses it here")
    if submission.mounts and options.container != "pyxis":
        raise UsageError(
            f"--mount has no meaning with --container {options.container}",
            code="bad_mount",
            hint="only pyxis mounts; a bundle says so in its config.json, and without a container paths are the node's",
        )
    if options.container == "oci" and not submission.image.startswith("/"):
        raise UsageError(
            f"--container oci runs a bundle, and {submission.image!r} is no absolute path",
            code="bad_bundle",
            hint="set the IMAGE_ variable of the arch to the folder of the bundle on the cluster",
        )
    for name in submission.env | submission.secret_env:
        if not VARIABLE.fullmatch(name):
            raise UsageError(f"a shell can hold no variable {name!r}", code="bad_variable")


def _directives(submission: Submission, options: SlurmOptions, place: Place) -> Iterator[str]:
    yield f"--job-name={place.name}"
    yield from ("--nodes=1", "--ntasks=1")
    for flag in ("partition", "account", "qos", "time", "mem"):
        value = getattr(options, flag)
        if value:
            yield f"--{flag}={value}"
    if options.cpus:
        yield f"--cpus-per-task={options.cpus}"
    if submission.gpus != "none":
        kind = f"{options.gpus_type}:" if options.gpus_type else ""
        yield f"--gres=gpu:{kind}{submission.num_gpus}"
    yield "--requeue" if options.requeue else "--no-requeue"
    yield "--open-mode=append"
    yield f"--output={place.slurm_log}"


def _run(submission: Submission, options: SlurmOptions) -> str:
    """The command line that is the service."""
    inner = f"/bin/sh -c {_literal(submission.command)}"
    if options.container == "none":
        return inner
    flags = ["--nodes=1", "--ntasks=1", "--export=ALL", "--cpu-bind=none", "--mpi=none"]
    if options.cpus:
        flags.append(f"--cpus-per-task={options.cpus}")
    flags += _oci_flags(submission) if options.container == "oci" else _pyxis_flags(submission, options)
    return f"srun {quoted(*flags)} {inner}"


def _oci_flags(submission: Submission) -> list[str]:
    return [f"--container={submission.image}"]


def _pyxis_flags(submission: Submission, options: SlurmOptions) -> list[str]:
    flags = [f"--container-image={pyxis_image(submission.image)}"]
    mounts = [_pyxis_mount(mount) for mount in submission.mounts] + ([options.mounts] if options.mounts else [])
    if mounts:
        flags.append(f"--container-mounts={','.join(mounts)}")
    # The image's own values would win over the job's for names that are not listed here.
    names = sorted({*submission.env, *submission.secret_env, "MOORAGE_PORT"})
    flags.append(f"--container-env={','.join(names)}")
    flags += ["--no-container-mount-home", "--no-container-entrypoint"]
    return [*flags, "--container-remap-root", "--container-writable"]


def _pyxis_mount(mount: str) -> str:
    bare = mount.removesuffix(":ro")
    if "," in mount or bare.count(":") != 1:
        raise UsageError(
            f"--mount {mount!r} cannot be told to pyxis: it has a comma or one colon too many",
            code="bad_mount",
            hint="rename the folder, or reach it by a link without them",
        )
    return mount


def _literal(text: str) -> str:
    """A word for bash. sbatch refuses scripts with a line end of DOS in them, so that is written by its name."""
    return shlex.quote(text).replace("\r", "'$'\\r''")
