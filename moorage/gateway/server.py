"""Running the gateway: its parts made from settings, a socket, and a shutdown that drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.parsing.process import ParserProcess
from moorage.errors import ConflictError, PreflightError, UsageError
from moorage.gateway.gateway import Gateway
from moorage.gateway.http.app import App
from moorage.gateway.http.listener import Listener
from moorage.gateway.ids import cheap_ids, uuid_hex
from moorage.gateway.log import Log
from moorage.gateway.settings import Settings
from moorage.gateway.tokenizer_choice import find_tokenizer_folder, load_renderer
from moorage.pool.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from moorage.engines.rendering.plan import Renderer
    from moorage.pool.contract import Store

__all__ = ["serve"]

DRAIN_S = 30
"""Requests in flight have this long to end when the gateway is told to stop; the streams of events end at once."""


def serve(
    settings: Settings,
    endpoints: Sequence[Endpoint],
    *,
    parser_python: Path | None,
    listening: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. `listening(url)` is called when requests are answered.

    Raises PreflightError for an address that needs keys, ConflictError for a port in use, and the store's faults.
    """
    refuse_open_address(settings.host)
    if settings.tokenizer_path is not None and not (settings.tokenizer_path / "tokenizer.json").is_file():
        message = f"--tokenizer-path {settings.tokenizer_path} has no tokenizer.json"
        raise PreflightError(message, code="tokenizer_missing", hint="give the folder of the model that is served")
    _collect_seldom()
    with _bound(settings) as bound, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, endpoints, bound, parser_python, listening))


def refuse_open_address(host: str) -> None:
    """Raises PreflightError for an address that others can reach: there are no keys yet."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise PreflightError(
            f"--host {host} can be reached by others, and this gateway has no keys",
            code="keys_required",
            hint="listen on 127.0.0.1 and let a proxy that authenticates stand before it",
            next=["moor gateway --host 127.0.0.1"],
        )


def _collect_seldom() -> None:
    """Look for reference cycles less often: a reply's parts die by their counts, and sessions live long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _serve(
    settings: Settings,
    endpoints: Sequence[Endpoint],
    bound: socket.socket,
    parser_python: Path | None,
    listening: Callable[[str], None],
) -> None:
    log = Log(access=settings.access_log)
    gateway = Gateway(
        settings,
        fleet=Fleet(endpoints, clock=time.monotonic, silence_s=settings.upstream_timeout_s),
        store=_store(settings),
        load_tokenizer=lambda: _tokenizer(settings, endpoints, parser_python),
        clock=time.time,
        new_id=cheap_ids(),
        new_uid=uuid_hex,
        log=log,
    )
    await gateway.start()
    listener = Listener(App(gateway))
    try:
        await listener.start(bound)
        listening(_url(bound))
        with _told_to_stop() as told:
            await told.wait()
            gateway.stopping.set()
            log.info("draining", in_flight=gateway.metrics.in_flight)
        broken_off = await listener.drain(DRAIN_S)
    finally:
        await gateway.close()
    log.info("stopped", broken_off=broken_off)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Set by SIGINT or SIGTERM; a second one, which comes when this is left, ends the process at once."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, told.set)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((settings.host, settings.port))
        except OSError as fault:
            raise ConflictError(
                f"port {settings.port} on {settings.host} cannot be used: {fault.strerror}",
                code="port_taken",
                hint="another gateway may have it: choose another with --port",
                next=[f"moor gateway --port {settings.port + 1}"],
            ) from None
        bound.set_inheritable(True)
        yield bound
    finally:
        bound.close()


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tokenizer(
    settings: Settings, endpoints: Sequence[Endpoint], parser_python: Path | None
) -> tuple[Renderer, ParserProcess] | None:
    folder = find_tokenizer_folder(settings.tokenizer_path, endpoints, os.environ)
    renderer = None if folder is None else load_renderer(folder, named=settings.tokenizer_path is not None)
    if folder is None or renderer is None:
        return None
    return renderer, ParserProcess(parser_python, folder)


def _store(settings: Settings) -> Store:
    scheme, _, place = settings.db.partition(":///")
    if scheme != "sqlite" or not place:
        raise UsageError(f"--db {settings.db!r}: write sqlite:///FILE", code="bad_value")
    return SqliteStore(Path(place), max_attempts=settings.pool_max_attempts)
