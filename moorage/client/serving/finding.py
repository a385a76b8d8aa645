"""Pure: which model is meant by a key, a dated name, an alias or a suffix."""

from __future__ import annotations

from collections.abc import Iterable

from moorage.client.serving.values import Model
from moorage.errors import AmbiguousError, NotFoundError

__all__ = ["candidate", "is_key", "meant"]


def is_key(name: str) -> bool:
    """Whether it is written as a key is: then the server can be asked for it, DELETED or not."""
    return name.startswith("svc-") and name.count("-") >= 4 and "/" not in name


def meant(name: str, models: Iterable[Model]) -> Model:
    """The one that is called so.

    Raises NotFoundError `model_not_found` with the nearest name, AmbiguousError `model_ambiguous` with
    `data["candidates"]`.
    """
    known = list(models)
    found = [model for model in known if name in _names(model)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousError(
            f"{len(found)} models are called {name!r}",
            code="model_ambiguous",
            hint="give the model_key of one",
            next=[f"moor models get {model.model_key}" for model in found[:5]],
            data={"candidates": [candidate(model) for model in found]},
        )
    raise NotFoundError(
        f"no model is called {name!r}: neither a key, nor a dated name, an alias or a suffix",
        code="model_not_found",
        hint=_nearest(name, known),
        next=["moor models list"],
    )


def candidate(model: Model) -> dict[str, str]:
    """What tells models apart."""
    return {
        "model_key": model.model_key,
        "model_id": model.model_id,
        "model_alias": model.model_alias,
        "state": model.state,
    }


def _names(model: Model) -> tuple[str, ...]:
    return (model.model_key, model.model_id, model.model_alias, model.model_id_suffix)


def _nearest(name: str, models: Iterable[Model]) -> str:
    import difflib

    known = {called for model in models for called in _names(model)}
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "those of other users, and deleted ones, are not found by name"
