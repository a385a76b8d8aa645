"""What gateways are told of a model's endpoints."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from moorage.gateway.serving.directory import Directory
from moorage.gateway.serving.feed import read_feed
from moorage.serving.api.endpoints import Endpoints
from moorage.serving.model import Condition, ModelEndpoint, State
from moorage.serving.reasons import Reason
from moorage.serving.settings import Settings
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_parts import LEASE, change, spec

SECRET = "value-of-the-key"


def test_a_key_is_told_by_the_name_of_its_variable(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/serving.db")
    now = datetime.now(UTC)
    store.create_user("alice", now)
    model = store.declare("alice", spec(), now).model
    endpoints = (
        ModelEndpoint(base_url="https://lepton.example/v1", model=model.model_id, adapters=("sql",), key_env="KEY"),
        ModelEndpoint(base_url="http://127.0.0.1:9001/v1", model=model.model_id),
    )
    ready = Condition(type="Ready", status=True, reason=Reason.SERVING, message="", changed_at=now, generation=1)
    noted = change(model, State.RUNNING, conditions=(ready,), progress=replace(model.progress, endpoints=endpoints))
    lease = store.take_lease(LEASE, "me", time.time(), 60)
    assert lease is not None
    store.record([noted], now, lease, LEASE)
    _, told = Endpoints(store, Settings(backend="launch", db=""), time.time).document()
    store.close()
    feed = read_feed(told)
    assert [one.key_env for one in feed.models[0].endpoints] == ["KEY", None]
    directory = Directory(feed, environ={"KEY": SECRET})
    assert [endpoint.api_key_env for endpoint, _ in directory.followed()] == ["KEY", None]
    assert SECRET not in repr(directory.followed())
