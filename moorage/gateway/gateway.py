"""The gateway's parts, put together once: fleet, store, sessions, tokenizer, parsers, metrics, log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from moorage.errors import MoorageError
from moorage.gateway.http.faults import Fault
from moorage.gateway.log import Log
from moorage.gateway.metrics import Metrics
from moorage.gateway.settings import Settings
from moorage.gateway.turns.live import LiveSessions

if TYPE_CHECKING:
    from moorage.engines.fleet.fleet import Fleet
    from moorage.engines.parsing.process import ParserProcess
    from moorage.engines.rendering.plan import Renderer
    from moorage.pool.contract import Store

__all__ = ["Gateway"]

SWEEP_S = 15.0


class Gateway:
    """What every handler is given. `load_tokenizer` runs in a thread; None: there is no tokenizer."""

    def __init__(
        self,
        settings: Settings,
        *,
        fleet: Fleet,
        store: Store,
        load_tokenizer: Callable[[], tuple[Renderer, ParserProcess] | None],
        clock: Callable[[], float],
        new_id: Callable[[], str],
        new_uid: Callable[[], str],
        log: Log,
    ) -> None:
        self.settings = settings
        self.fleet = fleet
        self.store = store
        self.renderer: Renderer | None = None
        """None: no tokenizer, or not yet."""
        self.parser: ParserProcess | None = None
        self.clock = clock
        self.new_id = new_id
        """For calls and requests: unique."""
        self.new_uid = new_uid
        """For sessions and trajectories, 32 hexadecimal digits: unguessable too."""
        self.log = log
        self.metrics = Metrics()
        self.weight_version: int | None = None
        """What `/weights` said last; None: nothing."""
        self.stopping = asyncio.Event()
        """Set when the gateway drains: streams that never end by themselves end then."""
        self.sessions = LiveSessions(
            store, clock=clock, memory_bytes=settings.memory_bytes, max_sessions=settings.max_sessions
        )
        self._load_tokenizer = load_tokenizer
        self._not_ready: str | None = "starting"
        self._warmed = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the store and the fleet; the tokenizer loads meanwhile. Raises PreflightError."""
        await self.store.open()
        await self.fleet.start()
        await self.sessions.start()
        self._not_ready = "tokenizer still loading"
        self._run(self._load())
        if self.settings.session_ttl_s is not None:
            self._run(self._sweep(self.settings.session_ttl_s))

    async def close(self) -> None:
        """Stop what runs beside the requests, then close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.parser is not None:
            await self.parser.close()
        await self.fleet.close()
        await self.store.close()

    def refuse_unready(self) -> None:
        """Raises a Fault of 503 that says what is missing still."""
        if self._not_ready is not None:
            message = f"Gateway not ready ({self._not_ready})"
            raise Fault(503, message, code="not_ready", retry_after_s=1)

    @property
    def parses(self) -> bool:
        """Whether replies can be split into content, reasoning and tool calls here."""
        return self.parser is not None and self.parser.enabled

    def decode_text(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of token ids; empty without a tokenizer."""
        if self.renderer is None:
            return ""
        return self.renderer.tokenizer.decode(ids, skip_special=skip_special)

    def warm_parser(self) -> None:
        """Have the parser process start while the engine samples: it takes longer than most replies."""
        if self.parser is not None and self.parser.enabled and not self._warmed:
            self._warmed = True
            self._run(self._warm(self.parser))

    async def _warm(self, parser: ParserProcess) -> None:
        if not await parser.start():
            self.log.warning("parsers_off", why="the parser process does not start")

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _load(self) -> None:
        try:
            loaded = await asyncio.to_thread(self._load_tokenizer)
        except MoorageError as fault:
            self.log.fault(fault)
            self._not_ready = fault.message
            return
        if loaded is not None:
            self.renderer, self.parser = loaded
        self._not_ready = None
        self.log.info("ready", mode=self.settings.mode or ("exact" if self.renderer else "passthrough"))

    async def _sweep(self, ttl_s: float) -> None:
        """End sessions that were idle for longer."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), min(SWEEP_S, ttl_s / 4))
                return
            for uid in self.sessions.idle_since(self.clock() - ttl_s):
                try:
                    await self.sessions.delete(uid)
                    self.log.info("session_expired", session=uid)
                except MoorageError as fault:
                    self.log.fault(fault, session=uid)
