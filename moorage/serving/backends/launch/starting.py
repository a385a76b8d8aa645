"""How a replica of an application is started: from what is wanted and the platform's settings to a start."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from moorage.catalog.command import TENSOR_PARALLEL_VARIABLE
from moorage.catalog.model_path import HF_PREFIX
from moorage.launch.plan import StartRequest
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.launch.arguments import command_words
from moorage.serving.backends.parallel import TENSOR, shared_gpus
from moorage.serving.spec.spec import Adapter

__all__ = ["Terms", "job_id_of", "start_digest", "start_request", "told_digest"]

ARCH = "vllm"
NAMESPACE = uuid.UUID("6f8d3d5e-3a4c-5b0e-9a53-5d6f2c1f7e11")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""
USUAL_RANK = 16
LARGEST_ADAPTER_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the platform's settings add to every replica."""

    platform: str = "local-process"
    accelerator: Literal["gpu", "cpu"] = "gpu"
    """cpu: a replica gets no GPU, whatever its spec says."""
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Defaults under those of the spec."""
    gpu_ids: tuple[str, ...] | None = None
    """The GPUs to hand out, each to one replica; None: the platform hands them out."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The platform's own flags, by name with underscores."""
    only_true: frozenset[str] = frozenset()
    """Engine arguments that are false without a flag, and have none for that."""


def told_digest(wanted: Wanted, terms: Terms) -> str:
    """Of everything that the backend is told about an application."""
    spec = wanted.spec
    lora = [[adapter.name, adapter.source] for adapter in spec.lora]
    scaling = spec.autoscaling
    between = None if scaling is None else [scaling.min_replicas, scaling.max_replicas]
    return _digest([start_digest(wanted, terms), spec.num_replicas, between, lora])


def start_digest(wanted: Wanted, terms: Terms) -> str:
    """Of what a replica is started from: replicas with another one are replaced."""
    spec = wanted.spec
    return _digest(
        [
            wanted.app,
            wanted.model_id,
            spec.model_source,
            spec.gpus_per_replica,
            _kwargs(wanted, terms),
            bool(spec.lora),
            terms.platform,
            terms.accelerator,
            dict(terms.options),
        ]
    )


def job_id_of(scope: str, app: str, slot: int) -> str:
    """The same for the same replica always: a second start of it is refused by the platform."""
    return str(uuid.uuid5(NAMESPACE, f"{scope}/{app}/{slot}"))


def start_request(wanted: Wanted, terms: Terms, *, scope: str, slot: int, gpus: tuple[str, ...] = ()) -> StartRequest:
    """The start of the replica in a slot. `gpus`: the ids that it gets, when they are handed out here."""
    spec = wanted.spec
    kwargs = _kwargs(wanted, terms)
    workers = kwargs.pop(TENSOR, None)
    words = command_words(kwargs, terms.only_true)
    if spec.lora:
        rank = () if "max_lora_rank" in kwargs else (f"--max-lora-rank={_rank(spec.lora)}",)
        words = ("--enable-lora", *rank, *words)
    path = spec.model_source
    return StartRequest(
        network_arch=ARCH,
        model_path=path if path.startswith("/") else f"{HF_PREFIX}{path}",
        platform=terms.platform,
        num_gpus=spec.gpus_per_replica,
        gpus="none" if terms.accelerator == "cpu" else ",".join(gpus) or None,
        mounts=_mounts(wanted, terms),
        job_id=job_id_of(scope, wanted.app, slot),
        no_wait=True,
        extra_arguments=words,
        options=terms.options,
        served_name=wanted.model_id,
        env={
            **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if spec.lora else {}),
            **({} if workers is None else {TENSOR_PARALLEL_VARIABLE: str(workers)}),
        },
        labels={
            "scope": scope,
            "app": wanted.app,
            "model_key": wanted.model_key,
            "slot": slot,
            "start": start_digest(wanted, terms),
            "gpus": list(gpus),
        },
    )


def _kwargs(wanted: Wanted, terms: Terms) -> dict[str, Any]:
    """The user's over the platform's. A replica on CPUs is one worker, unless its user says otherwise."""
    spec = wanted.spec
    if terms.accelerator == "cpu":
        defaults = {name: value for name, value in terms.engine_kwargs.items() if name != TENSOR}
        return {**defaults, **spec.engine_kwargs}
    kwargs = shared_gpus({**terms.engine_kwargs, **spec.engine_kwargs}, spec.gpus_per_replica)
    if kwargs[TENSOR] == spec.gpus_per_replica:
        del kwargs[TENSOR]  # every start takes as many as there are GPUs
    return kwargs


def _mounts(wanted: Wanted, terms: Terms) -> tuple[str, ...]:
    """Where a container runs on this machine the model and its adapters are put at their own paths, read-only."""
    if terms.platform != "local-docker":
        return ()
    sources = [wanted.spec.model_source, *(adapter.source for adapter in wanted.spec.lora)]
    return tuple(dict.fromkeys(f"{source}:{source}:ro" for source in sources if source.startswith("/")))


def _rank(adapters: tuple[Adapter, ...]) -> int:
    """Room for the adapters that can be read from here, and for the usual ones."""
    largest = max([USUAL_RANK, *(_rank_of(adapter) for adapter in adapters)])
    return next((rank for rank in RANKS if rank >= largest), RANKS[-1])


def _rank_of(adapter: Adapter) -> int:
    try:
        with (Path(adapter.source) / "adapter_config.json").open("rb") as file:
            found = json.loads(file.read(LARGEST_ADAPTER_CONFIG_BYTES)).get("r")
    except (OSError, ValueError, AttributeError, RecursionError):
        return 0
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _digest(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
