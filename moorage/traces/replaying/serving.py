"""Running a replay: its index, a socket, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from moorage.errors import ConflictError, FailedError, NotFoundError, PreflightError
from moorage.gateway.http.listener import Listener
from moorage.gateway.log import Log
from moorage.traces.replaying.app import ReplayApp
from moorage.traces.replaying.recordings import Recordings
from moorage.traces.verifying.verify import all_traces, need_trace

if TYPE_CHECKING:
    from moorage.gateway.http.app import App
    from moorage.pool.archive import Archive

__all__ = ["Listening", "replay"]

BODY_LIMIT_BYTES = 64 << 20
DRAIN_S = 5.0

Listening = Callable[[str, Recordings], None]
"""Called with the URL when requests are answered."""

Progress = Callable[[int, int], None]
"""Called with how many calls of how many are known."""


async def replay(
    archive: Archive, uid: str | None, *, host: str, port: int, listening: Listening, progress: Progress
) -> Recordings:
    """Serve the recordings of `uid` (None: of all) until SIGINT or SIGTERM.

    Raises NotFoundError, PreflightError for an address that others can reach, ConflictError for a port in use,
    FailedError when nothing of it can be replayed.
    """
    refuse_open_address(host)
    recordings = Recordings()
    if uid is None:
        _, total = await archive.size()
        async for trace in all_traces(archive):
            with contextlib.suppress(NotFoundError):  # it was let go meanwhile
                await recordings.add(archive, trace)
            progress(recordings.calls, total)
    else:
        await recordings.add(archive, await need_trace(archive, uid))
    if not recordings.calls:
        raise FailedError(
            f"nothing of {uid or 'this store'} can be replayed: no model call in it reached its client",
            code="nothing_to_replay",
            next=["moor trace list"],
        )
    app = ReplayApp(archive, recordings, log=Log(), body_limit_bytes=BODY_LIMIT_BYTES)
    with _bound(host, port) as bound:
        listener = Listener(cast("App", app))
        await listener.start(bound)
        name = f"[{host}]" if ":" in host else host
        listening(f"http://{name}:{bound.getsockname()[1]}", recordings)
        await _told_to_stop()
        await listener.drain(DRAIN_S)
    return recordings


def refuse_open_address(host: str) -> None:
    """Raises PreflightError: what was recorded is for its owner, and a replay has no keys."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise PreflightError(
            f"--host {host} can be reached by others, and a replay has no keys",
            code="keys_required",
            hint="listen on 127.0.0.1; from elsewhere go through ssh -L",
        )


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as fault:
        bound.close()
        raise ConflictError(
            f"port {port} on {host} cannot be used: {getattr(fault, 'strerror', None) or fault}",
            code="port_taken",
            hint="choose another with --port; 0 is any free one",
        ) from None
    return bound


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
