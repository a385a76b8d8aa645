"""Services of the TAO stand-in, driven through the command line on one platform, and taken away by job id."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from moorage.cli.main import main
from moorage.launch.interrupts import SIGNALS
from tests.conftest import Answer, Moor, parse_output
from tests.contract.platform_contract import free_port
from tests.real.parts.container_image import HF_SERVER, programs_on_path
from tests.real.parts.docker_engine import DockerEngine

WAIT_S = 60.0
"""Generous: the machine may be busy with other things."""

TAO_ARCHS = ("cosmos-rl", "cosmos-predict2.5", "tao-dataservices")
TEXT_ARCH = "tao-dataservices"
"""Answers with text, and needs no media."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATASERVICES = "from tao_stand_in import main\nimport sys\nmain('tao-dataservices', sys.argv[1:])\n"


class StandIns:
    """One platform, one state file, and the services that a test starts there.

    On local-process the scenario goes by TAO_SCENARIO and the model is a folder that exists; in a container it goes by
    the model's path.
    """

    def __init__(self, platform: str, folder: Path, environ: Mapping[str, str], engine: DockerEngine | None) -> None:
        self.platform, self.engine = platform, engine
        self.state_file = folder / "state" / "tao-inf-ms-state.json"
        self.state_file.parent.mkdir(mode=0o700)
        self.model = folder / "model.d"
        self.model.mkdir()
        self.environ = {
            **{name: value for name, value in environ.items() if name not in ("HF_TOKEN", "TAO_SCENARIO")},
            "MOORAGE_STATE_FILE": str(self.state_file),
            "XDG_STATE_HOME": str(folder / "xdg-state"),
            "TMPDIR": str(folder),
        }
        self.moor = Moor(self.environ)
        self.job_ids: list[str] = []
        self.own_ports = True
        """Ports outside Moorage's range, which other test runs on this machine use too; False: Moorage chooses."""

    def new_id(self) -> str:
        """An id whose service is taken away in the end."""
        self.job_ids.append(str(uuid.uuid4()))
        return self.job_ids[-1]

    def words(
        self, scenario: str = "ready", *flags: str, arch: str = "cosmos-rl", job_id: str | None = None
    ) -> list[str]:
        """The words of a `moor start`, without the environment that goes with them."""
        job_id = job_id or self.new_id()
        model = f"/scenario/{scenario}" if self.engine else str(self.model)
        words = ["start", "--network-arch", arch, "--model-path", model, "--platform", self.platform]
        words += ["--job-id", job_id, "--json"]
        if self.own_ports and "--host-port" not in "".join(flags):
            words += ["--host-port", str(free_port())]
        return words + (["--gpus", "none", "--pull", "never"] if self.engine else []) + list(flags)

    def here(
        self, *words: str | Path, env: Mapping[str, str | None] | None = None, folder: Path | None = None
    ) -> Answer:
        """A command in this very process, in another environment: for tables of many commands that start nothing."""
        out, err = io.StringIO(), io.StringIO()
        merged = {**self.environ, **(env or {})}
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        before, stdin, hook = dict(os.environ), sys.stdin, sys.unraisablehook
        try:
            os.environ.clear()
            os.environ.update({name: value for name, value in merged.items() if value is not None})
            sys.stdin = None  # type: ignore[assignment]
            with contextlib.chdir(folder or "."), redirect_stdout(out), redirect_stderr(err):
                rc = main([str(word) for word in words])
        finally:
            sys.stdin, sys.unraisablehook = stdin, hook
            os.environ.clear()
            os.environ.update(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Answer(rc, parse_output(out.getvalue()), err.getvalue())

    def env(self, scenario: str = "ready", env: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
        return {"TAO_SCENARIO": scenario, **(env or {})}

    def try_start(
        self,
        scenario: str = "ready",
        *flags: str,
        arch: str = "cosmos-rl",
        job_id: str | None = None,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 120,
    ) -> Answer:
        """Run `moor start` to its end, however that is."""
        words = self.words(scenario, *flags, arch=arch, job_id=job_id)
        return self.moor(*words, env=self.env(scenario, env), timeout=timeout)

    def start(self, scenario: str = "ready", *flags: str, **options: Any) -> dict[str, Any]:
        """Start a service that must come up; its entry."""
        done = self.try_start(scenario, *flags, **options)
        assert done.rc == 0, (done.out, done.err)
        entry: dict[str, Any] = done.out["data"]
        return entry

    def popen_start(self, scenario: str = "ready", *flags: str, **options: Any) -> subprocess.Popen[str]:
        """Leave a `moor start` running."""
        env = options.pop("env", None)
        return self.moor.popen(*self.words(scenario, *flags, **options), env=self.env(scenario, env))

    def read_state(self) -> dict[str, Any]:
        """The state file as any tool reads it; empty when there is none."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_bytes())
        except FileNotFoundError:
            return {}
        return state

    def write_state(self, state: Mapping[str, Any]) -> None:
        self.state_file.write_text(json.dumps(state))
        self.state_file.chmod(0o600)

    def await_entry(self, job_id: str) -> dict[str, Any]:
        """The entry as soon as it is written."""
        found: dict[str, Any] = until(lambda: self.read_state().get(job_id), f"the entry of {job_id}", every_s=0.001)
        return found

    def recover(self) -> dict[str, dict[str, Any]]:
        """Recover, and forget at once what others run on this machine: id → entry of our own services."""
        done = self.moor("recover", "--platform", self.platform, "--json")
        assert done.rc == 0, done
        state = self.read_state()
        recovered = {entry["job_id"]: entry for entry in done.out["data"]["recovered"]}
        assert set(recovered) <= set(state)
        own = {job_id: entry for job_id, entry in state.items() if job_id in self.job_ids}
        latest = max(own, key=lambda job_id: str(own[job_id]["started_at"])) if own else None
        self.write_state({**own, **({"latest": latest} if latest else {})})
        return {job_id: entry for job_id, entry in recovered.items() if job_id in own}

    def seen(self, job_id: str) -> dict[str, Any] | None:
        """What `moor list` says of a service."""
        services = self.here("list", "--json").out["data"]["services"]
        return next((entry for entry in services if entry["job_id"] == job_id), None)

    def await_state(self, job_id: str, state: str) -> dict[str, Any]:
        """Wait until `moor list` gives it this state."""

        def reached() -> dict[str, Any] | None:
            entry = self.seen(job_id)
            return entry if entry and entry["state"] == state else None

        found: dict[str, Any] = until(reached, f"{job_id} is {state}")
        return found

    def kill(self, job_id: str) -> None:
        """End the service behind Moorage's back."""
        if self.engine:
            self.engine.docker("kill", job_id)
            return
        for pid in set(processes_of(job_id)) - set(reapers_of(job_id)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def picture(self) -> Path:
        """A picture of one pixel."""
        return write_picture(self.state_file.parents[1] / "pixel.png")

    def runs(self, job_id: str) -> bool:
        """Whether the service itself is there: its container, alive or not, or a process of it."""
        if self.engine:
            return bool(self.engine.docker("ps", "-aq", "--no-trunc", "--filter", f"name=^/{job_id}$").stdout.split())
        return bool(set(processes_of(job_id)) - set(reapers_of(job_id)))

    def left_of(self, job_id: str) -> list[str]:
        """All that is left of a service: entry, container, processes, reaper, logs. Empty after a stop or an undo."""
        left = ["the entry"] if job_id in self.read_state() else []
        left += ["the container"] if self.engine and self.runs(job_id) else []
        left += [f"process {pid}: {command_line(pid)}" for pid in processes_of(job_id)]
        left += [str(path) for path in (self.state_file.parents[1] / "xdg-state").rglob(f"{job_id}*")]
        left += [str(path) for path in self.state_file.parents[1].glob(f"moorage-{job_id}*")]
        return left

    def clean_up(self) -> None:
        """Take away every service that was started, whatever the registry says of it, and then the registry."""
        self.state_file.unlink(missing_ok=True)
        for job_id in self.job_ids:
            for pid in processes_of(job_id):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.engine and self.job_ids:
            self.engine.docker("rm", "--force", "--volumes", *self.job_ids, check=False)


def add_dataservices(folder: Path) -> Path:
    """A `python` that has the dataservices server, beside the other two programs of the stand-in."""
    programs_on_path(folder, sys.executable)
    module = folder / Path(*HF_SERVER.split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    module.write_text(DATASERVICES)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return folder


def write_picture(path: Path) -> Path:
    """A picture of one pixel; the stand-in looks at its name and its type only."""
    path.write_bytes(base64.b64decode(PIXEL))
    return path


def until(condition: Callable[[], Any], what: str, *, within_s: float = WAIT_S, every_s: float = 0.02) -> Any:
    """Ask until the answer is true; it. Fails naming `what` when that takes too long."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(every_s)
    return answer


def processes_of(job_id: str) -> list[int]:
    """Pids of living processes that carry the id in their environment or their command line, but for `moor` itself."""
    return [pid for pid in _pids() if _carries(pid, job_id.encode()) and b"moorage.cli" not in _proc(pid, "cmdline")]


def reapers_of(job_id: str) -> list[int]:
    """Pids of the service's reapers."""
    wanted = (b"moorage.launch.reaper", job_id.encode())
    return [pid for pid in _pids() if all(word in _proc(pid, "cmdline").split(b"\0") for word in wanted)]


def command_line(pid: int) -> str:
    return _proc(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace")


def every_command_line() -> str:
    """Of all processes there are."""
    return "\n".join(command_line(pid) for pid in _pids())


def _pids() -> Iterator[int]:
    for place in Path("/proc").glob("[1-9]*"):
        if int(place.name) != os.getpid():
            yield int(place.name)


def _carries(pid: int, word: bytes) -> bool:
    return word in _proc(pid, "environ") or word in _proc(pid, "cmdline")


def _proc(pid: int, name: str) -> bytes:
    """Empty for a process that has gone, and for a zombie."""
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""
