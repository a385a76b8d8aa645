"""A store with many models, all of one user and all running."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.plan.policy import Policy
from moorage.serving.reconciling.reconciler import Reconciler
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.contract import Store
from moorage.serving.store.opening import open_store

__all__ = ["USER", "declare_models", "settled", "store_url"]

USER = "bench"


def store_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'serving.db'}"


def declare_models(folder: Path, count: int) -> str:
    """Make the store; a token of its user."""
    with closing(open_store(store_url(folder))) as store:
        store.create_user(USER, _now())
        _, token = store.create_token(USER, _now())
        for number in range(count):
            spec = ServingSpec(
                model_id=f"model-{number:04}", model_source="org/name", engine_kwargs={"max_model_len": 4096}
            )
            store.declare(USER, spec, _now())
    return token


def settled(store: Store) -> tuple[Reconciler, MemoryBackend]:
    """A reconciler that has nothing left to do, and its backend."""
    backend = MemoryBackend(time.time, start_s=0.0, stop_s=0.0)
    reconciler = Reconciler(store, backend, Policy(), time.time)
    while not all(model.state == "RUNNING" for model in store.live()):
        reconciler.run_once()
    reconciler.run_once()
    return reconciler, backend


def _now() -> datetime:
    return datetime.now(UTC)
