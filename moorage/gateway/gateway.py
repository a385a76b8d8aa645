"""The gateway's parts, put together once: fleet, store, sessions, tokenizer, parsers, metrics, log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from moorage.errors import MoorageError, NotFoundError
from moorage.gateway.auth.open_door import OpenDoor
from moorage.gateway.gate import Gate
from moorage.gateway.http.faults import Fault
from moorage.gateway.log import Log
from moorage.gateway.metrics.counts import Metrics
from moorage.gateway.metrics.loop_lag import LoopLag
from moorage.gateway.metrics.pool_watch import PoolWatch
from moorage.gateway.metrics.workers import answer_peers
from moorage.gateway.orders import Orders
from moorage.gateway.routes.pool_retention import retention_of, sweep_old
from moorage.gateway.settings import Settings
from moorage.gateway.steady import steady_clock
from moorage.gateway.tokenizer_proof import TokenizerProof
from moorage.gateway.turns.idle import idle_sessions
from moorage.gateway.turns.live import LiveSessions
from moorage.rewards.scorer import Scorer

if TYPE_CHECKING:
    from moorage.engines.fleet.fleet import Fleet
    from moorage.engines.parsing.process import ParserProcess
    from moorage.engines.rendering.plan import Renderer
    from moorage.gateway.auth.door import Door
    from moorage.gateway.http.listener import Listener
    from moorage.gateway.serving.serving import Serving
    from moorage.gateway.workers.company import Company
    from moorage.pool.contract import Store

__all__ = ["Gateway"]

SWEEP_S = 15.0
EXPIRED_AT_ONCE = 64
LEARN_S = 60.0
"""How often is read which sessions are open, where others than this process open and end some."""


class Gateway:
    """What every handler is given. `load_tokenizer` runs in a thread; None: there is no tokenizer."""

    serving: Serving | None = None
    """The declared models that it answers for; None: its endpoints are configured. Set before the start."""

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
        self.fallbacks: dict[str, Renderer] = {}
        """Family → the renderer that writes tools as it does, for sessions that asked for one."""
        self.clock = clock
        self.steady = steady_clock(clock, time.monotonic)
        """The same, but it never jumps: for how long something was idle."""
        self.new_id, self.new_uid = new_id, new_uid
        """Calls and requests: unique. Sessions and trajectories: 32 hexadecimal digits, unguessable too."""
        self.log = log
        self.proof = TokenizerProof(clock=clock, log=log)
        """Whether engines have this gateway's tokenizer."""
        self.metrics = Metrics()
        self.loop_lag = LoopLag()
        self.pool_watch = PoolWatch(store, n_rollouts=settings.n_rollouts)
        self.listener: Listener | None = None
        """None: it listens not yet."""
        self.weight_version: int | None = None
        """What `/weights` said last; None: nothing."""
        self.gate = Gate(settings.max_concurrency)
        self.orders = Orders(
            store, self.gate, name=new_id(), clock=clock, new_id=new_id, on_weights=self._take_weights, log=log
        )
        self.door: Door = OpenDoor(loopback=True)
        """What requests pass; set before the start."""
        self.stopping = asyncio.Event()
        """Set when the gateway drains: streams that never end by themselves end then."""
        self.sessions = LiveSessions(
            store, clock=self.steady, memory_bytes=settings.memory_bytes, max_sessions=settings.max_sessions
        )
        self.company: Company | None = None
        """The other workers of this one's parent; None: there are none. Set before the start."""
        self.scorer = Scorer((), environ={}, tell=log.warning)
        """The reward functions; set before the start."""
        self._load_tokenizer = load_tokenizer
        self._not_ready: str | None = "starting"
        self._warmed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._loading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the store and the fleet; the tokenizer loads meanwhile. Raises PreflightError."""
        await self.scorer.start()
        await self.store.open()
        await self._open_door()
        await self.orders.start()
        await self.fleet.start()
        if self.company is not None:
            answer_peers(self)
            await self.company.start()
        if self.serving is not None:
            await self.serving.start()
        await self.sessions.start()
        self._not_ready = "tokenizer still loading"
        self._loading = self._run(self._load())
        if self.company is not None or not self.settings.db.startswith("sqlite"):
            self._run(self._learn_again())
        self._run(self.loop_lag.run())
        if self.settings.session_ttl_s is not None:
            self._run(self._sweep(self.settings.session_ttl_s))
        retention = retention_of(self.settings)
        if retention is not None:
            self._run(sweep_old(self, retention))

    async def close(self) -> None:
        """Stop what runs beside the requests, then close the store."""
        if self.company is not None:
            await self.company.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.parser is not None:
            await self.parser.close()
        await self.scorer.close()
        await self.proof.close()
        if self.serving is not None:
            await self.serving.close()
        await self.fleet.close()
        await self.pool_watch.close()
        await self.orders.close()
        await self.door.close()
        await self.store.close()

    async def _open_door(self) -> None:
        try:
            await self.door.open()
        except BaseException:
            await self.store.close()
            raise

    def _take_weights(self, version: int | None) -> None:
        self.weight_version = version

    def refuse_unready(self) -> None:
        """Raises a Fault of 503 that says what is missing still."""
        if self._not_ready is not None:
            message = f"Gateway not ready ({self._not_ready})"
            raise Fault(503, message, code="not_ready", retry_after_s=1)

    async def loaded(self) -> None:
        """Return when the tokenizer is there, or will not be."""
        if self._loading is not None:
            await asyncio.wait((self._loading,))

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

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

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
            try:
                idle = await idle_sessions(self, self.steady() - ttl_s)
            except MoorageError as fault:
                self.log.fault(fault)
                continue
            for start in range(0, len(idle), EXPIRED_AT_ONCE):  # they share a commit: one by one would take too long
                await asyncio.gather(*map(self._expire, idle[start : start + EXPIRED_AT_ONCE]))

    async def _expire(self, uid: str) -> None:
        try:
            await self.sessions.delete(uid)
            self.log.info("session_expired", session=uid)
        except NotFoundError:
            self.sessions.opened.end(uid)  # another gateway over this store was first
        except MoorageError as fault:
            self.log.fault(fault, session=uid)
            return
        self.fleet.forget(uid)

    async def _learn_again(self) -> None:
        while True:
            await asyncio.sleep(LEARN_S)
            with contextlib.suppress(MoorageError):  # the next time, then
                await self.sessions.opened.learn()
