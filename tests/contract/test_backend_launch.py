"""The launch backend keeps the contract of backends, over the stand-in engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from moorage.launch.plane import Plane
from moorage.serving.backends.contract import Backend, Wanted
from moorage.serving.backends.launch.backend import LaunchBackend
from moorage.serving.backends.launch.starting import Terms
from moorage.serving.spec.spec import ServingSpec
from tests.contract.backend_contract import BackendContract, Rig, wanted_of
from tests.contract.launch_backend_parts import Harbour, pids, until


class LaunchRig(Rig):
    deadline_s = 60.0

    def __init__(self, folder: Path) -> None:
        self.harbour = Harbour(folder)
        self.backend: LaunchBackend = self.harbour.backend()
        self.others: list[LaunchBackend] = []

    def _wanted(self, name: str, model: str, replicas: int = 1) -> Wanted:
        source = self.harbour.wanted(model=model).spec.model_source
        return wanted_of(name, ServingSpec(model_id=f"tiny-{name}", model_source=source, num_replicas=replicas))

    def wanted(self, name: str, replicas: int = 1) -> Wanted:
        return self._wanted(name, "good", replicas)

    def failing(self, name: str) -> Wanted:
        return self._wanted(name, "broken")

    def refused(self, name: str) -> Wanted:
        return wanted_of(name, ServingSpec(model_id="x", model_source="/m", engine_kwargs={"port": 1}))

    def reopened(self) -> Backend:
        self.others.append(self.harbour.backend())
        return self.others[-1]

    def replicas(self, app: str) -> Collection[object]:
        return pids(self.backend.observe()[app])

    def foreign(self) -> Callable[[], bool]:
        other, theirs = self.harbour.backend(another=True), self.harbour.wanted("theirs")
        self.others.append(other)
        other.apply([theirs])
        before = pids(until(other, lambda seen: seen[theirs.app].replicas_ready == 1)[theirs.app])
        return lambda: pids(other.observe()[theirs.app]) == before

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[Backend]:
        """Its registry cannot be read."""
        state = self.harbour.folder / "state" / "damaged.json"
        state.write_text("{")
        plane = Plane({**self.harbour.environ, "MOORAGE_STATE_FILE": str(state)})
        backend = LaunchBackend(plane, Terms(accelerator="cpu"), scope="test")
        yield backend
        backend.close()

    def close(self) -> None:
        for backend in (self.backend, *self.others):
            backend.close()
        self.harbour.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchRig]:
    rig = LaunchRig(tmp_path_factory.mktemp("launch"))
    yield rig
    rig.close()


class TestLaunchBackend(BackendContract):
    pass
