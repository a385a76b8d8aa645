"""A machine of its own on the network: namespaces without a name, reached over a veth pair with a subnet of its own.

What runs in it has its own loopback, its own process ids and its own /run, and shares the files otherwise. All of it
ends with the namespaces, and those with the test run, also when that is killed: nothing has a name to be left behind.
Only root can make one. Cutting the link makes every packet vanish, as a pulled cable does.
"""

from __future__ import annotations

import ipaddress
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.parts.absence import PartMissing

INSIDE = "eth0"
POOL = ipaddress.ip_network("10.96.0.0/11")
"""Where subnets are taken from: /30, one for each host."""
READY_S = 60
TRIES = 50

# The first process of the namespace collects what its services leave behind. /run is new, so that no socket of the
# machine (Docker's, for one) can be mistaken for one of the host.
INIT = "mount -t tmpfs none /run && ip link set lo up && echo ready && while :; do sleep 86400 & wait $!; done"


@dataclass(frozen=True)
class NetHost:
    """One host. Words of a command run in it are found on PATH as outside; paths must be absolute."""

    address: str
    """Of the host, as the machine that tests run on sees it."""
    gateway: str
    """Of that machine, as the host sees it."""
    enter: tuple[str, ...]
    """Words before a command that is to run in the host."""
    folder: Path
    """A folder of the host's own with a short path, for sockets and files; it goes with the host."""
    _network: tuple[str, ...]
    """Words before a command that needs only the host's network."""

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a process in it. What is returned stands outside: SIGTERM or SIGKILL to it ends the process inside."""
        command = [*self.enter, "setpriv", "--pdeathsig", "TERM", *map(str, argv)]
        return subprocess.Popen(command, **{"stdin": subprocess.DEVNULL} | options)

    def run(
        self, argv: Sequence[str | Path], *, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end, with its output as text."""
        command = [*self.enter, *map(str, argv)]
        options = {"stdin": subprocess.DEVNULL, "timeout": READY_S} | options
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert not check or done.returncode == 0, f"{argv}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def cut(self) -> None:
        """Pull the cable: connections hang, new ones time out."""
        self._ip("link", "set", INSIDE, "down")

    def restore(self) -> None:
        """Put it back; connections that were not given up meanwhile go on."""
        self._ip("link", "set", INSIDE, "up")
        self._ip("route", "replace", "default", "via", self.gateway)

    def _ip(self, *words: str) -> None:
        _run(*self._network, "ip", *words)


@contextmanager
def net_host() -> Iterator[NetHost]:
    """Make one, and leave nothing of it. Raises PartMissing when this machine cannot."""
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            raise PartMissing(f"{program} is not installed: apt-get install iproute2 util-linux")
    _remove_stale()
    folder = Path(f"/tmp/{_prefix()}-{secrets.token_hex(3)}")
    folder.mkdir(mode=0o755)
    holder = _start_holder()
    try:
        pid = _first_process(holder)
        with _subnet() as (gateway, address):
            _connect(pid, gateway, address)
            network = ("nsenter", "--target", pid, "--net", "--")
            enter = ("nsenter", "--target", pid, "--net", "--pid", "--mount", "--")
            yield NetHost(address, gateway, enter, folder, network)
    finally:
        holder.kill()
        holder.wait()
        _remove(folder)


def _start_holder() -> subprocess.Popen[str]:
    """unshare stays outside and ends with the test run; its child is the first process inside and ends with it."""
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    command += ["--mount-proc", "sh", "-c", INIT]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _first_process(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None and holder.stderr is not None
    if holder.stdout.readline().strip() != "ready":
        raise PartMissing(f"no namespaces can be made here: {holder.stderr.read().strip()}")
    return Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0]


@contextmanager
def _subnet() -> Iterator[tuple[str, str]]:
    """A /30 that nothing on this machine routes; the socket keeps other test runs from taking it too."""
    for _ in range(TRIES):
        first = int(POOL.network_address) + 4 * random.randrange(POOL.num_addresses // 4)
        subnet = ipaddress.ip_network((first, 30))
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0moorage-test-{subnet}")
            except OSError:
                continue
            if any(subnet.overlaps(route) for route in _routes()):
                continue
            yield str(subnet[1]), str(subnet[2])
            return
    raise PartMissing(f"no free subnet in {POOL}")


def _routes() -> list[ipaddress.IPv4Network]:
    words = [line.split() for line in _run("ip", "-4", "route", "show", "table", "all").splitlines()]
    places = [row[1] if row[0] in ("local", "broadcast", "unreachable", "blackhole") else row[0] for row in words]
    return [ipaddress.IPv4Network(place) for place in places if place != "default"]


def _connect(pid: str, gateway: str, address: str) -> None:
    outside = f"moor{secrets.token_hex(4)}"
    inside = ("nsenter", "--target", pid, "--net", "--", "ip")
    try:
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", INSIDE, "netns", pid)
    except AssertionError as fault:
        raise PartMissing(f"no network between namespaces can be made here: {fault}") from fault
    _run("ip", "addr", "add", f"{gateway}/30", "dev", outside)
    _run("ip", "link", "set", outside, "up")
    _run(*inside, "addr", "add", f"{address}/30", "dev", INSIDE)
    _run(*inside, "link", "set", INSIDE, "up")
    _run(*inside, "route", "add", "default", "via", gateway)


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def _prefix() -> str:
    return f"moor-host-{os.getpid()}"


def _remove_stale() -> None:
    """Folders of test runs that were killed; all else of theirs has ended with them."""
    for folder in Path("/tmp").glob("moor-host-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            _remove(folder)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what ends just now may still write
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
