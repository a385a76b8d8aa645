"""The replay's HTTP surface: OpenAI's model routes, everywhere that the recorded ones were."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

from moorage.capture.retry import retry_evidence
from moorage.gateway.http.faults import ClientGone, Fault, reply_of
from moorage.gateway.http.reply import Reply, Stream, json_reply
from moorage.gateway.http.request import Request
from moorage.traces.replaying.answers import answer
from moorage.traces.replaying.asked import read_asked
from moorage.traces.replaying.nearest import not_recorded

if TYPE_CHECKING:
    from moorage.gateway.http.connection import Connection
    from moorage.gateway.log import Log
    from moorage.pool.archive import Archive
    from moorage.traces.replaying.recordings import Recordings

__all__ = ["ReplayApp"]

CHAT, COMPLETIONS, MODELS = "chat/completions", "completions", "models"
METHODS = {CHAT: "POST", COMPLETIONS: "POST", MODELS: "GET"}


class _Where(NamedTuple):
    """A model route, and whose."""

    route: str
    uid: str | None
    prompt_uid: str | None


class ReplayApp:
    """What connections hand their requests to, as `moorage.gateway.http.app.App` is."""

    def __init__(self, archive: Archive, recordings: Recordings, *, log: Log, body_limit_bytes: int) -> None:
        self.body_limit_bytes = body_limit_bytes
        self._archive, self._recordings, self._log = archive, recordings, log
        self._numbers = itertools.count(1)

    async def answer(self, request: Request, connection: Connection) -> None:
        """Answer one request. Raises nothing."""
        request.id = f"replay-{next(self._numbers)}"
        began = time.perf_counter()
        status = 499
        try:
            if request.fault is not None:
                raise request.fault
            outcome = await self._outcome(request)
            if isinstance(outcome, Reply):
                connection.send(request, outcome)
            else:
                await _stream(request, outcome, connection)
            status = outcome.status
        except ClientGone:
            pass
        except Exception as fault:
            reply = reply_of(fault, "openai")
            status = reply.status
            if not isinstance(fault, Fault):
                self._log.fault(fault, path=request.path)
            if not connection.streaming(request):
                connection.send(request, reply)
        finally:
            self._log.access(request, status, began)
            connection.answered(request)

    async def _outcome(self, request: Request) -> Reply | Stream:
        if request.path == "/health":
            replayed = {"recordings": self._recordings.calls, "trajectories": len(self._recordings.uids)}
            return json_reply({"status": "ok", **replayed})
        where = _where(request.path)
        if request.method not in (METHODS[where.route], "HEAD" if where.route == MODELS else ""):
            allowed = METHODS[where.route]
            raise Fault(405, f"{request.method} {request.path}: it takes {allowed}", code="method_not_allowed")
        self._check_uid(where)
        if where.route == MODELS:
            models = [{"id": name, "object": "model", "owned_by": "moorage"} for name in self._recordings.models]
            return json_reply({"object": "list", "data": models})
        asked = read_asked(request, chat=where.route == CHAT)
        evidence = retry_evidence(None, request.header(b"x-stainless-retry-count"))
        sample = self._recordings.take(asked, where.uid, again=evidence.counted)
        if sample is None:
            raise await not_recorded(self._archive, self._recordings, asked, where.uid)
        return await answer(self._archive, asked, sample)

    def _check_uid(self, where: _Where) -> None:
        """Raises a Fault for a trajectory that is not replayed here, or another prompt_uid than it has."""
        if where.uid is None:
            return
        try:
            prompt_uid = self._recordings.prompt_uid(where.uid)
        except KeyError:
            raise Fault(404, f"{where.uid} is not replayed here", code="trace_unknown") from None
        if where.prompt_uid is not None and prompt_uid not in (None, where.prompt_uid):
            message = f"the trajectory {where.uid} belongs to prompt_uid {prompt_uid!r}, not {where.prompt_uid!r}"
            raise Fault(409, message, code="prompt_uid_conflict")


def _where(path: str) -> _Where:
    """`/v1/…`, `/{uuid}/v1/…`, and `/{trajectory}/{prompt}/…` with or without v1. Raises a Fault of 404."""
    parts = path.split("/")[1:]
    at = next((place for place in range(min(3, len(parts))) if parts[place] == "v1"), None)
    before, rest = (parts[:2], parts[2:]) if at is None else (parts[:at], parts[at + 1 :])
    route = "/".join(rest)
    if route in METHODS:
        return _Where(route, *[*before, None, None][:2])
    raise Fault(404, f"no route {path}: a replay has the model routes alone", code="route_unknown")


async def _stream(request: Request, stream: Stream, connection: Connection) -> None:
    async def pump() -> None:
        async for frame in stream.frames:
            await connection.send_frame(request, frame)

    head = Reply(stream.status, b"", stream.content_type, ((b"cache-control", b"no-cache"), *stream.headers))
    connection.begin_stream(request, head)
    try:
        await request.while_connected(pump())
        connection.end_stream(request)
    except BaseException:
        connection.break_off(request)
        raise
    finally:
        await stream.close()
