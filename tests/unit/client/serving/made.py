"""Models as the API would answer them."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.client.serving.values import Detail, Model

__all__ = ["detail", "model", "model_json"]


def model_json(suffix: str = "m", user: str = "alice", key: str = "", **more: Any) -> dict[str, Any]:
    dated = f"{user}-202601061235-{suffix}"
    return {
        "model_key": key or f"svc-{user}-20260106-123500-{suffix[:1]}abc",
        "user_id": user,
        "model_id": dated,
        "model_id_suffix": suffix,
        "model_id_prefix": f"{user}-202601061235",
        "model_alias": f"{user}/{suffix}",
        "model_source": "org/name",
        "num_replicas": 1,
        "gpus_per_replica": 1,
        "total_gpus": 1,
        "engine_kwargs": {},
        "ttl_s": None,
        "autoscaling": None,
        "lora": [],
        "state": "QUEUED",
        "endpoint": {"openai_base_url": "http://h:8000/v1", "model": dated},
        "error_summary": None,
        "generation": 1,
        "observed_generation": 0,
        "serving_generation": None,
        "conditions": [],
        "created_at": "2026-01-06T12:35:00Z",
        "updated_at": "2026-01-06T12:35:00Z",
        **more,
    }


def model(suffix: str = "m", user: str = "alice", key: str = "", **more: Any) -> Model:
    said = model_json(suffix, user, key, **more)
    return msgspec.convert({**said, "raw": said}, Model)


def detail(**more: Any) -> Detail:
    return Detail(model=model(**more), resolved_spec_yaml="")
