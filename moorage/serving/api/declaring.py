"""Declaring and changing models: the checks in their order, and one transaction of the store at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moorage.errors import ConflictError, NotFoundError
from moorage.serving.api.dry_run import differences, same_spec, steps
from moorage.serving.api.problems import Problem
from moorage.serving.api.queries import Precondition, stale
from moorage.serving.api.quotas import check_quotas
from moorage.serving.model import Model, State
from moorage.serving.settings import Quotas
from moorage.serving.spec.checking import check_spec
from moorage.serving.spec.patching import patch_spec
from moorage.serving.spec.rules import SpecRules
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.spec.written import spec_yaml
from moorage.serving.store.contract import Admit, Declared, Kept, Store

__all__ = ["Declaring", "Outcome"]

AMEND_TIMES = 20
"""Others may change the same model at the same time, and a patch is made on what is there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client is told."""

    answer: dict[str, Any]
    etag: str | None
    """Of the model as it is now; None: it is not there (yet)."""
    generation: int | None = None
    was_kept: bool = False
    """It is an answer that was given before."""


class Declaring:
    """Threads share it. `woken` is called after every accepted change."""

    def __init__(
        self,
        store: Store,
        rules: SpecRules,
        quotas: Quotas,
        now: Callable[[], datetime],
        woken: Callable[[], None],
    ) -> None:
        self._store = store
        self._rules = rules
        self._quotas = quotas
        self._now = now
        self._woken = woken
        self._counts = quotas.models is not None or quotas.gpus is not None
        self._again = threading.Lock()
        """Of those who came too late with a change, and try again: all at once they would keep each other from it."""

    def kept(self, user_id: str, kept: Kept | None) -> Outcome | None:
        """The answer to the same request before. Raises UsageError `idempotency_key_reused`."""
        answer = self._store.kept_answer(user_id, kept, self._now()) if kept is not None else None
        return None if answer is None else Outcome(answer, None, was_kept=True)

    def declare(self, user_id: str, document: dict[str, Any], *, create_only: bool, kept: Kept | None) -> Outcome:
        """A model of that suffix with this spec. Raises SpecFaults, ConflictError, Problem 422 for a quota."""
        spec = check_spec(document, user_id=user_id, rules=self._rules)
        admit = self._admission(spec)
        return self._outcome(
            self._store.declare(user_id, spec, self._now(), create_only=create_only, kept=kept, admit=admit)
        )

    def would_declare(self, user_id: str, document: dict[str, Any], *, create_only: bool) -> Outcome:
        """The same checks, and what would come of it; nothing is stored."""
        spec = check_spec(document, user_id=user_id, rules=self._rules)
        before = self._store.named(user_id, spec.model_id)
        if before is not None and before.state is State.DELETING:
            raise _deleting()
        if before is not None and create_only:
            raise ConflictError(f"there is a model {spec.model_id!r} already", code="model_exists")
        self._check_quotas(user_id, spec)
        return _would(before, spec)

    def patch(self, model: Model, document: dict[str, Any], match: Precondition | None, *, dry_run: bool) -> Outcome:
        """The model's spec with these changes. Raises SpecFaults, Problem 412 and 409."""

        def changed(current: Model) -> ServingSpec:
            return patch_spec(current.spec, document, user_id=current.user_id, rules=self._rules)

        return self._amend(model, changed, match, "UPDATE_REQUESTED", dry_run=dry_run)

    def roll_back(self, model: Model, generation: int | None, match: Precondition | None, *, dry_run: bool) -> Outcome:
        """A new generation with an older spec; None: the last one that was healthy."""

        def older(current: Model) -> ServingSpec:
            wanted = generation if generation is not None else _last_healthy(current)
            for revision in self._store.revisions(current.model_key):
                if revision.generation == wanted:
                    # What was allowed once may not be any more: a folder that is gone, a limit that was lowered.
                    return check_spec(revision.spec.to_dict(), user_id=current.user_id, rules=self._rules)
            raise NotFoundError(f"the model has no generation {wanted}", hint="GET …/revisions lists them")

        return self._amend(model, older, match, "ROLLBACK_REQUESTED", dry_run=dry_run)

    def delete(self, model: Model, match: Precondition | None) -> Outcome:
        """From now on it is DELETING. Raises Problem 412."""
        bound = match is not None and match.etags is not None  # `*` is met by whatever it is when it goes
        if match is not None:
            match.check(model.etag)
        try:
            gone = self._store.delete(model.model_key, self._now(), generation=model.generation if bound else None)
        except ConflictError as fault:
            if fault.code == "generation_moved":
                raise stale() from fault
            raise
        self._woken()
        return Outcome({"model_key": gone.model_key, "state": gone.state.value}, gone.etag, gone.generation)

    def _amend(
        self,
        model: Model,
        make: Callable[[Model], ServingSpec],
        match: Precondition | None,
        event_type: str,
        *,
        dry_run: bool,
    ) -> Outcome:
        for attempt in range(AMEND_TIMES):
            with self._again if attempt else nullcontext():
                current = self._store.model(model.model_key) if attempt else model
                try:
                    return self._amend_once(current, make, match, event_type, dry_run=dry_run)
                except ConflictError as fault:
                    if fault.code != "generation_moved":
                        raise
        raise Problem(409, "others keep changing this model: nothing was done", code="generation_moved")

    def _amend_once(
        self,
        model: Model,
        make: Callable[[Model], ServingSpec],
        match: Precondition | None,
        event_type: str,
        *,
        dry_run: bool,
    ) -> Outcome:
        """Raises ConflictError `generation_moved` when the model is another one by now."""
        if match is not None:
            match.check(model.etag)
        if model.state in (State.DELETING, State.DELETED):
            raise _deleting()
        spec = make(model)
        if dry_run:
            self._check_quotas(model.user_id, spec)
            return _would(model, spec)
        declared = self._store.amend(
            model.model_key,
            spec,
            self._now(),
            generation=model.generation,
            event_type=event_type,
            admit=self._admission(spec),
        )
        return self._outcome(declared)

    def _outcome(self, declared: Declared) -> Outcome:
        if declared.changed:
            self._woken()
        if declared.model is None:
            return Outcome(declared.answer, None, was_kept=True)
        return Outcome(declared.answer, declared.model.etag, declared.model.generation)

    def _admission(self, spec: ServingSpec) -> Admit | None:
        """For the store to ask: between counting what a user has and adding to it there is nobody else."""
        return (lambda models: check_quotas(self._quotas, models, spec)) if self._counts else None

    def _check_quotas(self, user_id: str, spec: ServingSpec) -> None:
        """As things are now, for those who only ask."""
        if self._counts:
            check_quotas(self._quotas, self._models_of(user_id), spec)

    def _models_of(self, user_id: str) -> list[Model]:
        found: list[Model] = []
        token: str | None = None
        while True:
            page = self._store.page(user_id, 1000, token)
            found += page.items
            token = page.next_token
            if token is None:
                return found


def _would(before: Model | None, spec: ServingSpec) -> Outcome:
    changed = before is None or not same_spec(before.spec, spec)
    state = State.QUEUED if before is None or changed else before.state
    answer = {
        "model_key": before.model_key if before is not None else None,
        "state": state.value,
        "dry_run": True,
        "created": before is None,
        "changed": changed,
        "generation": (before.generation if before is not None else 0) + int(changed),
        "diff": differences(before.spec if before is not None else None, spec),
        "plan": steps(before, spec),
        "resolved_spec_yaml": spec_yaml(spec),
    }
    return Outcome(answer, before.etag if before is not None else None)


def _last_healthy(model: Model) -> int:
    healthy = model.progress.serving_generation
    if healthy is None:
        raise ConflictError("no generation of this model was ever healthy", code="nothing_to_roll_back_to")
    if healthy == model.generation:
        raise ConflictError(
            f"generation {healthy} is the newest, and it serves",
            code="nothing_to_roll_back_to",
            hint="name the generation to go back to: GET …/revisions lists them",
        )
    return healthy


def _deleting() -> ConflictError:
    return ConflictError("the model is being deleted, or was", code="model_deleting")
