"""local-process: the engine as a detached process of this machine, in a session of its own.

The service's label is its environment (`MOORAGE_LABEL`), which the kernel keeps for as long as the process lives, so
`find` works with no file at all. A wrapper shell leads the session and notes the exit code. The inner command listens
where `MOORAGE_HOST` and `MOORAGE_PORT` say: loopback. Linux only (identities come from /proc).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import ConflictError, FailedError, PreflightError, UsageError
from moorage.launch.entry import Entry
from moorage.launch.places import state_folder
from moorage.launch.platforms.life import Check, Life
from moorage.launch.processes import (
    ProcessIdentity,
    ProcessStat,
    all_processes,
    end_all,
    environment_of,
    identity_from,
    identity_of,
    is_alive,
    read_stat,
    session_members,
    start_ticks,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from moorage.launch.platforms.base import Report, Submission

STOP_GRACE_S = 10.0
FOLLOW_PAUSE_S = 0.1
ENGINE_HINT = "moor engine vllm --install makes one; or set MOORAGE_VLLM_PYTHON to a Python that has vLLM"

# The wrapper outlives the command by one line, so that its exit code is known after the starter has gone.
WRAPPER = '/bin/sh -c "$1"; code=$?; echo "$code" > "$2"; exit "$code"'


class LocalProcess:
    """See the module; `environ` is the caller's environment, most of which the service inherits."""

    name = "local-process"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def doctor(self) -> list[Check]:
        from moorage.catalog.engine_python import find_engine_python

        linux = sys.platform == "linux"
        checks = [Check(name="linux", ok=linux, message=sys.platform, hint="" if linux else "use local-docker here")]
        try:
            python = find_engine_python("vllm", self._environ)
        except PreflightError as fault:
            return [*checks, Check(name="engine vllm", ok=False, message=fault.message, hint=fault.hint)]
        message = str(python) if python else "no vLLM environment on this machine"
        return [
            *checks,
            Check(name="engine vllm", ok=bool(python), message=message, hint="" if python else ENGINE_HINT),
        ]

    def plan(self, submission: Submission) -> dict[str, Any]:
        return {}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        if sys.platform != "linux":
            raise PreflightError(
                f"local-process needs Linux, this is {sys.platform}", hint="use --platform local-docker"
            )
        self._check_model(submission)
        self._check_module(submission, self._program_path(submission))
        return {}

    def submit(self, submission: Submission) -> Entry:
        import subprocess

        self._refuse_second(submission.job_id)
        log_file = self._log_file(submission.job_id)
        exit_file = _exit_file(log_file)
        _remove(exit_file)
        scratch = self._scratch(submission.job_id)
        _remove_folder(scratch)
        argv = ["/bin/sh", "-c", WRAPPER, "moorage-service", submission.command, exit_file]
        log = _open_log(log_file)
        try:
            os.mkdir(scratch, 0o700)
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(submission) | {"TMPDIR": scratch},
                start_new_session=True,
                cwd="/",
            )
        except OSError as fault:
            raise FailedError(f"the process could not be started: {fault}") from fault
        finally:
            os.close(log)
        process.returncode = 0  # it is detached: nobody waits for it in a destructor
        # Its place in the process table stays until it is collected, so this also works when it has ended already.
        begun = read_stat(process.pid)
        fields: Entry = {"log_file": log_file, "exit_file": exit_file}
        return fields | ({"pid": process.pid, "started": begun.started} if begun else {})

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        unknown_pid = [entry["job_id"] for entry in entries if identity_from(entry) is None]
        found = self._leaders(set(unknown_pid)) if unknown_pid else {}
        processes = all_processes()
        return {entry["job_id"]: _life(entry, found.get(entry["job_id"]), processes) for entry in entries}

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        path = _own_file(entry, "log_file") or self._log_file(entry["job_id"])
        try:
            file = open(path, encoding="utf-8", errors="replace", newline="\n")  # noqa: SIM115 - closed below
        except OSError:
            return
        with file:
            lines = file.read().split("\n")
            rest = lines.pop()
            if not follow:
                lines += [rest] if rest else []
                yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
                return
            yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
            yield from self._follow(entry, file, rest)

    def stop(self, entry: Entry) -> None:
        if not end_all(lambda: self._members(entry), grace_s=STOP_GRACE_S):
            left = self._members(entry)
            raise FailedError(
                f"processes of {entry['job_id']} are still there after SIGKILL: {left}",
                hint="they hang in the kernel (a GPU driver, a network file system)",
                next=[f"ps -o pid,stat,wchan,args -p {','.join(map(str, left))}"],
            )
        log_file = _own_file(entry, "log_file") or self._log_file(entry["job_id"])
        for path in (log_file, _exit_file(log_file)):
            _remove(path)
        _remove_folder(self._scratch(entry["job_id"]))

    def find(self) -> list[Entry]:
        found = []
        for identity, label in self._labelled().values():
            log_file = self._log_file(label["job_id"])
            files = {"log_file": log_file, "exit_file": _exit_file(log_file)}
            found.append({**label, **files, **identity.as_field()})
        return found

    def _refuse_second(self, job_id: str) -> None:
        """Two services of one id could not be told apart; the first may be in another state file."""
        running = self._leaders({job_id}).get(job_id)
        if running is not None:
            raise ConflictError(
                f"a process of a service with the id {job_id} runs already: pid {running.pid}",
                code="name_taken",
                hint="leave --job-id away to get a new one; moor recover finds services that the state file lacks",
                next=["moor recover"],
            )

    def _members(self, entry: Entry) -> list[int]:
        """Pids that a stop ends: the service's session, and workers of it that went into sessions of their own.

        A living process that the entry names and that does not carry this service's label is left alone.
        """
        processes, leader = all_processes(), identity_from(entry)
        members = {pid for pid, label in _carriers(processes) if label["job_id"] == entry["job_id"]}
        if leader is not None and not (is_alive(leader) and _is_stranger(leader.pid, entry["job_id"])):
            members |= set(session_members(leader, processes))
        return sorted(members - {os.getpid()})

    def _leaders(self, job_ids: set[str]) -> dict[str, ProcessIdentity]:
        return {job_id: identity for job_id, (identity, _) in self._labelled().items() if job_id in job_ids}

    def _labelled(self) -> dict[str, tuple[ProcessIdentity, Entry]]:
        """Session leaders of ours that carry a label. Workers may lead sessions too: the oldest is the service."""
        processes = all_processes()
        leaders = {pid: found for pid, found in processes.items() if found.session == pid}
        found: dict[str, tuple[ProcessIdentity, Entry]] = {}
        for pid, label in sorted(_carriers(leaders), key=lambda carrier: start_ticks(processes[carrier[0]].started)):
            identity = identity_of(pid)
            if identity is not None:
                found.setdefault(label["job_id"], (identity, label))
        return found

    def _check_model(self, submission: Submission) -> None:
        path = str(submission.label.get("model_path", ""))
        if path.startswith("/") and not os.path.exists(path):
            raise UsageError(
                f"there is no model at {path} on this machine",
                code="bad_model_path",
                hint="give the folder that holds config.json, or a hub model: hf_model://Qwen/Qwen3-0.6B",
            )

    def _check_module(self, submission: Submission, python: str | None) -> None:
        """A Python that lacks the server's package is missed now, and not by a service that dies."""
        if submission.python_module is None:
            return
        import subprocess

        ask = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({submission.python_module!r}) is None)"
        env = self._inherited(submission)
        if subprocess.run([python or submission.program, "-c", ask], env=env, cwd="/", check=False).returncode != 0:
            raise PreflightError(
                f"{python or submission.program} has no package {submission.python_module}: the arch "
                f"{submission.network_arch} needs it on local-process",
                code="program_missing",
                hint="it comes in the arch's container image: use --platform local-docker",
            )

    def _program_path(self, submission: Submission) -> str | None:
        """The engine's Python, or None when the program is on PATH. Raises PreflightError naming what is missing."""
        engine = submission.engine
        if engine is not None:
            from moorage.catalog.engine_python import find_engine_python

            python = find_engine_python(engine, self._environ)
            if python is None:
                raise _engine_missing(engine)
            return str(python)
        import shutil

        if shutil.which(submission.program, path=self._environ.get("PATH")) is None:
            raise PreflightError(
                f"{submission.program} is not on PATH: the arch {submission.network_arch} needs it on local-process",
                code="program_missing",
                hint="it comes in the arch's container image: use --platform local-docker",
            )
        return None

    def _environment(self, submission: Submission) -> dict[str, str]:
        python, env = self._program_path(submission), self._inherited(submission)
        if python is not None and submission.engine is not None:
            from pathlib import Path

            from moorage.catalog.engine_python import engine_environment, has_nvidia_gpu

            gpu = has_nvidia_gpu(self._environ) and submission.gpus != "none"
            env |= engine_environment(submission.engine, Path(python), gpu=gpu, environ=self._environ)
            if not gpu:
                env["MOORAGE_TENSOR_PARALLEL"] = "1"
        if submission.gpus not in (None, "none"):
            env["CUDA_VISIBLE_DEVICES"] = str(submission.gpus)
        label = json.dumps(submission.label, ensure_ascii=True)
        place = {"MOORAGE_HOST": "127.0.0.1", "MOORAGE_PORT": str(submission.port), "MOORAGE_LABEL": label}
        return env | submission.env | submission.secret_env | place

    def _inherited(self, submission: Submission) -> dict[str, str]:
        """The caller's environment without its secrets and, for an engine, without what belongs to another Python."""
        dropped = set(submission.secret_names)
        if submission.engine is not None:
            dropped |= {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        return {name: value for name, value in self._environ.items() if name not in dropped}

    def _log_file(self, job_id: str) -> str:
        """Where the service's output goes: a folder of the user's own, since logs may hold prompts."""
        return os.path.join(state_folder(self._environ, "logs"), f"{os.path.basename(job_id)}.log")

    def _scratch(self, job_id: str) -> str:
        """The service's own TMPDIR: engines leave sockets and files there when they are ended, and it goes with them.

        Short, since a socket's path has room for 107 characters.
        """
        return os.path.join(self._environ.get("TMPDIR") or "/tmp", f"moorage-{os.path.basename(job_id)}")

    def _follow(self, entry: Entry, file: TextIO, rest: str) -> Iterator[str]:
        """Lines as they come, until the process has ended and the file was read to its end."""
        while True:
            ended = self.status([entry])[entry["job_id"]].state != "alive"
            rest += file.read()
            *lines, rest = rest.split("\n")
            yield from lines
            if ended:
                if rest:
                    yield rest
                return
            time.sleep(FOLLOW_PAUSE_S)


def _own_file(entry: Entry, field: str) -> str | None:
    """A path of the entry, if it is one that `submit` makes: what the state file names is read and removed."""
    path = entry.get(field)
    if not isinstance(path, str) or os.path.basename(path).partition(".")[0] != entry["job_id"]:
        return None
    return path if os.path.basename(os.path.dirname(path)) == "logs" else None


def _open_log(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError as fault:
        raise PreflightError(
            f"the service's log cannot be written: {path}: {fault.strerror or fault}",
            code="log_not_written",
            hint="set XDG_STATE_HOME to a folder that you may write to",
        ) from fault


def _exit_file(log_file: str) -> str:
    return f"{log_file.removesuffix('.log')}.exit"


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _remove_folder(path: str) -> None:
    """Remove a folder of ours with all that is in it; never follows a link, and leaves what is someone else's."""
    import shutil
    import stat

    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        shutil.rmtree(path, ignore_errors=True)


def _is_stranger(pid: int, job_id: str) -> bool:
    """Whether a process says that it is not this service's. One that begins or ends just now says nothing."""
    environment = environment_of(pid)
    label = _parse_label(environment.get("MOORAGE_LABEL"))
    return bool(environment) and (label is None or label["job_id"] != job_id)


def _engine_missing(engine: str) -> PreflightError:
    own = f"set MOORAGE_{engine.upper()}_PYTHON to a Python that has it"
    return PreflightError(
        f"there is no {engine} environment on this machine",
        code="engine_missing",
        hint=ENGINE_HINT if engine == "vllm" else own,
        next=["moor engine vllm --install"] if engine == "vllm" else [],
    )


def _life(entry: Entry, found: ProcessIdentity | None, processes: dict[int, ProcessStat]) -> Life:
    leader = identity_from(entry) or found
    if leader is None:
        return Life(state="exited", detail=_exit_detail(entry, left=False), exists=False)
    now = processes.get(leader.pid)
    if now is not None and now.started == leader.started and now.lives:
        return Life(state="alive")
    left = bool(session_members(leader, processes))
    return Life(state="exited", detail=_exit_detail(entry, left=left), exists=left)


def _exit_detail(entry: Entry, *, left: bool) -> str:
    try:
        with open(_own_file(entry, "exit_file") or os.devnull) as file:
            code = file.read().strip()
    except OSError:
        code = ""
    detail = f"exit code {code}" if code else "no such process"
    return f"{detail}, children still running" if left else detail


def _parse_label(text: str | None) -> Entry | None:
    try:
        label = json.loads(text or "")
    except ValueError:
        return None
    return label if isinstance(label, dict) and isinstance(label.get("job_id"), str) else None


def _carriers(processes: Mapping[int, ProcessStat]) -> Iterator[tuple[int, Entry]]:
    """Pid and label of each living process of ours that has a label; a service's children inherit it."""
    for pid, found in processes.items():
        label = _parse_label(environment_of(pid).get("MOORAGE_LABEL")) if _is_ours(pid) else None
        if label is not None and found.lives:
            yield pid, label


def _is_ours(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False
