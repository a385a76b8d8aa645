"""What tests of the control plane's store are made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from moorage.errors import MoorageError
from moorage.serving.model import Model, State
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.contract import Change, Kept
from moorage.serving.store.opening import open_store

NOW = datetime(2026, 1, 6, 12, 30, 0, 250_000, tzinfo=UTC)
LEASE = "reconciler"
HOSTILE = ("", "\0", "a\0b", "\ud800", "'; DROP TABLE models; --", "%", "é" * 2000, "x" * 100_000, "SVC-A", "\u202e")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def spec(name: str = "m", **more) -> ServingSpec:
    return ServingSpec(**{"model_id": name, "model_source": "org/model", **more})


def kept(key: str = "key", body: str = "body") -> Kept:
    return Kept(key=key, body_sha256=body)


def change(model: Model, state: State = State.DEPLOYING, **more) -> Change:
    values = {
        "model_key": model.model_key,
        "generation": model.generation,
        "was": model.state,
        "state": state,
        "observed_generation": model.observed_generation,
        "error_summary": None,
        "conditions": model.conditions,
        "progress": model.progress,
    }
    return Change(**{**values, **more})


def more_replicas(model: Model, many: int) -> ServingSpec:
    return replace(model.spec, num_replicas=many)


def refused(work) -> str:
    """The code that it was refused with."""
    with pytest.raises(MoorageError) as caught:
        work()
    return caught.value.code


class StoreTests:
    """For classes whose module has a fixture `url` of a database that is empty or new."""

    @pytest.fixture
    def store(self, url):
        store = open_store(url)
        yield store
        store.close()

    def acting(self, store, *changes, now=None) -> int:
        """Record as the reconciler that has the lease."""
        lease = store.take_lease(LEASE, "me", NOW.timestamp(), 60)
        assert lease is not None
        return store.record(changes, now or at(1), lease, LEASE)

    def gone(self, store, model: Model) -> Model:
        """Deleted to the end."""
        marked = store.delete(model.model_key, at(1))
        assert self.acting(store, change(marked, State.DELETED)) == 1
        return store.model(model.model_key)
