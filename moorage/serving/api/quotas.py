"""How much one user may have. Pure; the store asks it in the transaction that would add to it."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.serving.api.problems import Problem
from moorage.serving.model import Model
from moorage.serving.settings import Quotas
from moorage.serving.spec.spec import ServingSpec

__all__ = ["check_quotas"]


def check_quotas(quotas: Quotas, models: Sequence[Model], spec: ServingSpec) -> None:
    """`models`: of the user, those that are not DELETED, as they are before this spec. Raises Problem 422.

    What takes no more than before is allowed also to those who have too much.
    """
    others = [one for one in models if one.suffix != spec.model_id]
    before = [_most_gpus(one.spec) for one in models if one.suffix == spec.model_id]
    if before and _most_gpus(spec) <= sum(before):
        return
    if not before and quotas.models is not None and len(others) + 1 > quotas.models:
        raise _over(f"a user may have {quotas.models} models, and this would be one more")
    gpus = sum(_most_gpus(one.spec) for one in others) + _most_gpus(spec)
    if quotas.gpus is not None and gpus > quotas.gpus:
        raise _over(f"a user may have {quotas.gpus} GPUs, and with this it would be {gpus}")


def _most_gpus(spec: ServingSpec) -> int:
    return spec.replicas.most * spec.gpus_per_replica


def _over(detail: str) -> Problem:
    return Problem(422, detail, code="quota_exceeded", hint="delete or scale down another model first")
