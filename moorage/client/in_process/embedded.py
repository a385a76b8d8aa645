"""The gateway's own way to take a turn, in the caller's event loop: no socket, no file.

So what is recorded is the same as behind a gateway, field by field: it is the same code that matches, renders, asks,
checks and records. Requests are answered as they would be over HTTP, and their replies read by the same functions.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode

from moorage.capture.views.nodes import nodes_of
from moorage.client.http.again import may_pass, pause_before, retry_after_of
from moorage.client.http.ask import Ask, Reply
from moorage.client.http.faults import fault_of
from moorage.client.in_process.memory_store import MemoryStore
from moorage.client.in_process.said import ToLogging
from moorage.client.in_process.tokenizers import folder_of, renderer_of
from moorage.gateway.gateway import Gateway
from moorage.gateway.http.app import App
from moorage.gateway.http.request import Request
from moorage.gateway.ids import cheap_ids, uuid_hex
from moorage.gateway.log import Log
from moorage.gateway.settings import Settings
from moorage.gateway.tokenizer_choice import find_tokenizer_folder, load_renderer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moorage.engines.fleet.endpoint import Endpoint
    from moorage.engines.fleet.fleet import Fleet
    from moorage.engines.parsing.process import ParserProcess
    from moorage.engines.rendering.plan import Renderer
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.http.reply import Reply as Answered
    from moorage.pool.contract import Store

__all__ = ["Embedded"]

T = TypeVar("T")


class Embedded:
    """One fleet and one tokenizer, in the event loop that first uses it."""

    url = None
    """Nobody reaches it from elsewhere."""

    def __init__(self, fleet: Fleet, endpoints: Sequence[Endpoint], tokenizer: Any, patience_s: float) -> None:
        self._store = MemoryStore()
        self._patience_s = patience_s
        self._tokenizer, self._endpoints = tokenizer, endpoints
        self._loaded: tuple[Renderer, ParserProcess] | None = None
        settings = Settings(db="sqlite: in memory", upstream_timeout_s=1200.0, allow_dummy=_allows_dummy(os.environ))
        self._gateway = Gateway(
            settings,
            fleet=fleet,
            store=cast("Store", self._store),
            load_tokenizer=self._take_loaded,
            clock=time.time,
            new_id=cheap_ids(),
            new_uid=uuid_hex,
            log=Log(cast("IO[str]", ToLogging())),
        )
        self._app = App(self._gateway)

    async def start(self) -> None:
        """Open the fleet, load the tokenizer. Raises PreflightError for a tokenizer that cannot be used."""
        self._loaded = await asyncio.to_thread(_loaded, self._tokenizer, self._endpoints)
        await self._gateway.start()
        await self._gateway.loaded()

    async def send(self, ask: Ask[T]) -> T:
        """The reply, read. Raises errors of `moorage.errors` with the gateway's code."""
        waited_s, attempts = 0.0, 0
        while True:
            attempts += 1
            answered = await self._answer(ask)
            if 200 <= answered.status < 300:
                headers = {"content-type": answered.content_type.decode()}
                return ask.read(Reply(answered.status, headers, answered.body))
            fault = fault_of(answered.status, answered.body, "in process")
            told = {name.decode().lower(): value.decode() for name, value in answered.headers}
            pause = None
            if may_pass(answered.status, fault.code):
                pause = pause_before(
                    "passing",
                    repeatable=ask.repeatable,
                    attempts=attempts,
                    waited_s=waited_s,
                    patience_s=0.0 if ask.once else self._patience_s,
                    retry_after_s=retry_after_of(told.get("retry-after")),
                    chance=0.5,
                )
            if pause is None:
                raise fault
            waited_s += pause
            await asyncio.sleep(pause)

    def nodes_now(self, uuid: str, *, track_tree: bool) -> list[dict[str, Any]]:
        """A session's nodes, at once."""
        return nodes_of(self._store.calls_now(uuid), self._gateway.decode_text, track_tree=track_tree)

    async def close(self) -> None:
        """End the parser's process and the connections."""
        await self._gateway.close()

    def _take_loaded(self) -> tuple[Renderer, ParserProcess] | None:
        return self._loaded

    async def _answer(self, ask: Ask[Any]) -> Answered:
        target = ask.path + (f"?{urlencode(ask.params)}" if ask.params else "")
        headers = [(name.encode(), value.encode()) for name, value in (ask.headers or {}).items()]
        request = Request(ask.method, target.encode(), headers, ask.content or b"")
        taken = _Taken()
        await self._app.answer(request, cast("Connection", taken))
        assert taken.reply is not None, "whatever goes wrong is told as a reply"
        return taken.reply


class _Taken:
    """In place of a connection: it takes one whole reply."""

    def __init__(self) -> None:
        self.reply: Answered | None = None

    def send(self, request: Request, reply: Answered) -> None:
        del request
        self.reply = reply

    def streaming(self, request: Request) -> bool:
        del request
        return False

    def answered(self, request: Request) -> None:
        del request


def _loaded(tokenizer: Any, endpoints: Sequence[Endpoint]) -> tuple[Renderer, ParserProcess] | None:
    """The renderer, and the parsers where an engine's Python and the tokenizer's folder are at hand."""
    from moorage.catalog.engine_python import find_engine_python
    from moorage.engines.parsing.process import ParserProcess

    renderer = None if tokenizer is None else renderer_of(tokenizer)
    named = None if tokenizer is None else folder_of(tokenizer)
    folder = Path(named) if named is not None and Path(named, "tokenizer.json").is_file() else None
    if folder is None and renderer is None:
        folder = find_tokenizer_folder(None, _named(named, endpoints), os.environ)
    if renderer is None and folder is not None:
        renderer = load_renderer(folder, named=tokenizer is not None)
    if renderer is None:
        return None
    python = None if folder is None else find_engine_python("vllm", os.environ)
    return renderer, ParserProcess(python, folder or Path())


def _allows_dummy(environ: Mapping[str, str]) -> bool:
    """Whether sessions of engines without ids may have placeholders, as Atropos's variable says."""
    return environ.get("ATROPOS_ALLOW_DUMMY_MANAGED_SERVER", "").lower() in ("1", "true", "yes")


def _named(name: str | None, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    from dataclasses import replace

    return endpoints if name is None else [replace(endpoints[0], tokenizer_name=name, model_name=None)]
