"""SSH settings out of texts. (That OpenSSH reads the same: tests/real/test_remote.py.)"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.remote.ssh_config import Settings, matches_any, parse_jump, settings_of
from moorage.launch.remote.target import make_target
from moorage.launch.remote.user_config import read_settings


def read(text: str, alias: str = "box", **given: Any) -> Settings:
    return settings_of(alias, [text], home="/home/me", local_user="me", **given)


def test_without_a_config() -> None:
    settings = read("")
    assert (settings.host_name, settings.port, settings.user) == ("box", 22, "me")
    assert settings.identity_files[0] == "/home/me/.ssh/id_ed25519" and not settings.keys_are_named
    assert settings.known_hosts_files[:2] == ("/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts2")
    assert settings.known_hosts_files[2] == "/etc/ssh/ssh_known_hosts"
    assert (settings.strict, settings.proxy_jump, settings.proxy_command) == ("yes", (), None)
    assert settings.known_name == "box" and settings.place == "box:22"


def test_what_is_given_wins() -> None:
    text = "Host *\n User other\n Port 9\n IdentityFile ~/k2\n"
    settings = read(text, user="root", port=2200, identity_file="/k1")
    assert (settings.user, settings.port) == ("root", 2200)
    assert settings.identity_files == ("/k1", "/home/me/k2")
    assert settings.known_name == "[box]:2200"


def test_the_config_that_brev_writes() -> None:
    text = """
    Host my-box
      Hostname 10.0.0.7
      IdentityFile "~/.brev/brev.pem"
      User ubuntu
      Port 2222
      StrictHostKeyChecking no
      UserKnownHostsFile /dev/null
      IdentitiesOnly yes
      RequestTTY yes
      ControlMaster auto
      ControlPath ~/.ssh/brev-control-%C
    """
    settings = read(text, "my-box")
    assert (settings.host_name, settings.port, settings.user) == ("10.0.0.7", 2222, "ubuntu")
    assert settings.identity_files == ("/home/me/.brev/brev.pem",)
    assert (settings.strict, settings.identities_only, settings.user_known_hosts) == ("no", True, ("/dev/null",))
    assert settings.place == "my-box (10.0.0.7:2222)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("StrictHostKeyChecking off", "no"),
        ("StrictHostKeyChecking accept-new", "accept-new"),
        ("StrictHostKeyChecking ask", "yes"),
        ("StrictHostKeyChecking nonsense", "yes"),
        ("", "yes"),
    ],
)
def test_doubt_is_strict(line: str, expected: str) -> None:
    assert read(line).strict == expected


def test_agents() -> None:
    environ = {"MY_AGENT": "/run/agent"}
    assert read("IdentityAgent ~/agent").identity_agent == "/home/me/agent"
    assert read("IdentityAgent $MY_AGENT", environ=environ).identity_agent == "/run/agent"
    assert read("IdentityAgent none").identity_agent == "none"
    assert read("IdentityAgent SSH_AUTH_SOCK").identity_agent is None
    assert read("IdentityFile ${KEYS}/id", environ={"KEYS": "/keys"}).identity_files == ("/keys/id",)


def test_includes_hold_where_they_stand() -> None:
    files = {"all": ["User included\nHost other\n Port 5\n"], "never": ["Port 6\n"], "several": ["", "Port 7\n"]}
    asked: list[str] = []

    def include(pattern: str) -> Sequence[str]:
        asked.append(pattern)
        return files.get(pattern, [])

    text = "Include all\nHost box\n HostName real\nHost no\n Include never\nHost *\n Include nothing several\n"
    settings = read(text, include=include)
    assert (settings.user, settings.host_name, settings.port) == ("included", "real", 7)
    assert "never" not in asked
    assert read("Include loop", include=lambda _: ["Include loop\nPort 3\n"]).port == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box", (None, "box", None)),
        ("me@box:2200", ("me", "box", 2200)),
        ("ssh://me@box:2200", ("me", "box", 2200)),
        ("[fe80::1]:22", (None, "fe80::1", 22)),
        ("me@domain@box", ("me@domain", "box", None)),
        ("fe80::1", (None, "fe80::1", None)),
    ],
)
def test_jumps(text: str, expected: tuple[str | None, str, int | None]) -> None:
    assert parse_jump(text) == expected


def test_a_jump_to_nowhere() -> None:
    with pytest.raises(ValueError, match="names no host"):
        parse_jump("me@")


def test_pattern_lists() -> None:
    assert matches_any("Login-7", ["login-*"])
    assert not matches_any("login-1", ["login-*", "!login-1"])
    assert not matches_any("box", ["!other"])
    assert matches_any("[box]:2222", ["[box]:2222"])
    assert not matches_any("o:2222", ["[box]:2222"])


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    settings = read(text)
    assert 0 < settings.port < 65536
    assert settings.strict in ("yes", "no", "accept-new")


def test_files_of_a_home_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".ssh"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "config").write_text("Include conf.d/*.conf ~/.more/config\nHost *\n Port 4\n")
    (folder / "conf.d/b.conf").write_text("Port 2\nUser b\n")
    (folder / "conf.d/a.conf").write_text("Port 1\n")
    (tmp_path / ".more").mkdir()
    (tmp_path / ".more/config").write_text("HostName there\n")
    settings = read_settings("box", make_target("box", identity_file="~/key"), {"HOME": str(tmp_path)})
    assert (settings.port, settings.user, settings.host_name) == (1, "b", "there")
    assert settings.identity_files == (f"{tmp_path}/key",)
