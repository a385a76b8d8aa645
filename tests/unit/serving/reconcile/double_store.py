"""The store's contract in a dictionary, as far as a reconciler and its users need it: for runs in their thousands.

What is said here of the reconciler is said again over the real store, in fewer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

from moorage.errors import ConflictError, NotFoundError
from moorage.serving.model import Event, Model, Progress, Revision, State
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store.contract import Change, Declared, Lease, Purged

__all__ = ["DoubleStore"]

GOING = (State.DELETING, State.DELETED)


class DoubleStore:
    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._changed: dict[str, int] = {}
        self._revisions: dict[str, list[Revision]] = {}
        self._events: dict[str, list[Event]] = {}
        self._leases: dict[str, Lease] = {}
        self._version = 0
        self._purged = 0
        self._keys = count()
        self._sequence = count(1)

    def create_user(self, user_id: str, now: datetime) -> None: ...

    def declare(self, user_id: str, spec: ServingSpec, now: datetime) -> Declared:
        old = next((one for one in self.live() if (one.user_id, one.suffix) == (user_id, spec.model_id)), None)
        if old is not None:
            return self.amend(old.model_key, spec, now, generation=old.generation)
        key = f"svc-{user_id}-{now:%Y%m%d-%H%M%S}-{next(self._keys):04d}"
        model = Model(
            model_key=key,
            user_id=user_id,
            model_id=f"{user_id}-{now:%Y%m%d%H%M}-{spec.model_id}",
            spec=spec,
            generation=1,
            observed_generation=0,
            state=State.QUEUED,
            error_summary=None,
            conditions=(),
            created_at=now,
            updated_at=now,
            accepted_at=now,
        )
        self._revisions[key] = [Revision(generation=1, spec=spec, created_at=now)]
        self._put(model)
        return Declared(model=model, created=True, changed=True, answer={})

    def amend(self, key: str, spec: ServingSpec, now: datetime, *, generation: int) -> Declared:
        old = self.model(key)
        if old.state in GOING:
            raise ConflictError("it goes", code="model_deleting")
        if old.generation != generation:
            raise ConflictError("it moved", code="generation_moved")
        if old.spec == spec:
            return Declared(model=old, created=False, changed=False, answer={})
        model = replace(
            old, spec=spec, generation=generation + 1, state=State.QUEUED, error_summary=None, accepted_at=now
        )
        self._revisions[key].append(Revision(generation=generation + 1, spec=spec, created_at=now))
        self._put(model)
        return Declared(model=model, created=False, changed=True, answer={})

    def delete(self, key: str, now: datetime) -> Model:
        model = self.model(key)
        if model.state not in GOING:
            self._put(replace(model, state=State.DELETING))
        return self.model(key)

    def model(self, key: str) -> Model:
        if key not in self._models:
            raise NotFoundError(key)
        return self._models[key]

    def revisions(self, key: str) -> tuple[Revision, ...]:
        return tuple(self._revisions[key])

    def events(self, key: str, limit: int, after: int = 0) -> tuple[Event, ...]:
        return tuple(one for one in self._events.get(key, []) if one.sequence > after)[:limit]

    def take_lease(
        self, name: str, holder: str, now: float, length_s: float, gone: Callable[[str], bool] | None = None
    ) -> Lease | None:
        del gone  # no holder here is a process
        old = self._leases.get(name)
        if old is not None and old.holder != holder and now < old.until <= now + 2 * length_s:
            return None
        fence = 1 if old is None else old.fence + (old.holder != holder)
        self._leases[name] = Lease(holder=holder, fence=fence, until=now + length_s)
        return self._leases[name]

    def give_lease_back(self, lease: Lease, name: str) -> None:
        if self._leases.get(name, lease).fence == lease.fence:
            self._leases[name] = Lease(holder="", fence=lease.fence, until=0.0)

    def live(self) -> tuple[Model, ...]:
        return tuple(one for one in self._models.values() if one.state is not State.DELETED)

    def record(self, changes: Sequence[Change], now: datetime, lease: Lease, name: str) -> int:
        held = self._leases.get(name)
        if held is None or (held.holder, held.fence) != (lease.holder, lease.fence):
            raise ConflictError("somebody else acts", code="lease_lost")
        return sum(self._note(change, now) for change in changes)

    def purge(self, now: datetime, keep_deleted_s: float | None, lease: Lease, name: str) -> Purged:
        held = self._leases.get(name)
        if held is None or (held.holder, held.fence) != (lease.holder, lease.fence):
            raise ConflictError("somebody else acts", code="lease_lost")
        old = [
            key
            for key, one in self._models.items()
            if keep_deleted_s is not None
            and one.state is State.DELETED
            and (now - one.updated_at).total_seconds() >= keep_deleted_s
        ]
        for key in old[:2]:
            self._purged = max(self._purged, self._changed[key])
            for rows in (self._models, self._changed, self._revisions, self._events):
                rows.pop(key, None)
        return Purged(models=len(old[:2]), answers=0, has_more=len(old) > 2)

    def version(self) -> int:
        return self._version

    def changed_since(self, version: int, user_id: str | None) -> tuple[int, tuple[Model, ...]]:
        if version < self._purged:
            raise ConflictError("some are gone", code="version_forgotten")
        return self._version, tuple(self._models[key] for key, at in self._changed.items() if at > version)

    def close(self) -> None: ...

    def _note(self, change: Change, now: datetime) -> bool:
        model = self._models[change.model_key]
        moved = model.generation != change.generation or model.state is State.DELETED
        if moved or (model.state is State.DELETING and not (change.was in GOING and change.state in GOING)):
            return False
        for event_type, payload in change.events:
            self._tell(change.model_key, event_type, payload, now)
        progress: Progress = change.progress
        self._put(
            replace(
                model,
                state=change.state,
                observed_generation=change.observed_generation,
                error_summary=change.error_summary,
                conditions=change.conditions,
                progress=progress,
                updated_at=now,
            )
        )
        return True

    def _tell(self, key: str, event_type: str, payload: dict[str, object], now: datetime) -> None:
        events = self._events.setdefault(key, [])
        sequence = next(self._sequence)
        if events and (events[-1].event_type, events[-1].payload) == (event_type, payload):
            events[-1] = replace(events[-1], count=events[-1].count + 1, last_at=now, sequence=sequence)
            return
        events.append(
            Event(sequence=sequence, event_type=event_type, created_at=now, last_at=now, count=1, payload=payload)
        )

    def _put(self, model: Model) -> None:
        self._version += 1
        self._models[model.model_key] = model
        self._changed[model.model_key] = self._version
