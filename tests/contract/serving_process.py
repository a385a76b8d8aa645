"""A serving API as a process of its own, with the memory backend and folders of its own.

with running_api(tmp_path) as api:
    alice = api.user("alice")
    alice.post("/api/v2/serve/models", b"model_id: m\\nmodel_source: $HOME/m\\n")
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests

from tests.contract.gateway_process import wait_until
from tests.contract.server_lines import ServerLines

ROOT = Path(__file__).resolve().parents[2]
END_WITHIN_S = 60
MODELS = "/api/v2/serve/models"
YAML = {"Content-Type": "application/yaml"}
ADMIN_ENV = "TEST_SERVING_ADMIN"
GATEWAY_ENV = "TEST_SERVING_GATEWAY"


class Caller:
    """Asks with one token; None: with none."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token
        self.http = requests.Session()
        self.http.trust_env = False
        if token is not None:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """`body`: bytes as YAML unless the headers say otherwise, anything else as JSON, None none."""
        if isinstance(body, bytes):
            options["data"] = body
            options["headers"] = {**YAML, **options.get("headers", {})}
        elif body is not None:
            options["json"] = body
        return self.http.request(method, self.url + path, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.ask("POST", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.ask("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.ask("DELETE", path, **options)

    def declare(self, suffix: str, /, **spec: Any) -> str:
        """The key of a model that was accepted."""
        reply = self.post(MODELS, {"model_id": suffix, "model_source": "$HOME/common/hf/m", **spec})
        assert reply.status_code == 202, reply.text
        return str(reply.json()["model_key"])

    def detail(self, key: str) -> dict[str, Any]:
        reply = self.get(f"{MODELS}/{key}")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def settled(self, key: str, state: str) -> dict[str, Any]:
        """Its detail once it is in that state and nothing of it is under way."""
        found: dict[str, Any] = {}

        def so() -> bool:
            found.update(self.detail(key))
            model = found["model"]
            return model["state"] == state and model["observed_generation"] == model["generation"]

        wait_until(so)
        return found


class ServingProcess:
    """`moor serve api` on a free port."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        db: str | None = None,
        tokens: tuple[str, str] | None = None,
        module: str = "moorage.cli.main",
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`tokens`: the administrator's and the gateway's; None: new ones. `module`: what is run, with `environ`."""
        self.root = folder / "private"
        for name in ("hf/m", "datasets/d", "users/alice/m", "users/bob/m"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.db = folder / "serving.db"
        self.admin_token, self.gateway_token = tokens or (secrets.token_hex(12), secrets.token_hex(12))
        words = ["serve", "api", "--backend", "memory", "--port", "0", "--root", str(self.root), "--json"]
        words += ["--db", db or f"sqlite:///{self.db}", "--admin-token-env", ADMIN_ENV]
        words += ["--gateway-token-env", GATEWAY_ENV, *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                ADMIN_ENV: self.admin_token,
                GATEWAY_ENV: self.gateway_token,
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self._lines = ServerLines(self.process.stderr)
        self.said = self._lines.said
        self.url = self._listening()
        self.admin = Caller(self.url, self.admin_token)
        self.gateway = Caller(self.url, self.gateway_token)
        self.nobody = Caller(self.url, None)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def user(self, user_id: str) -> Caller:
        """A user, made when there is none, with a token of their own."""
        assert self.admin.post("/api/v2/users", {"user_id": user_id}).status_code in (201, 409)
        reply = self.admin.post(f"/api/v2/users/{user_id}/tokens")
        assert reply.status_code == 201, reply.text
        return Caller(self.url, reply.json()["token"])

    def stop(self) -> int:
        """Tell it to end and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_WITHIN_S)

    def kill(self) -> None:
        """End it as a crash does, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_WITHIN_S)

    def _listening(self) -> str:
        port = self._lines.listening_port()
        if port is None:
            self.kill()
            raise AssertionError(f"the serving API did not start: {''.join(self.said)}")
        return f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running_api(
    folder: Path, *flags: str, db: str | None = None, tokens: tuple[str, str] | None = None
) -> Iterator[ServingProcess]:
    """One that is gone at the end, and that met nothing unexpected; its store stays in `folder`."""
    api = ServingProcess(folder, *flags, db=db, tokens=tokens)
    try:
        yield api
        assert not [line for line in api.said if '"traceback"' in line], "".join(api.said)
    finally:
        api.kill()
