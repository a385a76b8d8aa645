"""Running the gateway: its parts made from settings, a socket, and a shutdown that drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.fleet import Fleet
from moorage.engines.parsing.process import ParserProcess
from moorage.errors import PreflightError
from moorage.gateway.auth.choice import door_of, refuse_keyless
from moorage.gateway.auth.tls import on_hangup, tls_of
from moorage.gateway.file_limit import connections_within, raise_file_limit
from moorage.gateway.gateway import Gateway
from moorage.gateway.http.app import App
from moorage.gateway.http.listener import Listener
from moorage.gateway.ids import cheap_ids, uuid_hex
from moorage.gateway.log import Log
from moorage.gateway.serving.app import ServedApp
from moorage.gateway.serving.choice import serving_of
from moorage.gateway.settings import Settings
from moorage.gateway.tokenizer_choice import find_tokenizer_folder, load_renderer
from moorage.gateway.workers.company import Company
from moorage.gateway.workers.member import Member
from moorage.gateway.workers.peers import Peers
from moorage.gateway.workers.port import bind_alone
from moorage.gateway.workers.shares import share_of_endpoints, share_of_settings
from moorage.pool.opening import open_store
from moorage.rewards.scorer import Scorer

if TYPE_CHECKING:
    from moorage.engines.rendering.plan import Renderer
    from moorage.pool.contract import Store

__all__ = ["serve", "serve_as_worker"]


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
    _check(settings)
    with closing(bind_alone(settings.host, settings.port)) as bound:
        _run(settings, endpoints, bound, parser_python, listening, None)


def serve_as_worker(
    member: Member,
    bound: socket.socket,
    settings: Settings,
    endpoints: Sequence[Endpoint],
    *,
    parser_python: Path | None,
    listening: Callable[[str], None],
) -> None:
    """The same as one of several workers: with its share of the limits, until it is told to stop or its parent dies."""
    _check(settings)
    mine = share_of_settings(settings, member.index, member.count)
    shared = share_of_endpoints(endpoints, member.index, member.count)
    _run(mine, shared, bound, parser_python, listening, member)


def _check(settings: Settings) -> None:
    refuse_keyless(settings)
    if settings.tokenizer_path is not None and not (settings.tokenizer_path / "tokenizer.json").is_file():
        message = f"--tokenizer-path {settings.tokenizer_path} has no tokenizer.json"
        raise PreflightError(message, code="tokenizer_missing", hint="give the folder of the model that is served")


def _run(
    settings: Settings,
    endpoints: Sequence[Endpoint],
    bound: socket.socket,
    parser_python: Path | None,
    listening: Callable[[str], None],
    member: Member | None,
) -> None:
    _collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, endpoints, bound, parser_python, listening, member))


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
    member: Member | None,
) -> None:
    log = Log(access=settings.access_log, worker=member.index if member is not None else None)
    tls = tls_of(settings, log)
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
    if member is not None:
        gateway.company = Company(Peers(member.folder, member.index, member.count, log=log), gateway)
    if settings.serving_url is not None:
        gateway.serving = serving_of(gateway, settings.serving_url)
    gateway.door = door_of(gateway, bound.getsockname()[0], again=member is not None and member.again)
    gateway.scorer = Scorer(settings.rewards, environ=os.environ, tell=log.warning)
    await gateway.start()
    listener = Listener(
        App(gateway) if gateway.serving is None else ServedApp(gateway, gateway.serving.accounts),
        max_connections=connections_within(raise_file_limit(), settings.max_connections),
        client_timeout_s=settings.client_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
    )
    gateway.listener = listener
    try:
        if member is not None:  # a client that one of them told it is ready may meet another one next
            await gateway.loaded()
        await listener.start(bound, tls.context if tls is not None else None)
        listening(_url(bound, "https" if tls is not None else "http"))
        with _told_to_stop(member) as told, on_hangup(tls):
            await told.wait()
            gateway.stopping.set()
            gateway.gate.drain()
            log.info("draining", in_flight=gateway.metrics.in_flight)
        broken_off = await listener.drain(settings.drain_s)
    finally:
        await gateway.close()
    log.info("stopped", broken_off=broken_off)


@contextlib.contextmanager
def _told_to_stop(member: Member | None) -> Iterator[asyncio.Event]:
    """Set by SIGINT or SIGTERM; a second one, which comes when this is left, ends the process at once.

    A worker is told by its parent, and perhaps by whoever signals all processes, so it heeds the first one alone, and
    the parent's death.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, told.set)
    if member is not None:
        loop.add_reader(member.lifeline, told.set)
    try:
        yield told
    finally:
        if member is not None:
            loop.remove_reader(member.lifeline)
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if member is None else signal.SIG_IGN)


def _url(bound: socket.socket, scheme: str) -> str:
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tokenizer(
    settings: Settings, endpoints: Sequence[Endpoint], parser_python: Path | None
) -> tuple[Renderer, ParserProcess] | None:
    folder = find_tokenizer_folder(settings.tokenizer_path, endpoints, os.environ)
    renderer = None if folder is None else load_renderer(folder, named=settings.tokenizer_path is not None)
    if folder is None or renderer is None:
        return None
    return renderer, ParserProcess(parser_python, folder)


def _store(settings: Settings) -> Store:
    return open_store(settings.db, read_only=False, max_attempts=settings.pool_max_attempts)
