"""What replicas of the launch backend wrote: while they live, when they ended, and when their build was given up."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from moorage.client.serving.following import fresh
from moorage.errors import NotFoundError
from moorage.serving.api.shared_backend import SharedBackend
from moorage.serving.backends.contract import AppState
from moorage.serving.backends.launch.backend import LaunchBackend
from moorage.serving.log import Log
from moorage.serving.model import State
from moorage.serving.plan.policy import Policy
from moorage.serving.plan.sight import application
from moorage.serving.reconciling.reconciler import Reconciler
from moorage.serving.replica_lines import by_replica
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.opening import open_store
from tests.contract.launch_backend_parts import Harbour, pids, until

SECRET = "value-of-a-secret-17"


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path)
    yield harbour
    harbour.close()


@pytest.fixture
def backend(harbour: Harbour) -> Iterator[LaunchBackend]:
    backend = harbour.backend()
    yield backend
    backend.close()


def test_a_failed_builds_last_lines_outlive_it(harbour: Harbour, backend: LaunchBackend, tmp_path: Path) -> None:
    source = tmp_path / "models" / f"broken-{SECRET}"
    source.mkdir(parents=True)
    store = open_store(f"sqlite:///{tmp_path}/serving.db")
    shared = SharedBackend(backend, time.time, secrets={"HF_TOKEN": SECRET})
    out = io.StringIO()
    reconciler = Reconciler(store, shared, Policy(attempts=1), log=Log(out))
    store.create_user("ann", datetime.now(UTC))
    model = store.declare("ann", ServingSpec(model_id="m", model_source=str(source)), datetime.now(UTC)).model
    app = application(model, model.spec).app
    deadline = time.monotonic() + 60
    while store.model(model.model_key).state is not State.FAILED or app in backend.observe():
        assert time.monotonic() < deadline, (store.model(model.model_key), out.getvalue())
        reconciler.run_once()
        time.sleep(0.05)
    assert harbour.entries() == []
    with pytest.raises(NotFoundError):
        list(shared.logs(app, 10))
    kept = store.failure_log(model.model_key)
    assert kept is not None
    assert kept.app == app
    assert all(line.startswith("[replica-") for line in kept.lines)
    assert any("ValueError: the weights are of another model" in line for line in kept.lines)
    assert any("it ended: " in line for line in kept.lines)
    assert SECRET not in repr(kept.lines)
    assert any("<HF_TOKEN>" in line for line in kept.lines)
    assert out.getvalue() == ""
    store.close()


def test_who_follows_is_told_nothing_twice_when_a_replica_is_started_again(
    harbour: Harbour, backend: LaunchBackend
) -> None:
    wanted = harbour.wanted()
    backend.apply([wanted])
    seen = until(backend, lambda seen: seen[wanted.app].state is AppState.RUNNING)
    before = by_replica(backend.logs(wanted.app, 1000))
    (first,) = pids(seen[wanted.app])
    os.kill(first, signal.SIGKILL)
    until(backend, lambda seen: seen[wanted.app].state is AppState.DEGRADED)
    seen = until(backend, lambda seen: seen[wanted.app].state is AppState.RUNNING)
    assert pids(seen[wanted.app]) != [first]
    until(backend, lambda _: any("it ended: " in line for line in backend.logs(wanted.app, 1000)))
    now = by_replica(backend.logs(wanted.app, 1000))
    came = fresh(before, now)
    old = before["[replica-0]"]
    assert old
    assert now["[replica-0]"][: len(old)] == old
    of_old = [line for line in came if line.startswith("[replica-0] ")]
    assert "it ended: " in of_old[-1]
    assert [*old, *of_old] == now["[replica-0]"]
    assert len([line for line in came if "starting" in line]) == 1, "the new start is told, and told once"
