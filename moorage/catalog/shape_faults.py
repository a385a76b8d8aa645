"""Checking a document against its shape: what pydantic says, as faults with a place, a line and a hint."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from moorage.catalog.locations import Document, Fault, Parts
from moorage.catalog.shapes import Shape

S = TypeVar("S", bound=Shape)


def check_shape(document: Document, shape: type[S]) -> tuple[S | None, list[Fault]]:
    """The document as `shape` and no faults, or None and all its faults."""
    if document.value is None and document.faults:
        return None, []  # it could not be read, which is said already
    try:
        return shape.model_validate(document.value), []
    except ValidationError as problem:
        return None, _faults(document, shape, problem.errors(include_url=False))


def sound_sections(document: Document, shape: type[Shape]) -> dict[str, Any]:
    """The top-level keys of a faulty document that are right by themselves, so that checks across files can go on."""
    from pydantic import TypeAdapter  # needed for faulty files alone

    if not isinstance(document.value, dict):
        return {}
    sections = {}
    for name, info in shape.model_fields.items():
        annotation: Any = info.annotation
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_config(annotation))
        try:
            sections[name] = adapter.validate_python(document.value.get(name))
        except ValidationError:
            continue
    return sections


def nearest(name: str, names: list[str]) -> str:
    """`did you mean X?`, else the list of what there is."""
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"


def _config(annotation: Any) -> ConfigDict | None:
    """Strictness for what is no Shape itself; a Shape brings its own."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return None if is_model else ConfigDict(strict=True)


def _faults(document: Document, shape: type[Shape], errors: list[ErrorDetails]) -> list[Fault]:
    """One fault a place: an error of each member of a union is one fault."""
    by_place: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_place(document.value, error), []).append(error)
    return [_fault(document, shape, place, at_place) for place, at_place in by_place.items()]


def _place(value: Any, error: ErrorDetails) -> tuple[str | int, ...]:
    """The error's location without the labels that pydantic adds for unions and keys."""
    place: list[str | int] = []
    for part in error["loc"]:
        if _holds(value, part):
            value = value[part]
            place.append(part)
        else:
            return (*place, part) if error["type"] == "missing" else tuple(place)
    return tuple(place)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _fault(document: Document, shape: type[Shape], place: Parts, errors: list[ErrorDetails]) -> Fault:
    first = errors[0]
    if first["type"] == "missing":
        return document.fault(place, f"the key {str(place[-1])!r} is missing", "add it")
    if first["type"] == "extra_forbidden":
        return document.fault(place, f"unknown key {str(place[-1])!r}", nearest(str(place[-1]), _keys(shape, place)))
    if not place and document.value is None:
        return document.fault(place, "the file is empty")
    wanted = " or ".join(dict.fromkeys(error["msg"].removeprefix("Input should be ") for error in errors))
    is_key = first["loc"][-1:] == ("[key]",)
    got = place[-1] if is_key else first["input"]
    quote = "; write it in quotes" if first["type"] == "string_type" and isinstance(got, bool | int | float) else ""
    message = f"{'the key' if is_key else 'the value'} {_short(got)} is wrong"
    return document.fault(place, message, f"wanted: {wanted}{quote}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _keys(shape: type[Shape], place: Parts) -> list[str]:
    """The keys that the object above `place` may have."""
    annotation: Any = shape
    for part in place[:-1]:
        annotation = _step(annotation, part)
    model = _model(annotation)
    return list(model.model_fields) if model else []


def _step(annotation: Any, part: str | int) -> Any:
    model = _model(annotation)
    if model is not None:
        return model.model_fields[str(part)].annotation
    return get_args(annotation)[-1]  # the values of dict[K, V], the items of list[V]


def _model(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((model for member in get_args(annotation) if (model := _model(member))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
