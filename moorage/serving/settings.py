"""What `moor serve api` goes by: its flags, and what its configuration file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Auth", "Config", "Launch", "Limits", "Llm", "Quotas", "Ray", "Settings"]

Auth = Literal["none", "required"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    """What the platform adds to every model: `serving.llm` in the file."""

    accelerator_type: str | None = None
    """As the backend names it (`H20`); None: it is not asked for."""
    accelerator: Literal["gpu", "cpu"] = "gpu"
    """cpu: `gpus_per_replica` counts whole workers without a GPU."""
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Defaults; those of a spec go before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest values that a spec may ask for: `serving.limits`."""

    replicas: int = 1024
    gpus_per_replica: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """What one user may have: `serving.quotas`. None: as much as they like."""

    models: int | None = None
    """That are not DELETED."""
    gpus: int | None = None
    """Of all their models together, each at its most replicas."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """Of the backend `ray_serve`: `serving.ray`."""

    address: str | None = None
    """URL of the cluster's dashboard; None: a cluster is started on this machine."""
    num_cpus: int | None = None
    """Of the cluster that is started. Ray only counts them: a replica takes one, and one for each of its workers where
    models run on CPUs. None: as many as Ray finds, and several for each core where models run on CPUs."""
    proxy_port: int | None = None
    """Where Ray's own HTTP proxy listens; None: a free port of loopback, and 8000 on a cluster that was not started
    here. On a cluster where Serve runs already it is where Serve listens."""
    proxy_url: str | None = None
    """How the gateway reaches that proxy; None: at the address's host."""
    token_env: str | None = None
    """Names the variable that holds the token of the cluster at `address`; None: it asks for none."""
    owner: str | None = None
    """Marks this control plane's applications among others of one cluster; None: made from the database's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Of the backend `launch`: `serving.launch`."""

    platform: str = "local-process"
    gpus: tuple[str, ...] | None = None
    """The ids of this machine's GPUs, each for one replica at a time; None: the platform hands them out."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The platform's own flags of `moor start`, with underscores: `namespace`, `partition`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration file; every key has a default. Times are seconds."""

    auth: Auth = "none"
    """Whether inference asks for a user's token. The API always asks for one."""
    llm: Llm = field(default_factory=Llm)
    limits: Limits = field(default_factory=Limits)
    quotas: Quotas = field(default_factory=Quotas)
    ray: Ray = field(default_factory=Ray)
    launch: Launch = field(default_factory=Launch)
    deadline_s: float = 900.0
    """A new revision must serve by then, or it has failed."""
    attempts: int = 3
    """Failures of one revision in a row before it has failed for good."""
    drain_s: float = 30.0
    """What was replaced goes on for so long, for the requests that it still answers."""
    keep_deleted_s: float | None = 30 * 24 * 3600.0
    """How long a model that is DELETED can be read, with its events and revisions; None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One `moor serve api`."""

    backend: str
    host: str = "127.0.0.1"
    port: int = 8080
    root: Path = Path("/private")
    """Has `hf`, `datasets` and `users`."""
    db: str
    """`sqlite:///FILE` or `postgresql://…`; it may hold a password, so it is not shown."""
    public_host: str = "localhost"
    """What clients call this machine."""
    inference_port: int = 8000
    config: Config = field(default_factory=Config)

    @property
    def openai_base_url(self) -> str:
        """Where models answer."""
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"http://{host}:{self.inference_port}/v1"
