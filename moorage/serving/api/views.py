"""Models, events and revisions as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from moorage.serving.model import Condition, Event, Model, Revision
from moorage.serving.spec.spec import ServingSpec

__all__ = ["event_view", "model_view", "revision_view", "rfc3339"]

SHOWN: Mapping[bool | None, str] = MappingProxyType({True: "True", False: "False", None: "Unknown"})


def rfc3339(moment: datetime) -> str:
    """In UTC, whole seconds."""
    at = moment.astimezone(UTC)
    # A page has hundreds of times, and strftime takes three times as long.
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % (at.year, at.month, at.day, at.hour, at.minute, at.second)  # noqa: UP031


def model_view(model: Model, openai_base_url: str) -> dict[str, Any]:
    """ServingModel: the serving API v3.8's fields, and more."""
    spec = model.spec
    return {
        "model_key": model.model_key,
        "user_id": model.user_id,
        "model_id": model.model_id,
        "model_id_suffix": spec.model_id,
        "model_id_prefix": model.model_id.removesuffix(f"-{spec.model_id}"),
        "model_alias": model.alias,
        "model_source": spec.model_source,
        "num_replicas": spec.num_replicas,
        "gpus_per_replica": spec.gpus_per_replica,
        "total_gpus": spec.total_gpus,
        "engine_kwargs": dict(spec.engine_kwargs),
        **_additions(spec),
        "state": model.state.value,
        "endpoint": {"openai_base_url": openai_base_url, "model": model.model_id},
        "error_summary": model.error_summary,
        "generation": model.generation,
        "observed_generation": model.observed_generation,
        "serving_generation": model.progress.serving_generation,
        "conditions": [_condition_view(one) for one in model.conditions],
        "created_at": rfc3339(model.created_at),
        "updated_at": rfc3339(model.updated_at),
    }


def event_view(event: Event) -> dict[str, Any]:
    """One entry of a model's history."""
    return {
        "sequence": event.sequence,
        "event_type": event.event_type,
        "created_at": rfc3339(event.created_at),
        "last_at": rfc3339(event.last_at),
        "count": event.count,
        "payload": event.payload,
    }


def revision_view(revision: Revision, model: Model) -> dict[str, Any]:
    """A spec to go back to, and whether it is the one that is wanted, or the one that serves."""
    return {
        "generation": revision.generation,
        "created_at": rfc3339(revision.created_at),
        "is_current": revision.generation == model.generation,
        "is_serving": revision.generation == model.progress.serving_generation,
        "spec": revision.spec.to_dict(),
    }


def _additions(spec: ServingSpec) -> dict[str, Any]:
    scaling = spec.autoscaling
    bounds = None
    if scaling is not None:
        bounds = {"min_replicas": scaling.min_replicas, "max_replicas": scaling.max_replicas}
    lora: Sequence[dict[str, str]] = [{"name": one.name, "source": one.source} for one in spec.lora]
    return {"ttl_s": spec.ttl_s, "autoscaling": bounds, "lora": list(lora)}


def _condition_view(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": SHOWN[condition.status],
        "reason": condition.reason,
        "message": condition.message,
        "changed_at": rfc3339(condition.changed_at),
        "generation": condition.generation,
    }
