"""What users want of models, inside a transaction: declared, changed, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from moorage.errors import ConflictError, FailedError, NotFoundError, UsageError
from moorage.serving.model import Model, State
from moorage.serving.reasons import Reason
from moorage.serving.spec.names import dated_name, new_model_key
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.answers import keep, kept_answer
from moorage.serving.store.conditions import accepted, marked_for_deletion
from moorage.serving.store.contract import Declared, Kept
from moorage.serving.store.database import Writing
from moorage.serving.store.events import EventLog, LastEvent
from moorage.serving.store.ids import Ids
from moorage.serving.store.reading import find_model, live_model
from moorage.serving.store.rows import (
    conditions_text,
    model_of,
    progress_text,
    spec_text,
    to_micros,
)
from moorage.serving.store.schema import MODELS, REVISIONS

__all__ = ["MOST_REVISIONS", "Admission", "amend", "declare", "mark_deleted"]

MOST_REVISIONS = 100
"""Of one model; then the oldest go. The one that serves stays."""

_KEYS_TRIED = 16


Admission = Callable[[Writing, str], None]
"""Asked before a model of a user is made or changed; raises what refuses it."""


def declare(
    writing: Writing,
    ids: Ids,
    user_id: str,
    spec: ServingSpec,
    now: datetime,
    *,
    create_only: bool,
    kept: Kept | None,
    admission: Admission,
) -> Declared:
    at = to_micros(now)
    if kept is not None:
        answer = kept_answer(writing.db, user_id, kept, at)
        if answer is not None:
            return Declared(model=_of_answer(writing, answer), created=False, changed=False, answer=answer)
    row = live_model(writing.db, user_id, spec.model_id)
    if row is None:
        admission(writing, user_id)
        model, changed = _create(writing, ids, user_id, spec, now), True
    else:
        _demand_not_deleting(row)
        if create_only:
            raise ConflictError(
                f"there is a model {spec.model_id!r} already: {row.model_key}",
                code="model_exists",
                hint="leave If-None-Match out to change it",
            )
        admission(writing, user_id)
        model, changed = _change(writing, row, spec, now, "UPDATE_REQUESTED")
    declared = _declared(model, created=row is None, changed=changed)
    if kept is not None:
        keep(writing, user_id, kept, declared.answer, at)
    return declared


def amend(
    writing: Writing,
    model_key: str,
    spec: ServingSpec,
    now: datetime,
    *,
    generation: int,
    event_type: str,
    admission: Admission,
) -> Declared:
    row = find_model(writing.db, model_key)
    _demand_not_deleting(row)
    _demand_generation(row, generation)
    if spec.model_id != row.suffix:
        raise UsageError(f"{model_key} is {row.suffix!r} and stays so: not {spec.model_id!r}", code="bad_value")
    admission(writing, row.user_id)
    model, changed = _change(writing, row, spec, now, event_type)
    return _declared(model, created=False, changed=changed)


def mark_deleted(writing: Writing, model_key: str, now: datetime, *, generation: int | None, reason: str) -> Model:
    row = find_model(writing.db, model_key)
    if generation is not None:
        _demand_generation(row, generation)
    model = model_of(row)
    if model.state in (State.DELETING, State.DELETED):
        return model
    why = Reason.EXPIRED if reason == Reason.EXPIRED else Reason.DELETING
    model = replace(
        model,
        state=State.DELETING,
        error_summary=None,
        conditions=marked_for_deletion(model.conditions, why, model.generation, now),
        updated_at=now,
    )
    events = EventLog(writing, to_micros(now))
    last = events.add(
        model_key, LastEvent(row.events_kept, 0), "DELETE_REQUESTED", {"reason": reason} if reason else {}
    )
    _update(writing, model, last)
    events.flush()
    return model


def _of_answer(writing: Writing, answer: dict[str, Any]) -> Model | None:
    try:
        return model_of(find_model(writing.db, answer["model_key"]))
    except NotFoundError:  # it was purged since
        return None


def _create(writing: Writing, ids: Ids, user_id: str, spec: ServingSpec, now: datetime) -> Model:
    model = Model(
        model_key=_free_key(writing, ids, user_id, now),
        user_id=user_id,
        model_id=dated_name(user_id, spec.model_id, now),
        spec=spec,
        generation=1,
        observed_generation=0,
        state=State.QUEUED,
        error_summary=None,
        conditions=accepted((), 1, now),
        created_at=now,
        updated_at=now,
        accepted_at=now,
    )
    events = EventLog(writing, to_micros(now))
    payload = {
        "generation": 1,
        "model_source": spec.model_source,
        "num_replicas": spec.num_replicas,
        "gpus_per_replica": spec.gpus_per_replica,
    }
    last = events.add(model.model_key, LastEvent(0, 0), "DEPLOY_REQUESTED", payload)
    made = {
        "born": writing.version,
        "model_key": model.model_key,
        "user_id": user_id,
        "suffix": spec.model_id,
        "model_id": model.model_id,
        "created_at": to_micros(now),
    }
    writing.db.execute(insert(MODELS).values({**made, **_values(writing, model, last)}))
    writing.changed = True
    events.flush()
    _add_revision(writing, model)
    return model


def _change(writing: Writing, row: Row[Any], spec: ServingSpec, now: datetime, event_type: str) -> tuple[Model, bool]:
    """Another spec for the model of `row`, if it is another one."""
    model = model_of(row)
    differ = _differences(model.spec, spec)
    if not differ:
        return model, False
    generation = model.generation + 1
    model = replace(
        model,
        spec=spec,
        generation=generation,
        state=State.QUEUED,
        error_summary=None,
        conditions=accepted(model.conditions, generation, now),
        updated_at=now,
        accepted_at=now,
        # What an older generation failed at says nothing of this one.
        progress=replace(model.progress, attempts=0, not_before=None, deadline=None),
    )
    events = EventLog(writing, to_micros(now))
    last = events.add(
        model.model_key,
        LastEvent(row.events_kept, 0),
        event_type,
        {"generation": generation, "changed": differ},
    )
    _update(writing, model, last)
    events.flush()
    _add_revision(writing, model)
    return model, True


def _differences(old: ServingSpec, new: ServingSpec) -> list[str]:
    """Names of the fields that differ."""
    before, after = old.to_dict(), new.to_dict()
    return [name for name in after if not _same(before[name], after[name])]


def _same(one: Any, other: Any) -> bool:
    """An engine knows 1, 1.0 and true apart, Python does not; to seconds it is all the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    return bool(one == other)


