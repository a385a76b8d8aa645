"""How a client of remote machines logs in, and what it says when it may not: both clients inherit these tests."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError
from moorage.launch.remote.connect import connect
from moorage.launch.remote.target import make_target
from tests.real.parts.network import NetHost
from tests.real.parts.sshd import Sshd, make_key, sshd
from tests.real.remote_contract import BIG, CLOSED_PORT, send_for_digest


class LoginContract:
    """A subclass gives the client's name, and takes the fixtures of test_remote.py."""

    client = ""

    def test_an_unknown_host_key(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box", known=False)
        fault = self.refusal("box", environ)
        assert (fault.code, fault.exit_status) == ("host_key_unknown", 5)
        assert server.fingerprint in fault.message and "box" in fault.message
        assert fault.next == ["ssh -o StrictHostKeyChecking=ask box true"]

    def test_a_changed_host_key(self, other_server: Sshd, home: Path, environ: dict[str, str]) -> None:
        other_server.write_client(home, "other")
        other_server.stop()
        other_server.new_host_key()
        other_server.start()
        fault = self.refusal("other", environ)
        assert (fault.code, fault.exit_status) == ("host_key_changed", 5)
        assert other_server.fingerprint in fault.message and str(home / ".ssh/known_hosts") in fault.message
        forget, ask = fault.next
        assert ask == "ssh -o StrictHostKeyChecking=ask other true"
        subprocess.run(shlex.split(forget), check=True, capture_output=True)
        assert self.refusal("other", environ).code == "host_key_unknown"

    def test_a_host_key_that_the_users_config_does_not_ask_about(
        self, server: Sshd, home: Path, environ: dict[str, str]
    ) -> None:
        options = ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null"]
        server.write_client(home, "box", known=False, options=options)
        assert self.greets("box", environ)
        assert (home / ".ssh/known_hosts").read_text() == ""

    def test_accept_new_notes_the_key(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box", known=False, options=["StrictHostKeyChecking accept-new"])
        assert self.greets("box", environ)
        assert server.known_hosts_line().strip() in (home / ".ssh/known_hosts").read_text()

    def test_hashed_names_of_known_hosts(self, other_server: Sshd, home: Path, environ: dict[str, str]) -> None:
        other_server.write_client(home, "other")
        known = home / ".ssh/known_hosts"
        subprocess.run(["ssh-keygen", "-H", "-f", known], check=True, capture_output=True)
        assert known.read_text().startswith("|1|")
        with connect(make_target("other", client=self.client), environ) as remote:
            assert remote.run("true").status == 0

    def test_a_refused_login(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box")
        replace_key(home / ".ssh/key_box")
        fault = self.refusal("box", environ)
        assert (fault.code, fault.exit_status) == ("login_refused", 5)
        assert str(home / ".ssh/key_box") in fault.message and "root" in fault.message
        assert "SSH_KEY_PATH and SSH_AUTH_SOCK are not set" in fault.hint

    def test_a_key_file_that_is_not_there(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box")
        with pytest.raises(PreflightError, match=r"/nowhere/key cannot be read") as caught:
            connect(make_target("box", identity_file="/nowhere/key", client=self.client), environ)
        assert caught.value.code == "login_refused" and "SSH_KEY_PATH" in caught.value.hint

    def test_the_given_key_user_and_port_win(self, other_server: Sshd, home: Path, environ: dict[str, str]) -> None:
        other_server.write_client(home, "other")
        (home / ".ssh/key_other").rename(home / "my key")
        config = home / ".ssh/config"
        config.write_text(config.read_text().replace("Port 2022", "Port 22").replace("User root", "User nobody"))
        target = make_target("other", user="root", port=2022, identity_file="~/my key", client=self.client)
        with connect(target, environ) as remote:
            assert remote.run("id -un").out == "root\n"

    def test_an_agent(self, server: Sshd, home: Path, environ: dict[str, str], agent: str) -> None:
        server.write_client(home, "box")
        config = home / ".ssh/config"
        config.write_text(re.sub(r"  Identit.*\n", "", config.read_text()))
        (home / ".ssh/key_box").unlink()
        assert self.refusal("box", environ).code == "login_refused"
        assert self.greets("box", environ | {"SSH_AUTH_SOCK": agent})

    def test_a_key_with_a_passphrase(self, server: Sshd, home: Path, environ: dict[str, str], agent: str) -> None:
        """It cannot be used by itself; the agent, which was told the passphrase, makes it good."""
        server.write_client(home, "box")
        key = home / ".ssh/key_box"
        subprocess.run(["ssh-keygen", "-p", "-N", "secret", "-f", key], check=True, capture_output=True)
        (home / ".ssh/key_box.pub").write_text(Path(f"{server.key}.pub").read_text())
        assert self.refusal("box", environ).code == "login_refused"
        assert self.greets("box", environ | {"SSH_AUTH_SOCK": agent})

    def test_a_host_that_asks_for_more_than_a_key(
        self, other_server: Sshd, home: Path, environ: dict[str, str]
    ) -> None:
        other_server.write_client(home, "other")
        other_server.stop()
        config = other_server.folder / "authorized_keys"
        config.write_text(config.read_text())
        other_server.options = ["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]
        other_server.start()
        fault = self.refusal("other", environ)
        assert fault.code == "login_refused" and "password" in fault.message
        assert "ControlMaster" in fault.hint and "--ssh-client openssh" in fault.hint

    def test_nothing_listens(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box")
        with pytest.raises(PlatformUnreachable, match=r"box .*refused"):
            connect(make_target("box", port=CLOSED_PORT, client=self.client), environ)

    def test_no_answer(self, host: NetHost, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box")
        host.cut()
        try:
            begun = time.monotonic()
            with pytest.raises(PlatformUnreachable, match="box"):
                connect(make_target("box", client=self.client), environ, timeout_s=1.0)
            assert time.monotonic() - begun < 30
        finally:
            host.restore()

    def test_a_name_that_is_none(self, environ: dict[str, str]) -> None:
        with pytest.raises(PlatformUnreachable, match=r"no-such-host\.invalid"):
            connect(make_target("no-such-host.invalid", client=self.client), environ)

    def test_login_hosts_in_turn(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "good")
        server.write_client(home, "closed", options=[f"Port {CLOSED_PORT}"])
        server.write_client(home, "refusing", options=["User stranger"])
        with connect(make_target("closed, refusing,good", client=self.client), environ) as remote:
            assert remote.name == "good"
        with pytest.raises(PreflightError, match="refusing refuses to log stranger in") as caught:
            connect(make_target("closed,refusing", client=self.client), environ)
        assert "closed" in caught.value.message

    def test_a_doubtful_key_is_not_passed_over(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "doubtful", options=[f"UserKnownHostsFile {home}/none"])
        server.write_client(home, "good")
        assert self.refusal("doubtful,good", environ).code == "host_key_unknown"

    def test_jump_hosts(self, host: NetHost, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        """The inner ones listen where only the host itself can reach them."""
        with sshd(host.folder / f"inner-{self.client}", host, address="127.0.0.1", port=2200) as inner:
            server.write_client(home, "gate")
            inner.write_client(home, "middle", options=["ProxyJump gate"])
            inner.write_client(home, "last", options=["ProxyJump gate,middle"])
            for alias in ("middle", "last"):
                with connect(make_target(alias, client=self.client), environ) as remote:
                    assert remote.run("echo $SSH_CONNECTION").out.split()[2:] == ["127.0.0.1", "2200"]
                    assert send_for_digest(remote, BIG) == hashlib.sha256(BIG).hexdigest()

    def test_a_proxy_command(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        command = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3; kill $!'"
        server.write_client(home, "box", options=[f"ProxyCommand {command}"])
        assert self.greets("box", environ)

    def test_includes_and_patterns(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "login-7")
        config, more = home / ".ssh/config", home / ".ssh/more"
        more.mkdir()
        (more / "cluster.conf").write_text(config.read_text().replace("Host login-7", "Host login-* !login-1"))
        config.write_text(f"Include {more}/*.conf\nHost *\n  Port {CLOSED_PORT}\n  User nobody\n")
        assert self.greets("login-7", environ)
        with pytest.raises(PlatformUnreachable):
            connect(make_target("login-1", client=self.client), environ, timeout_s=2.0)

    def refusal(self, hosts: str, environ: dict[str, str]) -> MoorageError:
        with pytest.raises(PreflightError) as caught:
            connect(make_target(hosts, client=self.client), environ)
        return caught.value

    def greets(self, alias: str, environ: dict[str, str]) -> bool:
        with connect(make_target(alias, client=self.client), environ) as remote:
            return remote.run("echo $GREETING").out == "from afar\n"


def replace_key(path: Path) -> None:
    path.unlink()
    make_key(path)
