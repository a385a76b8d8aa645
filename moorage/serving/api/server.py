"""Running the API: its parts made from settings, a socket, the reconciler beside it, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from moorage.errors import ConflictError, PreflightError, UsageError
from moorage.launch.plane import Plane
from moorage.serving.api.app import create_app
from moorage.serving.api.changes import Changes
from moorage.serving.api.declaring import Declaring
from moorage.serving.api.door import Door
from moorage.serving.api.endpoints import Endpoints
from moorage.serving.api.parts import Parts
from moorage.serving.api.protocol import LONGEST_HEAD_BYTES, HttpProtocol
from moorage.serving.api.readers import Readers
from moorage.serving.api.recent import Recent
from moorage.serving.api.shared_backend import SharedBackend
from moorage.serving.backend_choice import BY_COMMAND_LINE, open_backend
from moorage.serving.backends.contract import Backend
from moorage.serving.log import Log
from moorage.serving.secrets import secrets_of
from moorage.serving.settings import Settings
from moorage.serving.spec.kwargs import KwargTable, command_line_faults, platform_kwarg_faults
from moorage.serving.spec.rules import Limits, SpecRules
from moorage.serving.store.contract import Store
from moorage.serving.store.opening import open_store

__all__ = ["Worker", "make_parts", "serve"]

DRAIN_S = 10
KEEP_ALIVE_S = 75
BACKLOG = 2048


class Worker(Protocol):
    """The reconciler, as far as the API knows it."""

    def start(self) -> None: ...

    def wake(self) -> None: ...

    def stop(self) -> None: ...


def serve(
    settings: Settings,
    *,
    admin_token: str,
    gateway_token: str | None,
    kwargs: KwargTable,
    environ: Mapping[str, str],
    hidden: Collection[str] = (),
    listening: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. `listening(url)` is called when requests are answered.

    `hidden`: names of variables of `environ` that nothing which is started may inherit: those of the tokens. Raises
    UsageError for defaults that the engine does not know, PreflightError for a root that is not there, ConflictError
    for a port in use, and the faults of the store and the backend.
    """
    if not settings.root.is_dir():
        raise PreflightError(
            f"--root {settings.root} is no folder",
            code="root_missing",
            hint="it has the folders hf, datasets and users",
        )
    _check_defaults(settings, kwargs)
    log = Log()
    with ExitStack() as stack:
        bound = stack.enter_context(closing(_bind(settings.host, settings.port)))
        store = stack.enter_context(closing(open_store(settings.db, environ=environ)))
        backend = SharedBackend(
            stack.enter_context(closing(open_backend(settings, clock, environ, hidden=hidden))),
            clock,
            secrets=secrets_of(settings, environ, hidden, Plane(environ).catalog.secret_names),
        )
        worker = _reconciler(store, backend, settings, clock, log)
        parts = make_parts(
            settings,
            store=store,
            backend=backend,
            door=Door(admin_token, gateway_token, store.whose),
            rules=_rules(settings, kwargs, backend),
            clock=clock,
            log=log,
            woken=worker.wake,
        )
        stack.callback(parts.watch_readers.close)
        stack.callback(parts.feed_readers.close)
        parts.changes.start()
        stack.callback(parts.changes.close)
        worker.start()
        stack.callback(worker.stop)
        _run(create_app(parts), bound, parts.changes, log, lambda: listening(_url(settings.host, bound)))


def make_parts(
    settings: Settings,
    *,
    store: Store,
    backend: SharedBackend,
    door: Door,
    rules: SpecRules,
    clock: Callable[[], float],
    log: Log,
    woken: Callable[[], None],
) -> Parts:
    """What `create_app` stands on. `woken` is called after every accepted change; `changes` is not started."""
    changes = Changes(store.version, log)

    def wake() -> None:
        woken()
        changes.wake()

    def now() -> datetime:
        return datetime.fromtimestamp(clock(), UTC)

    return Parts(
        settings=settings,
        store=store,
        backend=backend,
        door=door,
        declaring=Declaring(store, rules, settings.config.quotas, now, wake),
        endpoints=Endpoints(store, settings, clock),
        changes=changes,
        recent=Recent(store, changes, lambda secret: door.known(secret) is not None),
        watch_readers=Readers("watch"),
        feed_readers=Readers("feed"),
        clock=clock,
        log=log,
    )


def _check_defaults(settings: Settings, kwargs: KwargTable) -> None:
    defaults = settings.config.llm.engine_kwargs
    faults = [*platform_kwarg_faults(defaults, kwargs)]
    if settings.backend in BY_COMMAND_LINE:
        faults += command_line_faults(defaults, kwargs)
    for fault in faults:
        raise UsageError(f"serving.llm.engine_kwargs: {fault.detail}", code="bad_config", hint=fault.hint)


def _rules(settings: Settings, kwargs: KwargTable, backend: Backend) -> SpecRules:
    limits = settings.config.limits
    return SpecRules(
        root=settings.root,
        engine_kwargs=kwargs,
        limits=Limits(replicas=limits.replicas, gpus_per_replica=limits.gpus_per_replica),
        has_lora=backend.has_lora,
        has_autoscaling=backend.has_autoscaling,
        by_command_line=settings.backend in BY_COMMAND_LINE,
    )


def _reconciler(store: Store, backend: Backend, settings: Settings, clock: Callable[[], float], log: Log) -> Worker:
    from moorage.serving.plan.policy import Policy
    from moorage.serving.reconciling.reconciler import Reconciler

    config = settings.config
    policy = Policy(deadline_s=config.deadline_s, attempts=config.attempts, drain_s=config.drain_s)
    worker: Worker = Reconciler(store, backend, policy, clock, log=log, keep_deleted_s=config.keep_deleted_s)
    return worker


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as fault:
        bound.close()
        raise ConflictError(
            f"port {port} on {host} cannot be used: {fault.strerror}",
            code="port_taken",
            hint=f"the same command with --port {port + 1}, or with --port 0 for any free one",
        ) from None
    return bound


def _url(host: str, bound: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


def _run(app: FastAPI, bound: socket.socket, changes: Changes, log: Log, listening: Callable[[], None]) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    told = logging.getLogger("uvicorn")
    told.handlers, told.propagate = [_ToLog(log)], False
    told.setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        h11_max_incomplete_event_size=LONGEST_HEAD_BYTES,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, listening, changes.close)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[bound]))


class _Server(uvicorn.Server):
    """uvicorn's, told when it listens and before it waits for streams to end. A signal ends it and nothing else."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._ending)
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _ToLog(logging.Handler):
    """What uvicorn says, in the API's own log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and record.exc_info[1] is not None:
            self._log.fault(record.exc_info[1], while_=record.getMessage().strip())
            return
        self._log.warning("http", message=record.getMessage())
