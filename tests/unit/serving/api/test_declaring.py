"""Changes that meet each other on their way to the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from moorage.serving.api.declaring import Declaring
from moorage.serving.api.problems import Problem
from moorage.serving.api.queries import Precondition
from moorage.serving.model import State
from moorage.serving.settings import Quotas
from moorage.serving.spec.kwargs import load_kwargs
from moorage.serving.spec.rules import SpecRules
from moorage.serving.store.contract import Store
from moorage.serving.store.opening import open_store

ROOT = Path(__file__).resolve().parents[4]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"model_id": "m", "model_source": "org/a"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 's.db'}")
    opened.create_user("alice", NOW)
    yield opened
    opened.close()


def declaring(store: Store, root: Path, quotas: Quotas | None = None) -> Declaring:
    rules = SpecRules(root=root, engine_kwargs=load_kwargs(ROOT))
    return Declaring(store, rules, quotas or Quotas(), lambda: NOW, lambda: None)


def test_a_model_that_others_change_meanwhile_is_deleted_whatever_it_is(store: Store, tmp_path: Path) -> None:
    """`If-Match: *` asks that it is there; an ETag asks that it is as it was read."""
    changing = declaring(store, tmp_path)
    key = changing.declare("alice", SPEC, create_only=False, kept=None).answer["model_key"]
    read = store.model(key)
    changing.patch(read, {"num_replicas": 2}, None, dry_run=False)
    with pytest.raises(Problem) as refused:
        changing.delete(read, Precondition(frozenset({read.etag})))
    assert (refused.value.status, store.model(key).state) == (412, State.QUEUED)
    assert changing.delete(read, Precondition(None)).answer["state"] == "DELETING"


def test_a_quota_counts_the_most_replicas_that_can_be(store: Store, tmp_path: Path) -> None:
    """Where `num_replicas` is more than the bounds allow, it starts with what they do."""
    changing = declaring(store, tmp_path, Quotas(gpus=4))
    scaled = {**SPEC, "num_replicas": 9, "gpus_per_replica": 2, "autoscaling": {"min_replicas": 1, "max_replicas": 2}}
    assert changing.declare("alice", scaled, create_only=False, kept=None).generation == 1
    with pytest.raises(Problem, match="have 4 GPUs, and with this it would be 6"):
        wider = {**scaled, "autoscaling": {"min_replicas": 1, "max_replicas": 3}}
        changing.declare("alice", wider, create_only=False, kept=None)