def _values(writing: Writing, model: Model, last: LastEvent) -> dict[str, Any]:
    return {
        "spec": spec_text(model.spec),
        "generation": model.generation,
        "observed_generation": model.observed_generation,
        "state": model.state.value,
        "error_summary": model.error_summary,
        "conditions": conditions_text(model.conditions),
        "progress": progress_text(model.progress),
        "updated_at": to_micros(model.updated_at),
        "accepted_at": to_micros(model.accepted_at),
        "version": writing.version,
        "events_kept": last.kept,
        "last_event": last.sequence,
    }


def _update(writing: Writing, model: Model, last: LastEvent) -> None:
    writing.db.execute(
        update(MODELS).where(MODELS.c.model_key == model.model_key).values(_values(writing, model, last))
    )
    writing.changed = True


def _add_revision(writing: Writing, model: Model) -> None:
    of_model = REVISIONS.c.model_key == model.model_key
    writing.db.execute(
        insert(REVISIONS).values(
            model_key=model.model_key,
            generation=model.generation,
            spec=spec_text(model.spec),
            created_at=to_micros(model.accepted_at),
        )
    )
    if model.generation > MOST_REVISIONS:
        old = REVISIONS.c.generation <= model.generation - MOST_REVISIONS
        serving = model.progress.serving_generation or 0
        writing.db.execute(delete(REVISIONS).where(of_model, old, REVISIONS.c.generation != serving))


def _free_key(writing: Writing, ids: Ids, user_id: str, now: datetime) -> str:
    for _ in range(_KEYS_TRIED):
        key = new_model_key(user_id, now, ids)
        taken = writing.db.execute(select(MODELS.c.born).where(MODELS.c.model_key == key)).first()
        if taken is None:
            return key
    raise FailedError(f"no free model_key for {user_id!r} was found", code="store_failed", hint="try again")


def _declared(model: Model, *, created: bool, changed: bool) -> Declared:
    answer = {"model_key": model.model_key, "state": model.state.value}
    return Declared(model=model, created=created, changed=changed, answer=answer)


def _demand_not_deleting(row: Row[Any]) -> None:
    if row.state in (State.DELETING, State.DELETED):
        raise ConflictError(
            f"{row.model_key} is {row.state}", code="model_deleting", hint="declare it anew when it is DELETED"
        )


def _demand_generation(row: Row[Any], generation: int) -> None:
    if row.generation != generation:
        raise ConflictError(
            f"{row.model_key} is at generation {row.generation}, not at {generation}",
            code="generation_moved",
            hint="read it again, then decide anew",
        )
