"""Machines over SSH: both clients against a real sshd in a network namespace."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import PreflightError
from moorage.launch.remote.connect import connect
from moorage.launch.remote.target import make_target
from moorage.launch.remote.user_config import read_settings
from tests.real.login_contract import LoginContract
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.network import NetHost, net_host
from tests.real.parts.sshd import Sshd, sshd
from tests.real.remote_contract import SERVICES, SOURCE_PORT, RemoteContract, send_for_digest, until

pytestmark = [pytest.mark.remote, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[NetHost]:
    try:
        with net_host() as host:
            process = host.popen([sys.executable, "-c", SERVICES], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield host
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture(scope="module")
def server(host: NetHost) -> Iterator[Sshd]:
    try:
        with sshd(host.folder / "sshd", host, environ={"GREETING": "from afar"}) as server:
            yield server
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture
def other_server(host: NetHost, tmp_path: Path) -> Iterator[Sshd]:
    """One that a test may stop or set up anew; on a port of its own."""
    with sshd(host.folder / tmp_path.name, host, port=2022) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def environ(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a user with that home, without keys in variables; short places for sockets."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SSH_AUTH_SOCK", "SSH_KEY_PATH")}
    return {**kept, "HOME": str(home)}


@pytest.fixture
def agent(server: Sshd, tmp_path: Path) -> Iterator[str]:
    """A real ssh-agent that holds the key which the server lets in; its socket."""
    path = server.folder / f"agent-{os.urandom(4).hex()}"
    command = ["setpriv", "--pdeathsig", "KILL", "ssh-agent", "-D", "-a", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        until(path.is_socket)
        subprocess.run(["ssh-add", "-q", str(server.key)], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True)
        yield str(path)
        process.terminate()


class TestParamiko(RemoteContract, LoginContract):
    client = "paramiko"


class TestOpenssh(RemoteContract, LoginContract):
    client = "openssh"

    def test_a_connection_that_the_user_holds_open(
        self, other_server: Sshd, home: Path, environ: dict[str, str], tmp_path: Path
    ) -> None:
        """As at a site with a second factor: only what is open already gets in."""
        control = other_server.folder / "control"
        options = ["ControlMaster auto", f"ControlPath {control}", "ControlPersist no"]
        other_server.write_client(home, "other", options=options)
        words = ["ssh", "-F", str(home / ".ssh/config"), "-o", "ControlMaster=yes", "-N", "other"]
        with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL) as master:
            try:
                until(control.is_socket)
                (other_server.folder / "authorized_keys").write_text("")
                with connect(make_target("other", client="openssh"), environ) as remote:
                    assert remote.run("echo in").out == "in\n"
                    assert send_for_digest(remote, b"x") == hashlib.sha256(b"x").hexdigest()
                assert master.poll() is None
            finally:
                master.kill()  # a SIGTERM can be lost in OpenSSH's loop; and its socket stays, which must not matter
        assert self.refusal("other", environ).code == "login_refused"

    def test_what_the_users_config_does_besides_is_left_out(
        self, server: Sshd, home: Path, environ: dict[str, str]
    ) -> None:
        place = home / "forward.sock"
        server.write_client(
            home, "box", options=[f"LocalForward {place} 127.0.0.1:{SOURCE_PORT}", "RemoteCommand false"]
        )
        with connect(make_target("box", client="openssh"), environ) as remote:
            assert send_for_digest(remote, b"x") == hashlib.sha256(b"x").hexdigest()
            assert not place.exists()

    def test_the_connection_ends_with_its_process(
        self, server: Sshd, home: Path, environ: dict[str, str], host: NetHost
    ) -> None:
        server.write_client(home, "box")
        program = """
            import os, time
            from moorage.launch.remote.connect import connect
            from moorage.launch.remote.target import make_target
            remote = connect(make_target("box", client="openssh"), os.environ)
            remote.run("sleep 0")
            print(remote._heart._process.pid, remote._folder, flush=True)
            time.sleep(600)
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        with subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid, folder = process.stdout.readline().split()
            process.send_signal(signal.SIGKILL)
        until(lambda: not Path("/proc", pid).exists())
        with connect(make_target("box", client="openssh"), environ):
            assert not Path(folder).exists()

    def test_no_program(self, environ: dict[str, str]) -> None:
        with pytest.raises(PreflightError, match="ssh is not on PATH"):
            connect(make_target("box", client="openssh"), environ | {"PATH": "/nowhere"})


