"""JSON Merge Patch on a spec: the fields that may change are merged, then the whole is checked as if it were posted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorage.serving.spec.argument_types import shown
from moorage.serving.spec.checking import FIELDS, check_spec
from moorage.serving.spec.faults import Fault, SpecFaults, pointer
from moorage.serving.spec.rules import SpecRules
from moorage.serving.spec.spec import ServingSpec

__all__ = ["PATCHABLE", "merged", "patch_spec"]

PATCHABLE = ("num_replicas", "gpus_per_replica", "engine_kwargs", "ttl_s", "autoscaling", "lora")


def patch_spec(spec: ServingSpec, patch: Mapping[str, Any], *, user_id: str, rules: SpecRules) -> ServingSpec:
    """The spec with a patch of `read_document` applied; equal to `spec` when it changes nothing.

    Null takes a value away inside the fields; at a field itself it is a value like any other, so it is a fault but for
    `ttl_s` and `autoscaling`. Raises SpecFaults.
    """
    faults = [_not_patchable(name) for name in patch if name not in PATCHABLE]
    if not patch:
        faults = [Fault(pointer="", detail="the patch is empty", code="empty_patch", hint=_hint())]
    changes = {name: value for name, value in patch.items() if name in PATCHABLE}
    settled = [name for name in FIELDS if name not in changes]
    try:
        changed = check_spec(merged(spec.to_dict(), changes), user_id=user_id, rules=rules, settled=settled)
    except SpecFaults as problem:
        raise SpecFaults([*faults, *problem.faults]) from None
    if faults:
        raise SpecFaults(faults)
    return changed


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Two documents as one: RFC 7396, but null at the first level stays, for `check_spec` to judge."""
    return {**target, **{name: _merge(target.get(name), value) for name, value in patch.items()}}


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7396. Documents are not deep."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _not_patchable(name: str) -> Fault:
    known = name in FIELDS
    detail = f"{shown(name)} cannot be changed by a patch" if known else f"there is no field {shown(name)}"
    return Fault(
        pointer=pointer((name,)), detail=detail, code="not_patchable" if known else "unknown_field", hint=_hint()
    )


def _hint() -> str:
    return f"these can be changed: {', '.join(PATCHABLE)}"
