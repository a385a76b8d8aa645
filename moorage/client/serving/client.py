"""The serving API as a Python object, blocking."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from moorage.client.http.blocking import Blocking
from moorage.client.http.place import address_of, key_headers
from moorage.client.http.terms import Terms
from moorage.client.serving import asks
from moorage.client.serving.following import follow_lines
from moorage.client.serving.settling import wait_until_settled
from moorage.client.serving.values import Answer, Detail, Event, Model, NewToken, Page, Plan, Revision, Token, User
from moorage.client.serving.watching import Watched, watch_stream

__all__ = ["TOKEN_ENV", "ServingClient"]

TOKEN_ENV = "MOORAGE_SERVING_TOKEN"  # noqa: S105 - the name of a variable
KEY_HINT = "is what the variable of token_env (--token-env) holds a token of this server, and not revoked?"
PAGE = 200
FOLLOWED = 1000
"""Lines that are asked for when they are followed: what comes between two questions must fit."""


class ServingClient:
    """One serving API. For any number of threads.

    `token_env` names the variable that holds the token; MOORAGE_SERVING_TOKEN may be missing, another one may not.
    `token` is for programs that hold it themselves, and goes before. What may be repeated is, for as long as
    `patience_s` allows: a server that restarts is waited for. Times are seconds.

    Methods raise errors of `moorage.errors` with the API's own `code`: UsageError (400, 413, 415, 422;
    `data["errors"]` has every fault of a spec), PreflightError (401, 403), NotFoundError (404), ConflictError (409,
    412), TryAgainError (429, 503, 504, 500 with `Retry-After`, no connection), else FailedError.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        token_env: str | None = TOKEN_ENV,
        timeout_s: float = 60.0,
        patience_s: float = 30.0,
        max_connections: int = 100,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Raises UsageError for what is no address, PreflightError for a token that is not there."""
        if token is not None:
            token_env, environ = "token", {"token": token}
        self._http = Blocking(
            Terms(
                url=address_of(base_url, server="serving API"),
                headers=key_headers(token_env, environ, default_env=TOKEN_ENV, server="serving API"),
                timeout_s=timeout_s,
                patience_s=patience_s,
                max_connections=max_connections,
                server="serving API",
                key_hint=KEY_HINT,
            )
        )
        self.base_url = self._http.terms.url

    def __enter__(self) -> ServingClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    # Models.

    def declare(
        self,
        spec: str | bytes | Mapping[str, Any],
        *,
        create_only: bool = False,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Make a model, or give an existing one this spec. Text is YAML or JSON.

        `create_only`: ConflictError when there is one of that suffix. `idempotency_key`: None is a fresh one, which
        covers repetitions within this call.
        """
        body, as_json = _body(spec)
        key = idempotency_key or uuid.uuid4().hex
        return self._http.send(asks.declare(body, as_json=as_json, create_only=create_only, key=key))

    def plan(self, spec: str | bytes | Mapping[str, Any], *, create_only: bool = False) -> Plan:
        """What `declare` would do, with the same checks; nothing is stored."""
        body, as_json = _body(spec)
        return self._http.send(asks.plan(body, as_json=as_json, create_only=create_only))

    def page(self, *, limit: int = 100, page_token: str | None = None, state: str | None = None) -> Page:
        """One page of the models, oldest first; those that are DELETED are not in it."""
        return self._http.send(asks.models(limit=limit, page_token=page_token, state=state))

    def models(self, *, state: str | None = None) -> Iterator[Model]:
        """All of them, page by page."""
        token: str | None = None
        while True:
            page = self.page(limit=PAGE, page_token=token, state=state)
            yield from page.items
            token = page.next_page_token
            if token is None:
                return

    def model(self, model_key: str) -> Detail:
        """One model with its events, also when it is DELETED."""
        return self._http.send(asks.one(model_key))

    def patch(self, model_key: str, changes: Mapping[str, Any], *, if_match: str | None = None) -> Answer:
        """A JSON Merge Patch of the spec; `if_match`: only while the ETag is that one."""
        return self._http.send(asks.patch(model_key, changes, if_match))

    def plan_patch(self, model_key: str, changes: Mapping[str, Any], *, if_match: str | None = None) -> Plan:
        """What `patch` would do."""
        return self._http.send(asks.plan_patch(model_key, changes, if_match))

    def scale(self, model_key: str, num_replicas: int, *, if_match: str | None = None) -> Answer:
        """Another number of replicas; those that run are not restarted."""
        return self.patch(model_key, {"num_replicas": num_replicas}, if_match=if_match)

    def delete(self, model_key: str, *, if_match: str | None = None) -> Answer:
        """Have it taken away; again is no fault."""
        return self._http.send(asks.delete(model_key, if_match))

    def revisions(self, model_key: str) -> tuple[Revision, ...]:
        """Every spec that was accepted, oldest first."""
        return self._http.send(asks.revisions(model_key))

    def rollback(self, model_key: str, *, generation: int | None = None, if_match: str | None = None) -> Answer:
        """A new generation with an older spec; None: the last one that was healthy."""
        return self._http.send(asks.rollback(model_key, generation, if_match))

    def plan_rollback(self, model_key: str, *, generation: int | None = None, if_match: str | None = None) -> Plan:
        """What `rollback` would do."""
        return self._http.send(asks.plan_rollback(model_key, generation, if_match))

    def events(self, model_key: str) -> Iterator[Event]:
        """What happened to it, oldest first, page by page; `model` has the first and the newest of them."""
        token: str | None = None
        while True:
            found, token = self._http.send(asks.events(model_key, token))
            yield from found
            if token is None:
                return

    def logs(self, model_key: str, *, lines: int = 100, generation: int | None = None) -> list[str]:
        """The last lines of every replica, each with its replica's name in front; of another revision than the newest
        with `generation`."""
        return self._http.send(asks.logs(model_key, lines, generation))

    def follow(
        self, model_key: str, *, lines: int = 100, generation: int | None = None, poll_s: float = 1.0
    ) -> Iterator[str]:
        """The last lines, and those that come, until the model is DELETED; asked for every `poll_s`."""
        return follow_lines(
            lambda: self.logs(model_key, lines=max(lines, FOLLOWED), generation=generation),
            lambda: self.model(model_key).model.state == "DELETED",
            lines=lines,
            poll_s=poll_s,
        )

    def watch(self, model_key: str | None = None, *, after: str | None = None) -> Iterator[Watched]:
        """The models as they are, and every change, as it happens: ADDED, MODIFIED, DELETED, and BOOKMARK, whose id is
        what `after` takes to go on without what was told before.

        It ends when the one model is DELETED, else never. When the connection breaks it asks again from the last id.
        Raises TryAgainError when nobody answers for `patience_s`.
        """
        return watch_stream(self._http, model_key, after)

    def wait(self, model_key: str, *, timeout_s: float, poll_s: float = 0.5) -> Detail:
        """Until the model is settled: it serves, it failed, or it is gone. Raises NotReadyError when it is not in
        time."""
        return wait_until_settled(self.model, model_key, timeout_s=timeout_s, poll_s=poll_s)

    # For administrators.

    def status(self) -> dict[str, Any]:
        """How the control plane and its backend are."""
        return self._http.send(asks.status())

    def create_user(self, user_id: str) -> User:
        """Raises ConflictError `user_exists`."""
        return self._http.send(asks.create_user(user_id))

    def users(self) -> Iterator[User]:
        """All of them by id, page by page."""
        token: str | None = None
        while True:
            found, token = self._http.send(asks.users(token))
            yield from found
            if token is None:
                return

    def create_token(self, user_id: str) -> NewToken:
        """A further token; its secret is told this once."""
        return self._http.send(asks.create_token(user_id))

    def tokens(self, user_id: str) -> tuple[Token, ...]:
        """Those that are not revoked, oldest first."""
        return self._http.send(asks.tokens(user_id))

    def revoke_token(self, user_id: str, token_id: str) -> None:
        """From now on it gets 401."""
        self._http.send(asks.revoke_token(user_id, token_id))


def _body(spec: str | bytes | Mapping[str, Any]) -> tuple[bytes, bool]:
    """(bytes to send, whether they are JSON)."""
    if isinstance(spec, str | bytes):
        content = spec.encode("utf-8", "surrogatepass") if isinstance(spec, str) else spec
        return content, asks.is_json(content)
    return asks.encoded(spec), True