def test_a_host_ends_with_its_test_run(server: Sshd, home: Path) -> None:
    """However that ends: the services in it, the network to it, its connections."""
    words = f"sleep {random.randrange(10**6, 10**9)}"
    program = f"""
        import subprocess, sys, time
        from pathlib import Path
        from tests.real.parts.network import net_host
        from tests.real.parts.sshd import sshd
        with net_host() as host, sshd(host.folder / "sshd", host) as server:
            server.write_client(Path({str(home)!r}), "mine")
            words = ["ssh", "-F", "{home}/.ssh/config", "mine", "echo up; exec {words}"]
            with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
                client.stdout.readline()
                print(host.gateway, host.enter[2], flush=True)
                time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        gateway, first = process.stdout.readline().split()
        assert subprocess.run(["pgrep", "-f", f"^{words}"], capture_output=True, check=False).stdout
        process.kill()
    until(lambda: not Path("/proc", first).exists())
    until(lambda: gateway not in subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout)
    until(lambda: subprocess.run(["pgrep", "-f", f"^{words}"], capture_output=True, check=False).returncode == 1)


CONFIGS = {
    "first value wins": "Host box\n Port 1\nHost *\n Port 2\n User all\n",
    "patterns": "Host !box *\n Port 1\nHost b?x\n Port 2\nHost *.example box,other\n Port 3\n",
    "equals and case": "host=box\n\tPORT = 7\n  hostName=  real.example\n",
    "quotes": 'Host "box"\n IdentityFile "/keys/my key"\n User "me"\n',
    "several keys": "Host box\n IdentityFile /a/%h-%n-%r-%p\nHost *\n IdentityFile /b/%%\n IdentityFile /a/x\n",
    "match": "Match originalhost box user root\n Port 4\nMatch all\n Port 5\n HostName later.example\n",
    "match host": "Host box\n HostName x.real.example\nMatch host *.real.example\n Port 6\nMatch !host x*\n Port 9\n",
    "final": "Match final\n Port 11\nHost box\n User me\n",
    "jump": "Host box\n ProxyJump me@gate:2200,next\n ProxyCommand nothing\n",
    "no jump": "Host box\n ProxyJump none\nHost *\n ProxyJump gate\n",
    "comments": "# Host box\n#Port 3\nHost box # not here\n Port 8\n",
    "tokens": "Host box\n HostName %h.example\n ProxyCommand run %h %p %r\n Port 12\n User me\n",
    "yes and no": "Host box\n StrictHostKeyChecking accept-new\n IdentitiesOnly yes\n HostKeyAlias Known\n",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_a_config_is_read_as_openssh_reads_it(text: str, home: Path, environ: dict[str, str]) -> None:
    (home / ".ssh").mkdir()
    config = home / ".ssh/config"
    config.write_text(text)
    told = subprocess.run(["ssh", "-F", config, "-G", "box"], capture_output=True, text=True, check=True).stdout
    lines = [line.partition(" ")[::2] for line in told.splitlines()]
    truth = dict(lines)
    ours = read_settings("box", make_target("box"), environ)
    assert ours.host_name == truth["hostname"]
    assert str(ours.port) == truth["port"]
    assert ours.user == truth["user"]
    assert list(ours.proxy_jump) == [name for name in truth.get("proxyjump", "").split(",") if name]
    if ours.keys_are_named:
        keys = [value for name, value in lines if name == "identityfile"]
        assert [key.replace("%h", ours.host_name) for key in ours.identity_files] == [
            expand(key, ours.host_name, ours.user, ours.port) for key in keys
        ]
    assert ours.identities_only == (truth["identitiesonly"] == "yes")
    assert {"yes": "ask", "no": "false"}.get(ours.strict, ours.strict) == truth["stricthostkeychecking"]
    assert ours.key_alias == truth.get("hostkeyalias")


def expand(text: str, host: str, user: str, port: int) -> str:
    """`ssh -G` leaves tokens of paths as they are."""
    values = {"%h": host, "%n": "box", "%r": user, "%p": str(port), "%%": "%"}
    return re.sub("%.", lambda found: values.get(found[0], found[0]), text)
