"""Models as a stream of server-sent events: what is there, and then every change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec
from fastapi import Response
from fastapi.responses import StreamingResponse

from moorage.errors import ConflictError, MoorageError
from moorage.serving.api.door import Caller
from moorage.serving.api.parts import Parts
from moorage.serving.api.problems import Problem
from moorage.serving.api.recent import Batch
from moorage.serving.api.views import model_view
from moorage.serving.model import Model, State

__all__ = ["HEARTBEAT_S", "watch_models"]

HEARTBEAT_S = 15.0
"""After so long without a word there is a bookmark, so that proxies and clients see that the stream lives."""
PAGE = 1000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def watch_models(parts: Parts, caller: Caller, model_key: str | None, after: int | None) -> Response:
    """A stream without end: `ADDED`, `MODIFIED` and `DELETED` with `{"type", "model"}`, and `BOOKMARK`.

    `model_key`: that model alone, and the end when it is DELETED; None: all of the caller's. `after`: the id of the
    last event that was read; None, one that this store never gave, or one from before what is not kept any more:
    first everything that is there. Only bookmarks have an id, and one follows whatever belongs together: whoever goes
    on from it has missed nothing.
    """
    if caller.user_id is None:
        raise Problem(403, "an administrator owns no models to watch", code="forbidden")
    parts.changes.check_room()
    watch = _Watch(parts, caller, caller.user_id, model_key)
    return StreamingResponse(watch.run(after), media_type="text/event-stream", headers=HEADERS)


class _Watch:
    """One stream."""

    def __init__(self, parts: Parts, caller: Caller, user_id: str, model_key: str | None) -> None:
        self._parts = parts
        self._caller = caller
        self._user_id = user_id
        self._model_key = model_key
        self._known: set[str] = set()
        """Models that this stream has spoken of."""
        self._is_over = False

    async def run(self, after: int | None) -> AsyncIterator[bytes]:
        """The events. A fault of the store ends the stream, and so does that too many wait since it began: the client
        comes again with the last id."""
        changes, clock = self._parts.changes, asyncio.get_running_loop().time
        try:
            version, told = await self._parts.watch_readers.run(self._begin, after)
            yield told + _bookmark(version)
            silent_since = clock()
            while not (changes.is_closed or self._is_over):
                told = b""
                if await changes.beyond(version, max(0.0, silent_since + HEARTBEAT_S - clock())):
                    batch = await self._changed(version)
                    if batch is None:
                        return
                    version, told = batch.now, self._told(self._mine(batch), batch.told)
                if told or clock() >= silent_since + HEARTBEAT_S:
                    yield told + _bookmark(version)
                    silent_since = clock()
        except MoorageError as fault:
            self._parts.log.fault(fault, while_="watching")
        except Problem:
            return

    def _begin(self, after: int | None) -> tuple[int, bytes]:
        version = self._parts.store.version()
        if after is not None and after <= version and not self._has_ended():
            try:
                now, models = self._parts.store.changed_since(after, self._user_id)
                return now, self._told(models, {})
            except ConflictError as fault:
                if fault.code != "version_forgotten":
                    raise
        return version, self._told(self._everything(), {})

    def _has_ended(self) -> bool:
        """The one model is DELETED: it is told once more, so that whoever missed the end of the stream has it now."""
        return self._model_key is not None and self._parts.store.model(self._model_key).state is State.DELETED

    async def _changed(self, version: int) -> Batch | None:
        """What changed since; None: the token was revoked meanwhile, and reads no more."""
        recent, secret = self._parts.recent, self._caller.secret
        batch = recent.at_hand(version, secret)
        if batch is None:
            batch = await self._parts.watch_readers.run(recent.read, version, secret)
        return batch if batch.secrets[secret] else None

    def _mine(self, batch: Batch) -> Iterator[Model]:
        return (one for one in batch.models if one.user_id == self._user_id)

    def _everything(self) -> Iterator[Model]:
        if self._model_key is not None:
            yield self._parts.store.model(self._model_key)
            return
        token: str | None = None
        while True:
            page = self._parts.store.page(self._user_id, PAGE, token)
            yield from page.items
            token = page.next_token
            if token is None:
                return

    def _told(self, models: Iterable[Model], views: dict[str, bytes]) -> bytes:
        return b"".join([self._told_of(one, views) for one in models if self._model_key in (None, one.model_key)])

    def _told_of(self, model: Model, views: dict[str, bytes]) -> bytes:
        """`views`: of models as others told them already."""
        kind = "MODIFIED" if model.model_key in self._known else "ADDED"
        self._known.add(model.model_key)
        if model.state is State.DELETED:
            kind = "DELETED"
            self._known.discard(model.model_key)
            self._is_over = self._model_key is not None
        view = views.get(model.model_key)
        if view is None:
            view = msgspec.json.encode(model_view(model, self._parts.settings.openai_base_url))
            views[model.model_key] = view
        return _event(kind, {"model": msgspec.Raw(view)})


def _bookmark(version: int) -> bytes:
    """Whoever goes on from this id has missed nothing that was told before it."""
    return b"id: %d\n" % version + _event("BOOKMARK", {})


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **data}))
