"""How the brev command is called, on small programs that take its place."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from moorage.errors import FailedError, PlatformUnreachable, PreflightError, TryAgainError
from moorage.launch.interrupts import held_back
from moorage.launch.platforms.brev import cli as brev_cli
from moorage.launch.platforms.brev.cli import BrevCli, until

LISTING = '{"workspaces": [{"name": "box", "status": "%s", "build_status": "COMPLETED"}]}'


def command(folder: Path, script: str, **environ: str) -> BrevCli:
    program = folder / "brev"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return BrevCli({"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **environ})


def test_it_gets_nothing_but_what_is_its_own(tmp_path: Path) -> None:
    others = {"HF_TOKEN": "hf_secret", "NGC_KEY": "ngc", "AWS_SECRET_ACCESS_KEY": "aws", "LC_ALL": "C.UTF-8"}
    command(tmp_path, f"env > {tmp_path}/env; cat > {tmp_path}/stdin", **others, BREV_API_TOKEN="b").refresh()
    given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert given["BREV_API_TOKEN"] == "b"
    assert given["LC_ALL"] == "C.UTF-8"
    assert not {"HF_TOKEN", "NGC_KEY", "AWS_SECRET_ACCESS_KEY"} & set(given)
    assert (tmp_path / "stdin").read_bytes() == b""


def test_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    """So that Ctrl-C at the terminal does not end it in the middle of a creation."""
    command(tmp_path, f"cut -d ' ' -f 1,6 /proc/$$/stat > {tmp_path}/ids").refresh()
    pid, session = (tmp_path / "ids").read_text().split()
    assert pid == session


def test_without_it_nothing_works(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        BrevCli({"PATH": str(tmp_path)}).instances()
    assert caught.value.code == "brev_missing"


@pytest.mark.parametrize("script", ["echo nothing of use", "exit 3", "echo 'dial tcp: i/o timeout' >&2; exit 1"])
def test_what_cannot_be_read_is_no_empty_list(tmp_path: Path, script: str) -> None:
    with pytest.raises(PlatformUnreachable):
        command(tmp_path, script).instances()


def test_a_program_that_is_none(tmp_path: Path) -> None:
    cli = command(tmp_path, "")
    (tmp_path / "brev").write_bytes(b"\x7fELF nothing that runs")
    with pytest.raises(PlatformUnreachable, match="Exec format error"):
        cli.instances()


def test_one_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brev_cli, "ASK_TIMEOUT_S", 0.2)
    with pytest.raises(PlatformUnreachable, match=r"no answer within 0.2 s"):
        command(tmp_path, "exec sleep 60").instances()


def test_a_failed_creation_is_told(tmp_path: Path) -> None:
    cli = command(tmp_path, "case $2 in --help) echo --type;; *) echo 'it broke' >&2; exit 1;; esac")
    with pytest.raises(FailedError, match="it broke"):
        cli.create("moorage-1", {"instance_type": "h100"}, job_id="j")


def test_a_deletion_that_was_refused_is_told(tmp_path: Path) -> None:
    cli = command(tmp_path, f"case $1 in ls) echo '{LISTING % 'RUNNING'}';; *) echo no >&2; exit 1;; esac")
    with pytest.raises(PlatformUnreachable, match="brev delete box"):
        cli.delete("box")


def test_a_deletion_that_takes_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brev_cli, "GONE_WITHIN_S", 0)
    assert command(tmp_path, f"[ $1 != ls ] || echo '{LISTING % 'DELETING'}'").delete("box") is False


def test_an_instance_that_does_not_come_up_in_time(tmp_path: Path) -> None:
    cli = command(tmp_path, f"echo '{LISTING % 'DEPLOYING'}'")
    with pytest.raises(TryAgainError) as caught:
        cli.await_up("box", within_s=0)
    assert (caught.value.code, "box" in caught.value.message) == ("instance_not_up", True)


def test_passing_faults_are_waited_out_and_told_in_the_end() -> None:
    answers = iter([PlatformUnreachable("one"), None, 42])

    def look() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert until(look, what="it", within_s=60) == 42

    def never() -> None:
        raise PlatformUnreachable("the network is down")

    with pytest.raises(TryAgainError, match="the network is down"):
        until(never, what="it", within_s=0)


def test_a_signal_that_is_held_back_ends_a_wait() -> None:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), held_back():
        timer.start()
        until(lambda: None, what="it", within_s=60)
