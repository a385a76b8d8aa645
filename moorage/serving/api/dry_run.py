"""What a declaration would do, told before it is done. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from moorage.serving.model import Model, State
from moorage.serving.spec.spec import ServingSpec

__all__ = ["differences", "same_spec", "steps"]

MISSING = object()


def same_spec(one: ServingSpec, other: ServingSpec) -> bool:
    """As JSON: 1, 1.0 and true are three things."""
    return _text(one.to_dict()) == _text(other.to_dict())


def differences(before: ServingSpec | None, after: ServingSpec) -> list[dict[str, Any]]:
    """`{pointer, from, to}` of every field, and every engine argument, that is another one. What was not there has no
    `from`, what will not be there has no `to`."""
    return list(_differences("", before.to_dict() if before is not None else {}, after.to_dict()))


def steps(before: Model | None, after: ServingSpec) -> list[dict[str, Any]]:
    """What the reconciler would do, in its order; `before`: None when the model is new."""
    if before is None:
        return [_start(after)]
    if same_spec(before.spec, after):
        return []
    key, serving = before.model_key, before.progress.serving
    answers = None if serving is None else serving.build()
    runs = {} if serving is None else {serving.build(): serving}
    if before.state is not State.FAILED:  # else it was taken away, unless it is what serves
        runs[before.spec.build()] = before.spec
    had = runs.pop(after.build(), None)
    found = [_start(after, key) if had is None else _fit(key, had, after)]
    found += [{"action": "remove", "application": f"{key}-{build}"} for build in runs if build != answers]
    if answers in runs:
        found.append({"action": "move_requests", "when": "the new application serves"})
        found.append({"action": "drain_and_remove", "application": f"{key}-{answers}"})
    return found


def _fit(model_key: str, had: ServingSpec, after: ServingSpec) -> dict[str, Any]:
    """An application that is there stays; at most it gets another size."""
    application = f"{model_key}-{after.build()}"
    if _size(had) == _size(after):
        return {"action": "record", "application": application}
    return {"action": "scale", "application": application, "from": _size(had), "to": _size(after)}


def _start(spec: ServingSpec, model_key: str | None = None) -> dict[str, Any]:
    name = f"{model_key or '<model_key>'}-{spec.build()}"
    return {"action": "start", "application": name, **_size(spec), "gpus_per_replica": spec.gpus_per_replica}


def _size(spec: ServingSpec) -> dict[str, Any]:
    return {"num_replicas": spec.num_replicas, "autoscaling": spec.to_dict()["autoscaling"]}


def _differences(pointer: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in {**before, **after}:
        old, new = before.get(name, MISSING), after.get(name, MISSING)
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(place, old, new)
        elif old is MISSING or new is MISSING or _text(old) != _text(new):
            found = {"pointer": place, "from": old, "to": new}
            yield {key: value for key, value in found.items() if value is not MISSING}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
