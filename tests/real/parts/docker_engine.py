"""A real Docker engine: the one that answers, or a private one that lives as long as the test run.

A private engine has its own folder for everything, under a short path since a socket's path is limited to 107 bytes.
One with GPUs has a network namespace of its own too: two engines in one namespace undo each other's bridge and rules.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.real.parts.absence import PartMissing

DEFAULT_HOST = "unix:///var/run/docker.sock"
START_S = 60
PLACE = Path("/tmp")
PREFIX = "moor-docker-"
"""Of folder names; the test run's pid follows."""

HOOK = "nvidia-container-runtime-hook"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class DockerEngine:
    """One engine that answers."""

    host: str
    """For DOCKER_HOST."""
    private: bool
    """Ours alone: everything in it goes when the run ends."""
    enter: tuple[str, ...] = ()
    """Words before a command that must run in the engine's network, where its published ports are."""
    hook_log: Path | None = None
    """What the stand-in for the NVIDIA hook was given, one container state (JSON) a line; None without one."""

    def docker(
        self, *arguments: str, stdin: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command line on this engine."""
        command = ["docker", "-H", self.host, *arguments]
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(command, stdin=source, capture_output=True, text=True, errors="replace", check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr}"
        return done


def find_engine() -> DockerEngine | None:
    """The engine of DOCKER_HOST or of the default socket, when it answers."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    return DockerEngine(host, private=False) if answers(host) else None


@contextmanager
def private_engine(*, with_gpus: bool = False) -> Iterator[DockerEngine]:
    """Start one, and leave nothing of it. Raises PartMissing when this machine cannot."""
    if os.geteuid() != 0:
        raise PartMissing("no Docker engine answers, and only root can start one")
    if shutil.which("dockerd", path=SYSTEM_PATH) is None:
        raise PartMissing("no Docker engine answers and dockerd is not installed: apt-get install docker.io iptables")
    _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))
    faults = []
    try:
        for driver in ("", "vfs"):
            process = _start(folder, driver=driver, with_gpus=with_gpus)
            try:
                if _comes_up(process, folder):
                    yield _describe(process, folder, with_gpus=with_gpus)
                    return
                faults.append((folder / "dockerd.log").read_text(errors="replace")[-1500:])
            finally:
                _stop(process)
        raise PartMissing("dockerd does not start here:\n" + "\n".join(faults))
    finally:
        _remove(folder)


def answers(host: str) -> bool:
    try:
        asked = subprocess.run(
            ["docker", "-H", host, "version", "--format", "{{.Server.Version}}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _start(folder: Path, *, driver: str, with_gpus: bool) -> subprocess.Popen[bytes]:
    path = SYSTEM_PATH
    command = ["setpriv", "--pdeathsig", "TERM"]  # the engine must not outlive a test run that was killed
    # Namespaces without a name go with the engine, however that ends. Without --mount a killed engine would leave its
    # containers' networks behind, and the next one would give their addresses out again.
    command += ["unshare", "--mount"]
    if with_gpus:
        path = f"{_write_hook(folder)}:{path}"
        command += ["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command += ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--host", f"unix://{folder}/docker.sock", "--pidfile", f"{folder}/docker.pid"]
    command += ["--storage-driver", driver] if driver else []
    with (folder / "dockerd.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )


def _write_hook(folder: Path) -> Path:
    """dockerd offers GPUs when this program is on its PATH at start; the container's state comes on stdin."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    hook = programs / HOOK
    hook.write_text(f"#!/bin/sh\n{{ cat; echo; }} >> {folder}/hook.log\n")
    hook.chmod(0o755)
    return programs


def _comes_up(process: subprocess.Popen[bytes], folder: Path) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "docker.sock").exists() and answers(f"unix://{folder}/docker.sock"):
            return True
        time.sleep(0.1)
    return False


def _describe(process: subprocess.Popen[bytes], folder: Path, *, with_gpus: bool) -> DockerEngine:
    # setpriv, unshare and sh each replaced themselves: the process is dockerd.
    enter = ("nsenter", "--target", str(process.pid), "--net") if with_gpus else ()
    hook_log = folder / "hook.log" if with_gpus else None
    return DockerEngine(f"unix://{folder}/docker.sock", private=True, enter=enter, hook_log=hook_log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """dockerd stops its containers first."""
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove_stale() -> None:
    """What runs that were killed left: their engines have ended with them, their folders have not."""
    for folder in PLACE.glob(f"{PREFIX}*-*"):
        if not Path("/proc", folder.name.removeprefix(PREFIX).partition("-")[0]).exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
