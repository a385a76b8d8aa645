"""Models and what belongs to them, as rows hold them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from moorage.serving.model import Condition, Event, Model, ModelEndpoint, Progress, Revision, State
from moorage.serving.spec.spec import ServingSpec

__all__ = [
    "clean",
    "conditions_text",
    "dump",
    "event_of",
    "from_micros",
    "model_of",
    "progress_text",
    "revision_of",
    "spec_text",
    "storable",
    "to_micros",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_States = {state.value: state for state in State}


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970. A time without a zone is taken for UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """In UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def storable(text: str) -> bool:
    """Whether a database can hold and look for it; nothing that it cannot is ever stored."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def clean(text: str) -> str:
    """The same, with what a database cannot hold replaced: a backend's words may hold anything."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def dump(value: Any) -> str:
    """JSON in ASCII, so that whatever was in it can be stored."""
    return json.dumps(value, separators=(",", ":"))


def spec_text(spec: ServingSpec) -> str:
    return dump(spec.to_dict())


def conditions_text(conditions: tuple[Condition, ...]) -> str:
    return dump([_plain(one, _CONDITION) for one in conditions])


def progress_text(progress: Progress) -> str:
    return dump(_plain(progress, _PROGRESS))


def model_of(row: Row[Any]) -> Model:
    """Of a row with the columns of `models`."""
    return Model(
        model_key=row.model_key,
        user_id=row.user_id,
        model_id=row.model_id,
        spec=ServingSpec.from_dict(json.loads(row.spec)),
        generation=row.generation,
        observed_generation=row.observed_generation,
        state=_States[row.state],
        error_summary=row.error_summary,
        conditions=_conditions(row.conditions),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
        accepted_at=from_micros(row.accepted_at),
        progress=_progress(row.progress),
    )


def revision_of(row: Row[Any]) -> Revision:
    """Of a row with the columns of `revisions`."""
    return Revision(
        generation=row.generation,
        spec=ServingSpec.from_dict(json.loads(row.spec)),
        created_at=from_micros(row.created_at),
    )


def event_of(row: Row[Any]) -> Event:
    """Of a row with the columns of `events`."""
    return Event(
        sequence=row.sequence,
        event_type=row.event_type,
        created_at=from_micros(row.created_at),
        last_at=from_micros(row.last_at),
        count=row._mapping["count"],  # a row is a tuple too, and tuples have a method of this name
        payload=json.loads(row.payload),
    )


def _plain(value: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Its fields for JSON. What is as it is in a new one is left out, so every field that is added needs a default."""
    found = {}
    for name, default in defaults.items():
        one = getattr(value, name)
        if one != default or type(one) is not type(default):
            found[name] = _PLAIN[type(one)](one) if type(one) in _PLAIN else one
    return found


def _known(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Less what a newer Moorage wrote that has fields more."""
    if values.keys() <= defaults.keys():
        return dict(values)
    return {name: value for name, value in values.items() if name in defaults}


def _conditions(text: str) -> tuple[Condition, ...]:
    found = []
    for one in json.loads(text):
        values = _known(one, _CONDITION)
        values["changed_at"] = from_micros(values["changed_at"])
        found.append(Condition(**values))
    return tuple(found)


def _progress(text: str) -> Progress:
    if text == "{}":
        return _NEW
    values = _known(json.loads(text), _PROGRESS)
    for name in _SPECS & values.keys():
        values[name] = ServingSpec.from_dict(values[name])
    values["endpoints"] = tuple(map(_endpoint, values.get("endpoints", ())))
    return Progress(**values)


def _endpoint(values: Mapping[str, Any]) -> ModelEndpoint:
    known = _known(values, _ENDPOINT)
    return ModelEndpoint(**(known | {"adapters": tuple(known.get("adapters", ()))}))


def _defaults(of: type[Any]) -> dict[str, Any]:
    """Its fields; MISSING, which nothing is equal to, where there is no default."""
    return {one.name: one.default for one in fields(of)}


_NEW = Progress()
_CONDITION = _defaults(Condition)
_PROGRESS = _defaults(Progress)
_ENDPOINT = _defaults(ModelEndpoint)
_SPECS = frozenset(("serving", "draining"))
"""Fields of Progress that are specs."""
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    datetime: to_micros,
    ServingSpec: ServingSpec.to_dict,
    ModelEndpoint: lambda one: _plain(one, _ENDPOINT),
    tuple: lambda some: [_PLAIN[type(one)](one) if type(one) in _PLAIN else one for one in some],
}
