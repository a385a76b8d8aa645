"""`moor serve api` that cannot start says why, with the exit status of the reason."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moorage.cli.main import main

ADMIN = "admin-token-of-a-test"
Start = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Start:
    """Exit status and error of a start with these flags on top of good ones."""
    monkeypatch.setenv("GOOD", ADMIN)
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.setenv("OTHER", f"{ADMIN}-other")

    def started(*flags: str) -> tuple[int, dict[str, Any]]:
        good = ["--backend", "memory", "--port", "0", "--root", str(tmp_path), "--admin-token-env", "GOOD"]
        status = main(["serve", "api", *good, "--db", f"sqlite:///{tmp_path / 's.db'}", *flags, "--json"])
        told = capsys.readouterr().out
        assert ADMIN not in told
        return status, json.loads(told)["error"]

    return started


@pytest.mark.parametrize(
    ("flags", "status", "code"),
    [
        (["--backend", "none"], 2, "bad_value"),
        (["--port", "70000"], 2, "bad_value"),
        (["--port", "x"], 2, "usage"),
        (["--inference-port", "0"], 2, "bad_value"),
        (["--public-host", "a/b"], 2, "bad_value"),
        (["--public-host", ""], 2, "bad_value"),
        (["--config", "/none/there.yaml"], 2, "bad_config"),
        (["--db", "mysql://a/b"], 2, "bad_value"),
        (["--admin-token-env", "NOT_SET_ANYWHERE"], 5, "admin_token_missing"),
        (["--admin-token-env", "SHORT"], 5, "admin_token_bad"),
        (["--gateway-token-env", "NOT_SET_ANYWHERE"], 5, "admin_token_missing"),
        (["--gateway-token-env", "GOOD"], 2, "bad_value"),
        (["--root", "/none/there"], 5, "root_missing"),
        (["--host", "192.0.2.1"], 6, "port_taken"),
    ],
)
def test_a_start_that_cannot_be_is_told(start: Start, flags: list[str], status: int, code: str) -> None:
    got, error = start(*flags)
    assert (got, error["code"]) == (status, code), error


def test_an_unknown_key_is_named_with_its_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("auth: none\nserving:\n  bogus: 1\n")
    status, error = start("--config", str(tmp_path / "c.yaml"))
    assert (status, error["code"]) == (2, "bad_config")
    assert "line 3: serving.bogus is unknown" in error["message"]


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ("{bogus: 1}", "bogus"),
        ("{max_model_len: abc}", "max_model_len"),
        ("{trust_remote_code: 'yes'}", "trust_remote_code"),
        ("{model: org/a}", "model is set for every model"),
    ],
)
def test_defaults_of_the_engine_are_checked(start: Start, tmp_path: Path, kwargs: str, named: str) -> None:
    (tmp_path / "c.yaml").write_text(f"serving: {{llm: {{engine_kwargs: {kwargs}}}}}\n")
    status, error = start("--config", str(tmp_path / "c.yaml"))
    assert (status, error["code"]) == (2, "bad_config")
    assert named in error["message"]


def test_a_port_in_use_is_told(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, error = start("--port", str(taken.getsockname()[1]))
    assert (status, error["code"]) == (6, "port_taken")


def test_the_words_alone_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--json"]) == 2
    assert "moor serve api" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["serve", "apy", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == "did you mean api?"
