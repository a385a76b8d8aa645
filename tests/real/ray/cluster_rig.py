"""How the backend's contract is tried on a real cluster: beside another control plane, and under load.

Its applications are light ones that a real Ray Serve builds, deploys and scales; with `whole`, models on real engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from moorage.serving.backends.contract import Backend, Wanted
from moorage.serving.backends.ray_serve.backend import RayServeBackend, Reached
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.rendering import IMPORT_PATH
from moorage.serving.backends.ray_serve.rest import RayRest
from moorage.serving.spec.spec import ServingSpec
from tests.contract.backend_contract import Rig, wanted_of
from tests.contract.platform_contract import free_port

__all__ = ["ENGINE", "ClusterRig", "Place"]

ENGINE = {
    "max_model_len": 2048,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "dtype": "float32",
    "num_gpu_blocks_override": 512,
}
"""What the tiny model is served with on a CPU."""
FOREIGN = "somebody-elses"
OWNER = "contract"
LIGHT = {
    "import_path": "light_app:build",
    "runtime_env": {"env_vars": {"PYTHONPATH": str(Path(__file__).with_name("inside"))}},
}


@dataclass(frozen=True)
class Place:
    """A cluster that runs."""

    address: str
    token: str


class LightRest(RayRest):
    """Has Ray build light applications in the place of our models; all else of them is as the backend says."""

    def declare(self, body: Mapping[str, Any]) -> None:
        ours = f"/{OWNER}/"
        told = [
            {**one, **LIGHT} if one["route_prefix"].startswith(ours) and one["import_path"] == IMPORT_PATH else one
            for one in body["applications"]
        ]
        super().declare({**body, "applications": told})


class ClusterRig(Rig):
    """A control plane of its own owner in a cluster that others use."""

    deadline_s = 400.0

    def __init__(self, place: Place, model: Path, *, whole: bool = False) -> None:
        self.place = place
        self._model = model
        self._rest = RayRest if whole else LightRest
        self._platform = RayPlatform(owner=OWNER, accelerator="cpu", engine_kwargs=ENGINE)
        self.backend: Backend = self.reopened()

    def wanted(self, name: str, replicas: int = 1) -> Wanted:
        return wanted_of(name, ServingSpec(model_id=f"{name}.1", model_source=str(self._model), num_replicas=replicas))

    def reopened(self) -> Backend:
        rest = self._rest(self.place.address, lambda: self.place.token)
        return RayServeBackend(self._platform, lambda: Reached(rest), rest.close)

    def replicas(self, app: str) -> Collection[object]:
        """Pids, of the ingress too."""
        seen = self.backend.observe()[app]
        parts = seen.details["deployments"].values()
        return [one["pid"] for part in parts for one in part["replicas"] if one["state"] == "RUNNING"]

    def endpoint(self, app: str) -> tuple[str, str]:
        """Base URL and model."""
        one = self.backend.observe()[app].endpoints[0]
        return one.base_url, one.model

    def foreign(self) -> Callable[[], bool]:
        """An application that answers with its process's id, declared as others would; its pid may not change."""
        self.settle(lambda _: bool(self.ask("GET").get("http_options")))  # Serve may only be starting
        details = self.ask("GET")
        config = {
            "name": FOREIGN,
            "route_prefix": f"/{FOREIGN}",
            "import_path": "ray.serve._private.test_utils:get_pid_entrypoint",
            "runtime_env": {"env_vars": {"SOMEBODYS": "own"}},
        }
        others = [one["deployed_app_config"] for one in details["applications"].values()]
        self.ask("PUT", {"http_options": details["http_options"], "applications": [*others, config]})
        self.settle(lambda _: self._application(FOREIGN).get("status") == "RUNNING")
        before = self._pids(FOREIGN)
        assert len(before) == 1
        return lambda: self._pids(FOREIGN) == before and self._config(FOREIGN) == config

    def ask(self, method: str, body: Any = None) -> Any:
        """Ray itself, past the backend."""
        headers = {"Authorization": f"Bearer {self.place.token}"}
        address = f"{self.place.address}/api/serve/applications/"
        reply = requests.request(method, address, headers=headers, json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json() if method == "GET" else None

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[Backend]:
        rest = RayRest(f"http://127.0.0.1:{free_port()}", lambda: self.place.token)
        yield RayServeBackend(replace(self._platform), lambda: Reached(rest), rest.close)

    def _application(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET")["applications"].get(name, {})
        return found

    def _config(self, name: str) -> object:
        return self._application(name).get("deployed_app_config")

    def _pids(self, name: str) -> list[int]:
        deployments = self._application(name).get("deployments", {}).values()
        return [replica["pid"] for one in deployments for replica in one["replicas"] if replica.get("pid")]
