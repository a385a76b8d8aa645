"""What a store of the control plane promises. All methods block and may be called from any thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from moorage.serving.model import Condition, Event, FailureLog, Model, Progress, Revision, State
from moorage.serving.spec.spec import ServingSpec

__all__ = ["Admit", "Change", "Declared", "Kept", "Lease", "Page", "Purged", "Store", "Token", "TokenDigest", "User"]

Admit = Callable[[Sequence[Model]], None]
"""Told the models of a user that are not DELETED, right before one is made or changed; raises what refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who may declare models."""

    user_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A user's token without its secret."""

    token_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDigest:
    """What the gateway compares a presented token with: SHA-256 of it, in hexadecimal digits."""

    sha256: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer that is given again for the same `Idempotency-Key`."""

    key: str
    body_sha256: str
    """Of method, path and body: another one under the same key is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a declaration did."""

    model: Model | None
    """None: the answer was kept longer than its model."""
    created: bool
    changed: bool
    """Created, or the spec is another one than before."""
    answer: dict[str, Any]
    """The body that is kept for an idempotency key: `{model_key, state}` as it was first answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Models, oldest first; `next_token` is None on the last page."""

    items: tuple[Model, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act, of one reconciler at a time. `fence` grows with every new holder."""

    holder: str
    fence: int
    until: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a pass of the reconciler found out about a model. It is dropped when the model's generation moved on,
    or when it was marked for deletion meanwhile and this change does not know."""

    model_key: str
    generation: int
    """That the pass saw."""
    was: State
    """The state that the pass saw."""
    state: State
    observed_generation: int
    error_summary: str | None
    conditions: tuple[Condition, ...]
    progress: Progress
    events: tuple[tuple[str, dict[str, Any]], ...] = ()
    """(event_type, payload) to add, or to count on when the model's last event is the same."""
    failure_log: FailureLog | None = None
    """Of a build that is taken away now; it replaces the one before. None: that stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge took away."""

    models: int
    answers: int
    """Of idempotency keys."""
    has_more: bool
    """There may be more that can go."""


class Store(Protocol):
    """Times come from the caller. A store that cannot be reached or written raises FailedError `store_failed`, whose
    message names the store; `data["retry_after_s"]` is there when the fault may pass by itself."""

    # users and their tokens
    def create_user(self, user_id: str, now: datetime) -> None:
        """Raises ConflictError `user_exists`."""
        ...

    def has_user(self, user_id: str) -> bool: ...

    def users(self, limit: int, after: str = "") -> tuple[User, ...]:
        """In the order of their ids (as code points), those after the one given."""
        ...

    def create_token(self, user_id: str, now: datetime) -> tuple[Token, str]:
        """The token and its secret, which is only said here; only a digest is stored. Raises NotFoundError."""
        ...

    def tokens(self, user_id: str) -> tuple[Token, ...]:
        """Oldest first, revoked ones not. Raises NotFoundError for an unknown user."""
        ...

    def revoke_token(self, user_id: str, token_id: str) -> None:
        """From now on `whose` does not know it. Raises NotFoundError."""
        ...

    def whose(self, secret: str) -> str | None:
        """The user of a token; None: unknown or revoked."""
        ...

    def token_digests(self) -> tuple[TokenDigest, ...]: ...

    # what users declare
    def kept_answer(self, user_id: str, kept: Kept, now: datetime) -> dict[str, Any] | None:
        """The answer that is kept under this key of this user, for a day; None: nothing is. `declare` looks once more,
        in its own transaction; this is for answering a repeated request before its body is checked again.

        Raises UsageError `idempotency_key_reused` when it was kept for another body.
        """
        ...

    def declare(
        self,
        user_id: str,
        spec: ServingSpec,
        now: datetime,
        *,
        create_only: bool = False,
        kept: Kept | None = None,
        admit: Admit | None = None,
    ) -> Declared:
        """Make the model of (user, suffix), or give it this spec; one transaction with its event and revision.

        `admit` is asked in that transaction: nobody else, of no other process either, adds to what it was told of
        before this is kept. What it raises comes out, and nothing was done.

        Raises ConflictError: `model_exists` (create_only), `model_deleting`, and UsageError `idempotency_key_reused`.
        """
        ...

    def amend(
        self,
        model_key: str,
        spec: ServingSpec,
        now: datetime,
        *,
        generation: int,
        event_type: str = "UPDATE_REQUESTED",
        admit: Admit | None = None,
    ) -> Declared:
        """Another spec for an existing model; `admit` is asked as `declare` asks it. Raises ConflictError
        `model_deleting`, or `generation_moved` when its generation is not the one given any more."""
        ...

    def delete(self, model_key: str, now: datetime, *, generation: int | None = None, reason: str = "") -> Model:
        """Mark it DELETING; again is no fault. Raises NotFoundError, ConflictError `generation_moved`."""
        ...

    def model(self, model_key: str) -> Model:
        """Also when DELETED, until it is purged. Raises NotFoundError."""
        ...

    def named(self, user_id: str, suffix: str) -> Model | None:
        """The model of that suffix that is not DELETED."""
        ...

    def page(self, user_id: str | None, limit: int, token: str | None, *, state: State | None = None) -> Page:
        """Models that are not DELETED, of one user or (None) all. Raises UsageError `bad_page_token`."""
        ...

    def revisions(self, model_key: str) -> tuple[Revision, ...]:
        """Oldest first."""
        ...

    def events(self, model_key: str, limit: int, after: int = 0) -> tuple[Event, ...]:
        """Oldest first, those with a larger sequence than `after`."""
        ...

    def failure_log(self, model_key: str) -> FailureLog | None:
        """Of the model's build that failed last; None: none did, or the model is DELETED."""
        ...

    # what the reconciler does
    def take_lease(
        self, name: str, holder: str, now: float, length_s: float, gone: Callable[[str], bool] | None = None
    ) -> Lease | None:
        """Take or prolong it; None: somebody else's still runs.

        `gone`: whether a holder of that name will never act again: its lease need not run out. None: nobody can tell.
        """
        ...

    def give_lease_back(self, lease: Lease, name: str) -> None: ...

    def live(self) -> tuple[Model, ...]:
        """Every model that is not DELETED."""
        ...

    def record(self, changes: Sequence[Change], now: datetime, lease: Lease, name: str) -> int:
        """Write them in one transaction; how many were not dropped. Raises ConflictError `lease_lost`: none was."""
        ...

    def purge(self, now: datetime, keep_deleted_s: float | None, lease: Lease, name: str) -> Purged:
        """Take away, for good and in one transaction, some of the models that have been DELETED for so long (None:
        none), those first that went first, with their events and revisions; and some of the answers that were kept
        for a day. Raises ConflictError `lease_lost`: nothing was."""
        ...

    # for watchers
    def version(self) -> int:
        """Grows with every change of models, users and tokens."""
        ...

    def changed_since(self, version: int, user_id: str | None) -> tuple[int, tuple[Model, ...]]:
        """The version now, and the models (DELETED ones too) that changed after the one given.

        Raises ConflictError `version_forgotten` when some of those were purged: all must be read anew."""
        ...

    def close(self) -> None: ...
