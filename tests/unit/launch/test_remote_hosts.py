"""Host keys, targets, faults and file commands of remote machines."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError, UsageError
from moorage.launch.remote import faults, shell_files
from moorage.launch.remote.host_keys import check_host_key
from moorage.launch.remote.known_hosts import fingerprint, known_kinds, line_for, read_keys, verdict
from moorage.launch.remote.openssh_faults import fault_of, reason_of
from moorage.launch.remote.ssh_config import Settings, settings_of
from moorage.launch.remote.target import RemoteTarget, make_target

KEY, OTHER = b"a key", b"another key"
KIND = "ssh-ed25519"
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20})", fullmatch=True)


def line(names: str, blob: bytes = KEY, *, kind: str = KIND, marker: str = "") -> str:
    return f"{marker} {names} {kind} {base64.b64encode(blob).decode()} comment\n".lstrip()


def hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (line("box"), "box", "known"),
        (line("other"), "box", "unknown"),
        (line("box", OTHER), "box", "changed"),
        (line("box", OTHER, kind="ssh-rsa") + line("box"), "box", "known"),
        (line("box,10.0.0.1"), "10.0.0.1", "known"),
        (line("[box]:2222"), "[box]:2222", "known"),
        (line("box"), "[box]:2222", "unknown"),
        (line("*.example,!bad.example"), "good.example", "known"),
        (line("*.example,!bad.example"), "bad.example", "unknown"),
        (line("box") + line("*", marker="@revoked"), "box", "revoked"),
        (line("box", OTHER, marker="@revoked"), "box", "unknown"),
        (line("box", marker="@cert-authority"), "box", "unknown"),
        ("# " + line("box"), "box", "unknown"),
        ("box\nbox ssh-rsa\n|1|x|y ssh-ed25519 AAAA\n|1|x ssh-ed25519 AAAA\n", "box", "unknown"),
        ("", "box", "unknown"),
    ],
)
def test_what_known_hosts_says(text: str, name: str, expected: str) -> None:
    assert verdict(read_keys([text]), name, KIND, KEY) == expected


@given(NAMES, NAMES)
def test_hashed_names(name: str, other: str) -> None:
    keys = read_keys([line(hashed(name))])
    assert verdict(keys, name, KIND, KEY) == "known"
    assert verdict(keys, name, KIND, OTHER) == "changed"
    assert (verdict(keys, other, KIND, KEY) == "known") == (name == other)


def test_kinds_to_ask_for() -> None:
    keys = read_keys([line("box", kind="ssh-rsa") + line("box") + line("box", kind="x", marker="@revoked")])
    assert known_kinds(keys, "box") == ["ssh-rsa", KIND]


@given(NAMES, st.binary(min_size=1))
def test_a_noted_key_is_known(name: str, blob: bytes) -> None:
    assert verdict(read_keys([line_for(name, KIND, blob)]), name, KIND, blob) == "known"


def test_fingerprints_are_those_of_ssh_keygen() -> None:
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


def settings(home: Path, *, text: str = "", port: int | None = None) -> Settings:
    return settings_of("box", [text], home=str(home), local_user="me", port=port)


def test_a_key_that_is_not_known(tmp_path: Path) -> None:
    target = make_target("box", user="me", port=2222)
    with pytest.raises(PreflightError) as caught:
        check_host_key(settings(tmp_path, port=2222), [], KIND, KEY, target=target)
    assert caught.value.code == "host_key_unknown" and fingerprint(KEY) in caught.value.message
    assert caught.value.next == ["ssh -o StrictHostKeyChecking=ask -p 2222 me@box true"]
    assert caught.value.data == {"host": "box", "fingerprint": fingerprint(KEY)}


def test_a_key_that_has_changed(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    known = tmp_path / ".ssh/known_hosts"
    known.write_text(line("box", OTHER))
    target = make_target("box")
    for strict in ("", "StrictHostKeyChecking accept-new"):
        with pytest.raises(PreflightError) as caught:
            check_host_key(settings(tmp_path, text=strict), read_keys([known.read_text()]), KIND, KEY, target=target)
        assert caught.value.code == "host_key_changed"
        assert caught.value.next[0] == f"ssh-keygen -f {known} -R box"
    check_host_key(
        settings(tmp_path, text="StrictHostKeyChecking no"), read_keys([known.read_text()]), KIND, KEY, target=target
    )
    assert known.read_text() == line("box", OTHER)
    revoked = read_keys([line("box", marker="@revoked")])
    with pytest.raises(PreflightError, match="revoked"):
        check_host_key(settings(tmp_path, text="StrictHostKeyChecking no"), revoked, KIND, KEY, target=target)


def test_targets_survive_json() -> None:
    target = make_target("a, b,c", user="me", port=2222, identity_file="~/key", client="openssh")
    assert target.hosts == ("a", "b", "c")
    assert RemoteTarget.from_dict(json.loads(json.dumps(target.as_dict()))) == target
    assert RemoteTarget(("a",)) == make_target("a")


@pytest.mark.parametrize("hosts", ["", " , ", "-oProxyCommand=x", "a b", "a;b", "$(a)", "a\nb"])
def test_hosts_that_cannot_be(hosts: str) -> None:
    with pytest.raises(UsageError):
        make_target(hosts)


@pytest.mark.parametrize("given", [{"user": "-x"}, {"user": ""}, {"port": 0}, {"port": 65536}, {"client": "putty"}])
def test_targets_that_cannot_be(given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        make_target("box", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field", [{}, {"hosts": "box"}, {"hosts": [1]}, {"hosts": ["a"], "port": "22"}, {"hosts": ["a"], "client": None}]
)
def test_fields_that_are_no_target(field: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        RemoteTarget.from_dict(field)


def test_login_faults_name_the_variable_that_is_missing() -> None:
    none = faults.login_refused("box", "me", [], {})
    assert "there is no key to offer" in none.message
    assert "SSH_KEY_PATH and SSH_AUTH_SOCK are not set" in none.hint
    one = faults.login_refused("box", "me", ["/key"], {"SSH_KEY_PATH": "/key"})
    assert "it was offered /key" in one.message and "SSH_AUTH_SOCK is not set" in one.hint
    assert "not set" not in faults.login_refused("b", "m", [], {"SSH_KEY_PATH": "/k", "SSH_AUTH_SOCK": "/s"}).hint


def test_a_refusal_tells_more_than_silence() -> None:
    silent, refused = faults.unreachable("a", "timed out"), faults.login_refused("b", "me", [], {})
    both = faults.none_answers({"a": silent, "b": refused})
    assert isinstance(both, PreflightError) and both.code == "login_refused" and both.hint == refused.hint
    assert "a does not answer: timed out" in both.message
    only = faults.none_answers({"a": silent, "c": faults.unreachable("c", OSError())})
    assert isinstance(only, PlatformUnreachable) and "c does not answer: OSError" in only.message
    assert faults.none_answers({"a": silent}) is silent


VERBOSE = """OpenSSH_9.2p1, OpenSSL 3
debug1: Server host key: ssh-ed25519 SHA256:abc
debug1: Offering public key: /home/me/.ssh/id_a ED25519 SHA256:x explicit
"""


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("Host key verification failed.", "host_key_unknown", "SHA256:abc"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "host_key_changed",
            "SHA256:abc",
        ),
        ("@ WARNING: REVOKED HOST KEY DETECTED! @\nHost key verification failed.", "host_key_changed", "revoked"),
        ("me@box: Permission denied (publickey,password).", "login_refused", "/home/me/.ssh/id_a"),
        ("me@box: Permission denied (keyboard-interactive).", "login_refused", "more than a key"),
        ("Received disconnect: 2: Too many authentication failures", "login_refused", "id_a"),
        ("ssh: connect to host box port 22: Connection refused", "platform_unreachable", "Connection refused"),
        (
            "ssh: Could not resolve hostname gate\nkex_exchange: Connection closed by UNKNOWN port 65535",
            "platform_unreachable",
            "Could not resolve",
        ),
        ("", "platform_unreachable", "does not answer"),
    ],
)
def test_what_ssh_says(tmp_path: Path, said: str, code: str, words: str) -> None:
    fault = fault_of(VERBOSE + said, settings(tmp_path), target=make_target("box"), environ={})
    assert isinstance(fault, MoorageError)
    assert fault.code == code and words in fault.message


def test_the_reason_is_for_people() -> None:
    assert reason_of("debug1: x\nWhy\ndebug1: y\n\n") == "Why"
    assert reason_of("debug1: x") == ""


@pytest.mark.parametrize("name", ["file", "-rf", "a b/c'd\"e", "$HOME", "*", "new\nline"])
def test_files_by_the_shell(tmp_path: Path, name: str) -> None:
    def run(command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["/bin/sh", "-c", command], input=data, cwd=tmp_path, capture_output=True, check=False)

    folder = str(Path(name).parent)
    if folder != ".":
        assert run(shell_files.folder_command(folder, 0o700)).returncode == 0
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    assert run(shell_files.read_command(name)).returncode == shell_files.NOT_THERE
    data = os.urandom(1000)
    assert run(shell_files.write_command(name, len(data), 0o640, f"{name}.part"), data).returncode == 0
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    assert run(shell_files.read_command(name)).stdout == data

    cut_off = run(shell_files.write_command(name, len(data) + 1, 0o640, f"{name}.part"), data)
    assert cut_off.returncode != 0 and b"not all of it came" in cut_off.stderr
    assert run(shell_files.read_command(name)).stdout == data
    assert not (tmp_path / f"{name}.part").exists()

    assert run(shell_files.remove_command(name)).returncode == 0
    assert run(shell_files.remove_command(name)).returncode == 0
    assert not (tmp_path / name).exists()
