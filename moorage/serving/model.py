"""A model as the control plane knows it: what was declared, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from moorage.serving.spec.spec import ServingSpec

__all__ = ["Condition", "Event", "FailureLog", "Model", "ModelEndpoint", "Progress", "Revision", "State"]


class State(StrEnum):
    """The serving API v3.8's states. A model is in one of them; conditions tell more."""

    QUEUED = "QUEUED"
    DEPLOYING = "DEPLOYING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    """The newest revision cannot be served; an older one may be: see the condition `Ready`."""
    DELETING = "DELETING"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is so, is not, or is not known yet. `reason` is of the catalogue in `reasons`."""

    type: str
    status: bool | None
    """None: unknown (shown as "Unknown", the others as "True" and "False")."""
    reason: str
    message: str = ""
    changed_at: datetime
    """When `status` last changed."""
    generation: int
    """The spec it speaks of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEndpoint:
    """Where requests for a model go: the fields of an engine endpoint, and nothing of how it came to be."""

    base_url: str
    model: str
    """The name that the server behind it knows the model by."""
    adapters: tuple[str, ...] = ()
    """Names of LoRA adapters that it serves too."""
    key_env: str | None = None
    """The variable that holds the key it wants in every request; None: it wants none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the reconciler notes down of a model between its passes. Times are Unix seconds; None: not so."""

    serving_generation: int | None = None
    """The revision that requests reach: the last one that was healthy."""
    serving: ServingSpec | None = None
    """The spec of that revision."""
    endpoints: tuple[ModelEndpoint, ...] = ()
    attempts: int = 0
    """Failures of this generation in a row."""
    not_before: float | None = None
    """Backed off until then."""
    deadline: float | None = None
    """This generation must serve by then, or it has failed."""
    drain_until: float | None = None
    """What was replaced is kept so long for the requests that it still answers."""
    draining: ServingSpec | None = None
    """The spec of what was replaced; None: nothing drains."""
    serving_attempts: int = 0
    """Failures in a row of what serves. It is brought back for ever, ever more slowly."""
    serving_not_before: float | None = None
    """What serves is backed off until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One declared model. Times are UTC."""

    model_key: str
    user_id: str
    model_id: str
    """The dated name, `<user>-<YYYYMMDDHHMM>-<suffix>`."""
    spec: ServingSpec
    generation: int
    observed_generation: int
    """The last generation that was settled: it serves, or it failed."""
    state: State
    error_summary: str | None
    """None unless FAILED."""
    conditions: tuple[Condition, ...]
    created_at: datetime
    updated_at: datetime
    accepted_at: datetime
    """When `spec` was accepted: what `ttl_s` counts from."""
    progress: Progress = field(default_factory=Progress)

    @property
    def suffix(self) -> str:
        return self.spec.model_id

    @property
    def alias(self) -> str:
        """The stable name beside the dated one."""
        return f"{self.user_id}/{self.suffix}"

    @property
    def etag(self) -> str:
        """Changes with every accepted change of the spec, never with the reconciler's progress."""
        return f'"{self.model_key}.{self.generation}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A spec that was accepted once, to go back to."""

    generation: int
    spec: ServingSpec
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a model. The same again is counted on, not written anew."""

    sequence: int
    """Grows over all events of a store; what watches go on from."""
    event_type: str
    created_at: datetime
    """When it first happened."""
    last_at: datetime
    count: int
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLog:
    """What the replicas of a build wrote last before it was taken away because it had failed."""

    app: str
    """`<model_key>-<build>`."""
    failed_at: datetime
    lines: tuple[str, ...]
    """Each with its replica's name in front, and without the values of secrets."""
