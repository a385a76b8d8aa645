"""A control plane with a Ray cluster of its own, and the gateway in front, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.launch.processes import all_processes, identity_of
from moorage.serving.backends.ray_serve.cluster.local import LocalCluster
from moorage.serving.backends.ray_serve.rest import RayRest
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until
from tests.contract.platform_contract import free_port
from tests.contract.serving_process import GATEWAY_ENV, Caller, ServingProcess
from tests.real.ray.cluster_rig import ENGINE, Place
from tests.real.ray.quick_python import quick_python

__all__ = ["ServingPlane", "eventually", "lives", "pids", "running_plane"]

LOADS_WITHIN_S = 400.0
"""A replica takes a minute on a quiet machine."""


@contextlib.contextmanager
def running_plane(folder: Path, model: Path, ray_python: Path) -> Iterator[ServingPlane]:
    """With nothing declared. What it started is gone at the end: every process, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("MOORAGE_RAY_PYTHON", str(quick_python(folder / "python", ray_python)))
        # Others share this machine: how much memory they take is no reason to end a replica.
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        # Nor is what they compute a reason for replicas to wait.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv(GATEWAY_ENV, "")
        plane = ServingPlane(folder, model)
        try:
            yield plane
        finally:
            plane.close()
            record = plane.record()
            cluster = LocalCluster("plane", {"XDG_STATE_HOME": str(folder / "state")}, time.time)
            assert cluster.end()
            of_it = [one for one in all_processes().values() if one.session == record["pid"]]
            assert not [one for one in of_it if one.lives]
            assert not Path(record["temp_dir"]).exists()


class ServingPlane:
    """`XDG_STATE_HOME` lies in `folder`: set it before, for the cluster's record is there."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self._state = folder / "state"
        config = {
            "serving": {
                "llm": {"accelerator": "cpu", "engine_kwargs": ENGINE},
                "ray": {"owner": "plane"},
                "attempts": 1,
                "drain_s": 2,
                "deadline_s": LOADS_WITHIN_S,
            }
        }
        self._config = folder / "serving.yaml"
        self._config.write_text(json.dumps(config))
        self._port = free_port()
        self._tokens = (secrets.token_hex(12), secrets.token_hex(12))
        self.api = self._serve()
        source = self.api.root / "hf" / "nano"
        source.mkdir()
        for file in model.iterdir():
            (source / file.name).write_bytes(file.read_bytes())
        self.alice = self.api.user("alice")
        os.environ[GATEWAY_ENV] = self.api.gateway_token
        self._stub = StubThread()
        self.gateway = GatewayProcess(
            self._stub,
            folder / "gateway.db",
            whom=("--serving", self.api.url, "--serving-token-env", GATEWAY_ENV),
            until_ready=False,
        )

    def declare(self, suffix: str, **spec: Any) -> str:
        return self.alice.declare(suffix, model_source="$HOME/common/hf/nano", **spec)

    def settled(self, key: str, state: str) -> dict[str, Any]:
        """The model's detail once it is so."""
        found: dict[str, Any] = {}

        def so() -> bool:
            found.update(self.alice.detail(key))
            model = found["model"]
            return model["state"] == state and model["observed_generation"] == model["generation"]

        try:
            eventually(so)
        except AssertionError as fault:
            raise AssertionError(f"{found}\n{''.join(self.api.said)[-3000:]}") from fault
        return found

    def endpoint(self, key: str) -> tuple[str, str]:
        """Base URL and model of what serves it now, as the gateway is told."""
        told = self.api.gateway.get("/api/v2/serve/endpoints").json()
        one = next(one for one in told["models"] if one["model_key"] == key)["endpoints"][0]
        return one["base_url"], one["model"]

    def applications(self) -> list[str]:
        """What Ray has of this control plane's."""
        told = self.api.admin.get("/api/v2/serve/status").json()["backend"]
        apps = told["summary"]["applications"] if told["reachable"] else {}
        return [name for name, one in apps.items() if one["ours"]]

    def built(self) -> list[str]:
        """Those of all applications that Ray has built: what follows is that their processes start."""
        place = self.place()
        rest = RayRest(place.address, lambda: place.token)
        try:
            return [name for name, one in rest.details()["applications"].items() if one.get("deployments")]
        finally:
            rest.close()

    def record(self) -> dict[str, Any]:
        """Of the cluster."""
        found: dict[str, Any] = json.loads((self._state / "moorage" / "ray" / "plane.json").read_text())
        return found

    def place(self) -> Place:
        found = self.record()
        token = Path(found["token_file"]).read_text().strip()
        return Place(f"http://127.0.0.1:{found['dashboard_port']}", token)

    def crash_and_return(self) -> None:
        """The control plane is killed; the next one comes at the same port, over the same store."""
        self.api.kill()
        alice = self.alice.token
        self.api = self._serve()
        self.alice = Caller(self.api.url, alice)

    def close(self) -> None:
        self.gateway.kill()
        self._stub.close()
        self.api.kill()

    def _serve(self) -> ServingProcess:
        flags = ("--backend", "ray_serve", "--port", str(self._port), "--config", str(self._config))
        return ServingProcess(self.folder, *flags, tokens=self._tokens)


def pids(detail: dict[str, Any]) -> set[int]:
    """Of the processes that serve a model, the ingress too; none when nobody knows."""
    parts = detail["serve_status"].get("deployments", {}).values()
    return {one["pid"] for part in parts for one in part["replicas"] if one["state"] == "RUNNING"}


def eventually(condition: Callable[[], bool]) -> None:
    """Look until it is so, at a pace that takes nothing from the engines that load meanwhile."""
    wait_until(condition, within_s=LOADS_WITHIN_S, pause_s=0.25)


def lives(pid: int) -> bool:
    """Nobody may be there to collect what is dead."""
    return identity_of(pid) is not None
