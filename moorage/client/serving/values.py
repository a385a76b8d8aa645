"""What the serving API answers, as values. `raw`: the JSON as it came, unknown fields too."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "Answer",
    "Condition",
    "Detail",
    "Endpoint",
    "Event",
    "Model",
    "NewToken",
    "Page",
    "Plan",
    "Revision",
    "Token",
    "User",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests for a model go, and the name that they give it."""

    openai_base_url: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is so, is not, or is not known: `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str
    message: str = ""
    changed_at: datetime | None = None
    """When `status` last changed."""
    generation: int | None = None
    """The spec it speaks of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One declared model. `model_id` is the dated name, `model_alias` the stable one."""

    model_key: str
    user_id: str
    model_id: str
    model_id_suffix: str
    model_alias: str
    model_source: str
    state: str
    """QUEUED, DEPLOYING, RUNNING, FAILED, DELETING or DELETED."""
    num_replicas: int
    gpus_per_replica: int
    total_gpus: int
    endpoint: Endpoint
    error_summary: str | None = None
    """None unless FAILED."""
    created_at: datetime
    updated_at: datetime
    generation: int = 1
    observed_generation: int = 0
    """The last generation that was settled: it serves, or it failed."""
    conditions: tuple[Condition, ...] = ()
    serving_generation: int | None = None
    """The one that requests reach; None: none ever served."""
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    ttl_s: float | None = None
    """It is deleted so long after its last accepted change; None: never."""
    autoscaling: dict[str, int] | None = None
    """`{min_replicas, max_replicas}`; None: `num_replicas` it is."""
    lora: tuple[dict[str, str], ...] = ()
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def settled(self) -> bool:
        """Nothing more comes of what was declared last: it serves, it failed, or it is gone."""
        if self.state == "DELETED":
            return True
        return self.observed_generation >= self.generation and self.state in ("RUNNING", "FAILED")

    def condition(self, type_of: str) -> Condition | None:
        """The condition of that type; None: it has none yet."""
        return next((one for one in self.conditions if one.type == type_of), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a model; the same again is counted on."""

    event_type: str
    created_at: datetime
    payload: dict[str, Any] = field(default_factory=dict)
    sequence: int | None = None
    count: int = 1
    last_at: datetime | None = None
    """When it happened last; `created_at` is when it first did."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A model with its spec, its events (oldest first) and what its backend says of it."""

    model: Model
    resolved_spec_yaml: str
    events: tuple[Event, ...] = ()
    serve_status: dict[str, Any] = field(default_factory=dict)
    etag: str | None = None
    """Changes with every accepted spec; what `if_match` takes."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Models, oldest first; `next_page_token` is None on the last page."""

    items: tuple[Model, ...]
    openai_base_url: str
    next_page_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a change was answered with."""

    model_key: str
    state: str
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change would do; nothing was done."""

    model_key: str | None
    """None: it would be a new model."""
    state: str
    created: bool
    changed: bool
    """False: the spec is what it was, or is now."""
    generation: int
    diff: tuple[dict[str, Any], ...] = ()
    """`{pointer, from, to}` of every field that would be another one."""
    plan: tuple[dict[str, Any], ...] = ()
    """What the reconciler would do, in its order: `{action, …}`."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A spec that was accepted once, to go back to."""

    generation: int
    created_at: datetime
    is_current: bool = False
    """It is what is wanted."""
    is_serving: bool = False
    """It is what requests reach."""
    spec: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who may declare models."""

    user_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A user's token without its secret."""

    token_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A user's token, the only time that its secret is shown."""

    user_id: str
    token_id: str
    created_at: datetime
    token: str = field(repr=False)
