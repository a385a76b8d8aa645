"""A launch backend over a registry of its own, whose engine is the stand-in: for tests of the backend itself."""

from __future__ import annotations

import json
import os
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moorage.launch.plane import Plane
from moorage.launch.stop import stop
from moorage.serving.backends.contract import Seen, Wanted
from moorage.serving.backends.launch.backend import LaunchBackend
from moorage.serving.backends.launch.looking import Patience, labels_of
from moorage.serving.backends.launch.starting import Terms
from moorage.serving.spec.spec import Adapter, ServingSpec
from tests.stand_ins.vllm_command import install

WITHIN_S = 60.0


class Harbour:
    """A machine with the stand-in engine; `backend()` opens one more control plane over the same registry.

    A lost registry is made again from all that runs on the machine, other tests' services among it: those that count
    are of its own scope, or of one that begins with it.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "state").mkdir(mode=0o700)
        self.folder = folder
        self.scope = f"test {uuid.uuid4().hex}"
        self.environ = {
            **os.environ,
            "MOORAGE_STATE_FILE": str(folder / "state" / "services.json"),
            "XDG_STATE_HOME": str(folder / "xdg"),
            "MOORAGE_VLLM_PYTHON": str(install(folder / "engine")),
        }
        self.plane = Plane(self.environ)

    def backend(self, *, another: bool = False, drain_s: float = 0.0, **terms: Any) -> LaunchBackend:
        """`another`: of another control plane."""
        return LaunchBackend(
            self.plane,
            Terms(**{"accelerator": "cpu", **terms}),
            scope=f"{self.scope}, another" if another else self.scope,
            drain_s=drain_s,
            patience=Patience(silent_s=2.0, misses=2),
        )

    def wanted(self, suffix: str = "m", *, model: str = "good", app: str | None = None, **spec: Any) -> Wanted:
        source = self.folder / "models" / model
        source.mkdir(parents=True, exist_ok=True)
        declared = ServingSpec(model_id=suffix, model_source=str(source), **spec)
        key = f"svc-alice-20260101-000000-{suffix}"
        return Wanted(
            app=app or f"{key}-{declared.build()}",
            model_key=key,
            model_id=f"alice-202601010000-{suffix}",
            spec=declared,
        )

    def adapter(self, name: str, *, good: bool = True) -> Adapter:
        folder = self.folder / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        if good:
            (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
        return Adapter(name=name, source=str(folder))

    def entries(self, app: str | None = None) -> list[dict[str, Any]]:
        services = [(entry, labels_of(entry)) for entry in self.plane.registry.read().services.values()]
        ours = [(entry, labels) for entry, labels in services if labels.get("scope", "").startswith(self.scope)]
        return [entry for entry, labels in ours if app is None or labels.get("app") == app]

    def close(self) -> None:
        """End whatever the test left."""
        for entry in self.entries():
            stop(self.plane, entry)


def until(
    backend: LaunchBackend, condition: Callable[[Mapping[str, Seen]], bool], within_s: float = WITHIN_S
) -> Mapping[str, Seen]:
    """Observe as the reconciler does, until it is so."""
    deadline = time.monotonic() + within_s
    while True:
        seen = backend.observe()
        if condition(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def get(seen: Seen, path: str, index: int = 0) -> Any:
    """What one of its replicas answers."""
    url = seen.endpoints[index].base_url.removesuffix("/v1") + path
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.loads(reply.read())


def pids(seen: Seen) -> list[int]:
    """The engines' processes, in the order of the endpoints."""
    return [get(seen, "/stub/started", index)["pid"] for index in range(len(seen.endpoints))]
