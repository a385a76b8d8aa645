"""A declared model, as accepted: every value checked, macros expanded, defaults filled in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

__all__ = ["Adapter", "Autoscaling", "Replicas", "ServingSpec"]


class Replicas(NamedTuple):
    """How many a model has: all three are the same unless it follows its load."""

    least: int
    start: int
    """Within the other two."""
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """Replicas follow the load between these two."""

    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter: asked for by its own name, loaded from a place like a model's."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSpec:
    """The spec of one revision of a model. `model_id` is the suffix that the user chose."""

    model_id: str
    model_source: str
    """A path with its macros replaced and its symlinks left, or a repo id `org/name`."""
    num_replicas: int = 1
    gpus_per_replica: int = 1
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    ttl_s: float | None = None
    """The model is deleted so long after its last accepted change; None: never."""
    autoscaling: Autoscaling | None = None
    """None: `num_replicas` it is; else that is only where it starts."""
    lora: tuple[Adapter, ...] = ()

    @property
    def replicas(self) -> Replicas:
        if self.autoscaling is None:
            return Replicas(self.num_replicas, self.num_replicas, self.num_replicas)
        least, most = self.autoscaling.min_replicas, self.autoscaling.max_replicas
        return Replicas(least, max(least, min(self.num_replicas, most)), most)

    @property
    def total_gpus(self) -> int:
        return self.num_replicas * self.gpus_per_replica

    def build(self) -> str:
        """What a replica is started from, as 8 hexadecimal digits.

        Two revisions of one build differ in how many replicas there are, never in what they are: going from one to the
        other restarts nothing. Adapters are loaded into running replicas; what a replica is started with is only
        whether it may have any.
        """
        kept = replace(self, num_replicas=1, autoscaling=None, ttl_s=None).to_dict() | {"lora": bool(self.lora)}
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        """As JSON and YAML hold it; `from_dict` reads it back."""
        scaling = self.autoscaling
        return {
            "model_id": self.model_id,
            "model_source": self.model_source,
            "num_replicas": self.num_replicas,
            "gpus_per_replica": self.gpus_per_replica,
            "engine_kwargs": dict(self.engine_kwargs),
            "ttl_s": self.ttl_s,
            "autoscaling": None
            if scaling is None
            else {"min_replicas": scaling.min_replicas, "max_replicas": scaling.max_replicas},
            "lora": [{"name": adapter.name, "source": adapter.source} for adapter in self.lora],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServingSpec:
        """A spec that `to_dict` wrote; what users write goes through `spec.checking`."""
        scaling = data.get("autoscaling")
        return cls(
            model_id=data["model_id"],
            model_source=data["model_source"],
            num_replicas=data["num_replicas"],
            gpus_per_replica=data["gpus_per_replica"],
            engine_kwargs=dict(data["engine_kwargs"]),
            ttl_s=data.get("ttl_s"),
            autoscaling=None if scaling is None else Autoscaling(**scaling),
            lora=tuple(Adapter(**adapter) for adapter in data.get("lora", ())),
        )
