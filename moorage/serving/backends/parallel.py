"""How the GPUs of a replica are shared: pipeline stages, with as many tensor workers each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["TENSOR", "shared_gpus"]

TENSOR, PIPELINE = "tensor_parallel_size", "pipeline_parallel_size"


def shared_gpus(kwargs: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """Engine arguments that use the GPUs a replica has: those were declared and counted.

    Stages are the caller's where they divide the GPUs, else there is one; workers follow from them.
    """
    stages = kwargs.get(PIPELINE)
    if not isinstance(stages, int) or stages < 1 or gpus % stages:
        return {**{name: value for name, value in kwargs.items() if name != PIPELINE}, TENSOR: gpus}
    return {**kwargs, TENSOR: gpus // stages}
