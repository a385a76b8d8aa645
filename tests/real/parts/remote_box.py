"""A machine elsewhere that runs containers: a network host with its own sshd and its own Docker engine.

Nothing of it is on this machine's own network: what the engine publishes on its loopback is reached only through SSH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.real.parts.absence import PartMissing
from tests.real.parts.docker_engine import HOOK, SYSTEM_PATH, DockerEngine, answers
from tests.real.parts.network import NetHost, net_host
from tests.real.parts.sshd import Sshd, sshd

INSIDE_SOCKET = "/run/docker.sock"
"""Where the docker command looks in the box; its /run is its own."""
START_S = 60
STOP_S = 60


@dataclass(frozen=True)
class RemoteBox:
    """One box."""

    host: NetHost
    server: Sshd
    engine: DockerEngine
    """Its Docker engine, by a socket that tests reach without SSH."""


@contextmanager
def remote_box() -> Iterator[RemoteBox]:
    """Make one, and leave nothing of it. Raises PartMissing when this machine cannot."""
    if shutil.which("dockerd", path=SYSTEM_PATH) is None:
        raise PartMissing("dockerd is not installed: apt-get install docker.io iptables")
    with net_host() as host, sshd(host.folder / "sshd", host) as server, _engine(host) as engine:
        yield RemoteBox(host, server, engine)


@contextmanager
def _engine(host: NetHost) -> Iterator[DockerEngine]:
    """With GPUs as far as device requests go: the hook that makes Docker offer them is there, and does nothing."""
    folder = host.folder / "docker"
    folder.mkdir()
    hook = folder / HOOK
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    url = f"unix://{folder}/docker.sock"
    said = []
    for driver in ("", "vfs"):
        process = _start(host, folder, url, driver)
        try:
            if _comes_up(process, url):
                yield DockerEngine(url, private=True)
                return
            said.append((folder / "dockerd.log").read_text(errors="replace")[-1500:])
        finally:
            _stop(process)
    raise PartMissing("dockerd does not start in a network of its own:\n" + "\n".join(said))


def _start(host: NetHost, folder: Path, url: str, driver: str) -> subprocess.Popen[bytes]:
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--host", f"unix://{INSIDE_SOCKET}", "--host", url, "--pidfile", f"{folder}/docker.pid"]
    command += ["--storage-driver", driver] if driver else []
    environ = {**os.environ, "PATH": f"{folder}:{SYSTEM_PATH}"}
    with (folder / "dockerd.log").open("wb") as log:
        return host.popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)


def _comes_up(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if Path(url.removeprefix("unix://")).exists() and answers(url):
            return True
        time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """dockerd stops its containers first; what is left ends with the host."""
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
