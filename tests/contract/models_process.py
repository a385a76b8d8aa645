"""`moor serve api` with the memory backend as a process of its own, and `moor models` against it.

with serving_api(tmp_path) as api:
    token = api.user("alice")
    api.models("list", token=token)
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from moorage.cli.main import main
from moorage.client.serving.client import ServingClient
from tests.contract.platform_contract import free_port

__all__ = ["ADMIN", "GoingOn", "Said", "ServingApi", "applied", "good", "serving_api", "spec", "until"]

CHECKOUT = Path(__file__).resolve().parents[2]
ADMIN = "an-administrators-token-of-tests"
WITHIN_S = 60.0


class Said(NamedTuple):
    """What a command answered."""

    status: int
    lines: list[dict[str, Any]]
    """NDJSON before the envelope."""
    data: dict[str, Any]
    error: dict[str, Any]
    stdout: str
    stderr: str


class GoingOn:
    """A `moor models` that goes on, and what it has said until now."""

    def __init__(self, api: ServingApi, token: str, *words: str) -> None:
        self.process = subprocess.Popen(
            api.command("models", *words, "--json"),
            env=api.env(token),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))


class ServingApi:
    """The API on a port that stays the same over restarts."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.root, self.db, self.flags = folder / "root", folder / "serving.db", flags
        for name in ("hf/m", "datasets", "users"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), "MOORAGE_ADMIN_TOKEN": ADMIN, "NO_COLOR": "1"}
        for name in ("MOORAGE_SERVING_TOKEN", "MOORAGE_SERVING_URL"):
            self.environ.pop(name, None)
        self.process: subprocess.Popen[str] | None = None
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        words = ["serve", "api", "--backend", "memory", "--port", str(self.port), "--root", str(self.root)]
        words += ["--db", f"sqlite:///{self.db}", "--json", *self.flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moorage.cli.main", *words],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        listening = threading.Event()
        threading.Thread(target=self._read, args=(self.process, listening), daemon=True).start()
        assert listening.wait(WITHIN_S), "".join(self.log)

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line)
            if '"listening"' in line:
                listening.set()

    def kill(self) -> None:
        """As a crash does."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WITHIN_S)

    def admin(self) -> ServingClient:
        return ServingClient(self.url, token=ADMIN)

    def user(self, name: str) -> str:
        """A new user's token."""
        with self.admin() as admin:
            admin.create_user(name)
            return admin.create_token(name).token

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "moorage.cli.main", *words]

    def env(self, token: str | None) -> dict[str, str]:
        where = {"MOORAGE_SERVING_URL": self.url}
        return {**self.environ, **where, **({} if token is None else {"MOORAGE_SERVING_TOKEN": token})}

    def models(self, *words: str, token: str | None, stdin: str | bytes | None = None) -> Said:
        """`moor models WORDS --json`."""
        return self.run("models", *words, "--json", token=token, stdin=stdin)

    def run(self, *words: str, token: str | None, stdin: str | bytes | None = None) -> Said:
        """Any command, in this process."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", self.env(token))
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given or b"")))
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), own_signals():
                status = main(words)
        stdout, stderr = out.getvalue(), err.getvalue()
        assert "Traceback" not in stderr, stderr
        if token is not None:
            assert token not in stdout + stderr
        if "--json" not in words:
            return Said(status, [], {}, {}, stdout, stderr)
        *lines, last = [json.loads(line) for line in stdout.splitlines()]
        return Said(status, lines, last.get("data") or {}, last.get("error") or {}, stdout, stderr)


@contextlib.contextmanager
def serving_api(folder: Path, *flags: str) -> Iterator[ServingApi]:
    api = ServingApi(folder, *flags)
    try:
        yield api
    finally:
        api.kill()


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """A command ends deaf to signals, and what is started after it in this process would be as well."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until(so: Callable[[], Any]) -> Any:
    """What `so` says once it is true."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = so()
        if found:
            return found
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def spec(suffix: str, **more: Any) -> str:
    return json.dumps({"model_id": suffix, "model_source": "$HOME/common/hf/m", **more})


def good(said: Said) -> dict[str, Any]:
    assert said.status == 0, (said.error, said.stderr)
    return said.data


def applied(api: ServingApi, token: str, suffix: str, **more: Any) -> dict[str, Any]:
    data = good(api.models("apply", "-f", "-", "--wait", "60", token=token, stdin=spec(suffix, **more)))
    [model] = data["models"]
    return dict(model)
