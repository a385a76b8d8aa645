"""The store in an SQL database: every method is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from moorage.serving.model import Event, FailureLog, Model, Revision, State
from moorage.serving.spec.spec import ServingSpec
from moorage.serving.store import accounts, answers, declaring, failures, leases, purging, reading, recording
from moorage.serving.store.contract import (
    Admit,
    Change,
    Declared,
    Kept,
    Lease,
    Page,
    Purged,
    Token,
    TokenDigest,
    User,
)
from moorage.serving.store.database import Database, Writing
from moorage.serving.store.ids import Ids
from moorage.serving.store.memo import Memo
from moorage.serving.store.rows import from_micros, model_of, to_micros

__all__ = ["SqlStore"]


class SqlStore:
    """See `contract.Store`. Times are kept to the microsecond."""

    def __init__(self, database: Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids
        self._memo = Memo()

    def create_user(self, user_id: str, now: datetime) -> None:
        with self._database.write() as writing:
            accounts.create_user(writing, user_id, to_micros(now))

    def has_user(self, user_id: str) -> bool:
        with self._database.read() as db:
            return accounts.find_user(db, user_id)

    def users(self, limit: int, after: str = "") -> tuple[User, ...]:
        with self._database.read() as db:
            return accounts.list_users(db, limit, after)

    def create_token(self, user_id: str, now: datetime) -> tuple[Token, str]:
        with self._database.write() as writing:
            return accounts.create_token(writing, self._ids, user_id, to_micros(now))

    def tokens(self, user_id: str) -> tuple[Token, ...]:
        with self._database.read() as db:
            return accounts.tokens_of(db, user_id)

    def revoke_token(self, user_id: str, token_id: str) -> None:
        with self._database.write() as writing:
            accounts.revoke(writing, user_id, token_id)

    def whose(self, secret: str) -> str | None:
        with self._database.read() as db:
            return accounts.owner_of(db, secret)

    def token_digests(self) -> tuple[TokenDigest, ...]:
        with self._database.read() as db:
            return accounts.digests(db)

    def kept_answer(self, user_id: str, kept: Kept, now: datetime) -> dict[str, Any] | None:
        with self._database.read() as db:
            return answers.kept_answer(db, user_id, kept, to_micros(now))

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
        admission = self._admission(admit)
        with self._database.write() as writing:
            return declaring.declare(
                writing, self._ids, user_id, spec, _utc(now), create_only=create_only, kept=kept, admission=admission
            )

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
        admission = self._admission(admit)
        with self._database.write() as writing:
            return declaring.amend(
                writing,
                model_key,
                spec,
                _utc(now),
                generation=generation,
                event_type=event_type,
                admission=admission,
            )

    def delete(self, model_key: str, now: datetime, *, generation: int | None = None, reason: str = "") -> Model:
        with self._database.write() as writing:
            return declaring.mark_deleted(writing, model_key, _utc(now), generation=generation, reason=reason)

    def model(self, model_key: str) -> Model:
        with self._database.read() as db:
            return model_of(reading.find_model(db, model_key))

    def named(self, user_id: str, suffix: str) -> Model | None:
        with self._database.read() as db:
            found = reading.live_model(db, user_id, suffix)
            return None if found is None else model_of(found)

    def page(self, user_id: str | None, limit: int, token: str | None, *, state: State | None = None) -> Page:
        with self._database.read() as db:
            return reading.page_of(db, self._memo, user_id, limit, token, state)

    def revisions(self, model_key: str) -> tuple[Revision, ...]:
        with self._database.read() as db:
            return reading.revisions_of(db, model_key)

    def events(self, model_key: str, limit: int, after: int = 0) -> tuple[Event, ...]:
        with self._database.read() as db:
            return reading.events_of(db, model_key, limit, after)

    def failure_log(self, model_key: str) -> FailureLog | None:
        with self._database.read() as db:
            return failures.failure_log(db, model_key)

    def take_lease(
        self, name: str, holder: str, now: float, length_s: float, gone: Callable[[str], bool] | None = None
    ) -> Lease | None:
        with self._database.write() as writing:
            return leases.take(writing, name, holder, now, length_s, gone)

    def give_lease_back(self, lease: Lease, name: str) -> None:
        with self._database.write() as writing:
            leases.give_back(writing, lease, name)

    def live(self) -> tuple[Model, ...]:
        with self._database.read() as db:
            return reading.live_models(db, self._memo)

    def record(self, changes: Sequence[Change], now: datetime, lease: Lease, name: str) -> int:
        with self._database.write() as writing:
            leases.demand(writing, lease, name)
            return recording.record(writing, changes, now)

    def purge(self, now: datetime, keep_deleted_s: float | None, lease: Lease, name: str) -> Purged:
        with self._database.write() as writing:
            leases.demand(writing, lease, name)
            return purging.purge(writing, to_micros(now), keep_deleted_s)

    def version(self) -> int:
        with self._database.read() as db:
            return reading.version_now(db)

    def changed_since(self, version: int, user_id: str | None) -> tuple[int, tuple[Model, ...]]:
        with self._database.read() as db:
            return reading.changed_models(db, self._memo, version, user_id)

    def close(self) -> None:
        self._database.close()

    def _admission(self, admit: Admit | None) -> declaring.Admission:
        def ask(writing: Writing, user_id: str) -> None:
            if admit is not None:
                admit(reading.models_of(writing.db, self._memo, user_id))

        return ask


def _utc(now: datetime) -> datetime:
    """What is read back later."""
    return from_micros(to_micros(now))
