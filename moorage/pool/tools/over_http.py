"""A pool behind a gateway. Redirects and proxies are never followed: the key goes where it was meant to go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    NotFoundError,
    PreflightError,
    TryAgainError,
    UsageError,
)
from moorage.pool.arrow import CONTENT_TYPE, need_pyarrow, step_batches, step_schema
from moorage.pool.tools.events import read_events
from moorage.pool.tools.packing import packed

if TYPE_CHECKING:
    import pyarrow
    import requests

    from moorage.pool.contract import Retention

__all__ = ["OverHttp", "gateway_url"]

_TIMEOUT_S = (5.0, 120.0)
"""To connect, and between two bytes."""
_SILENCE_S = 30.0
"""A stream of events that says nothing for so long is broken: a comment comes every ten seconds."""
_PAGE = 1000
_PATIENCE_S = 30.0
"""How long a page is asked for again while the gateway is away: it may be starting."""
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)


class _Page(msgspec.Struct):
    steps: list[msgspec.Raw]
    next_cursor: str | None


class OverHttp:
    """`moorage.pool.tools.source.Source` over the routes of a gateway."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        trusted: str | None = None,
        say: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`trusted`: a file of certificates; None: the usual ones. `say`: what to tell people meanwhile.

        Raises UsageError for what is no gateway's address.
        """
        self.name = gateway_url(url)
        self._trusted: str | bool = trusted or True
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._say = say
        self._pause = pause
        self._open: requests.Session | None = None

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def stats(self, channel: str | None, n_rollouts: int | None) -> dict[str, Any]:
        counted: dict[str, Any] = self._json(
            "GET", "/pool/stats", params={"channel": channel, "n_rollouts": n_rollouts}
        )["channels"]
        return counted

    def lines(self, filters: Mapping[str, Any]) -> Iterator[list[bytes]]:
        cursor = None
        while True:
            page = self._page(self._asked_again(filters, cursor, "application/json"))
            yield [bytes(step) for step in page.steps]
            cursor = page.next_cursor
            if cursor is None:
                return

    def batches(self, filters: Mapping[str, Any]) -> Iterator[list[pyarrow.RecordBatch]]:
        pa = need_pyarrow()
        cursor = None
        while True:
            reply = self._asked_again(filters, cursor, f"{CONTENT_TYPE}, application/json;q=0.5")
            if reply.headers.get("content-type", "").startswith(CONTENT_TYPE):
                some, cursor = self._table(pa, reply.content)
            else:  # a gateway without pyarrow
                page = self._page(reply)
                some, cursor = list(step_batches(packed(bytes(step)) for step in page.steps)), page.next_cursor
            yield some
            if cursor is None:
                return

    def events(self, channel: str | None, after: int | None) -> Iterator[dict[str, Any]]:
        away = False
        turn = 0
        while True:
            try:
                for event in self._stream(channel, after):
                    if away:
                        self._say(f"{self.name} answers again")
                    away, turn = False, 0
                    after = event["id"]
                    if len(event) > 1:
                        yield event
            except TryAgainError as fault:
                if after is None:
                    raise  # nothing was heard yet: whoever asked may have named another address
                if not away:
                    self._say(f"{fault.message}; asking again")
                away = True
            self._pause(_PAUSES_S[min(turn, len(_PAUSES_S) - 1)])
            turn += 1

    def mark(self, uid: str, step_index: int, marks: Mapping[str, Any]) -> dict[str, Any]:
        body = {"trajectory_uid": uid, "step_index": step_index, "marks": dict(marks)}
        now: dict[str, Any] = self._json("POST", "/pool/marks", json=body)["marks"]
        return now

    def retain(self, ask: Retention, *, dry_run: bool) -> dict[str, Any]:
        body = {
            "older_than_s": ask.older_than_s,
            "max_bytes": ask.max_bytes,
            "keep": sorted(ask.keep),
            "dry_run": dry_run,
        }
        # It may take its time; what it has done when nobody waits any more is done.
        return dict(self._json("POST", "/pool/retain", json=body, timeout=(_TIMEOUT_S[0], 3600.0)))

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        reply = self._ask(method, path, **options)
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._no_gateway()
        return body

    def _page(self, reply: requests.Response) -> _Page:
        try:
            return msgspec.json.decode(reply.content, type=_Page)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise self._no_gateway() from fault

    def _table(self, pa: Any, stream: bytes) -> tuple[list[pyarrow.RecordBatch], str | None]:
        """Its batches with our columns alone, and the next cursor."""
        schema = step_schema()
        try:
            with pa.ipc.open_stream(stream) as reader:
                said = reader.schema.metadata or {}
                if any(reader.schema.field(field.name).type != field.type for field in schema):
                    raise TypeError("a column is of another type")
                found = []
                for batch in reader:
                    mine = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
                    mine.validate(full=True)
                    found.append(mine)
        except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as fault:
            raise self._no_gateway() from fault
        cursor = said.get(b"moorage.next_cursor")
        return found, None if cursor is None else cursor.decode()

    def _asked_again(self, filters: Mapping[str, Any], cursor: str | None, accept: str) -> requests.Response:
        """A page of steps. A gateway that goes away in the middle is waited for: its cursors stay good."""
        params = {**filters, "limit": _PAGE, "cursor": cursor}
        until = time.monotonic() + _PATIENCE_S
        turn = 0
        while True:
            try:
                return self._ask("GET", "/pool/steps", params=params, headers={"Accept": accept})
            except TryAgainError as fault:
                if cursor is None or time.monotonic() > until:
                    raise
                if turn == 0:
                    self._say(f"{fault.message}; asking again")
            self._pause(_PAUSES_S[min(turn, len(_PAUSES_S) - 1)])
            turn += 1

    def _stream(self, channel: str | None, after: int | None) -> Iterator[dict[str, Any]]:
        """Events until the stream ends. The first one may be a mere number: where "from now on" begins."""
        import requests

        params = {"channel": channel, "cursor": after}
        try:
            with self._ask(
                "GET", "/pool/events", params=params, stream=True, timeout=(_TIMEOUT_S[0], _SILENCE_S)
            ) as reply:
                yield from read_events(reply.iter_content(None))
        except (requests.RequestException, OSError) as fault:
            raise self._no_connection(fault) from fault
        except ValueError as fault:
            raise self._no_gateway() from fault

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        import requests

        if self._open is None:
            self._open = requests.Session()
            self._open.trust_env = False
            self._open.verify = self._trusted
        headers = {**self._headers, **options.pop("headers", {})}
        timeout = options.pop("timeout", _TIMEOUT_S)
        try:
            reply = self._open.request(
                method, self.name + path, headers=headers, timeout=timeout, allow_redirects=False, **options
            )
            if reply.status_code != 200:
                reply.content  # noqa: B018 - read within the try: it comes over the network
        except (requests.RequestException, OSError) as fault:
            raise self._no_connection(fault) from fault
        if reply.status_code != 200:
            raise self._refused(reply)
        return reply

    def _refused(self, reply: requests.Response) -> MoorageError:
        try:
            problem = reply.json()
        except ValueError:
            problem = {}
        if not isinstance(problem, dict) or "code" not in problem:
            return self._no_gateway()
        code, detail = str(problem["code"]), str(problem.get("detail", ""))
        if reply.status_code in (401, 403):
            hint = "name the variable that holds a key with --key-env (MOORAGE_KEY)"
            return PreflightError(f"{self.name}: {detail}", code=code, hint=hint)
        kinds: dict[int, type[MoorageError]] = {404: NotFoundError, 409: ConflictError, 406: PreflightError}
        if reply.status_code in (400, 405, 422):
            return UsageError(detail, code=code)
        if reply.status_code in (429, 502, 503, 504):
            return TryAgainError(f"{self.name}: {detail}", code=code)
        return kinds.get(reply.status_code, FailedError)(f"{self.name}: {detail}", code=code)

    def _no_connection(self, fault: BaseException) -> MoorageError:
        if "CERTIFICATE_VERIFY_FAILED" in str(fault):
            hint = "name the file of its certificate, or of who signed it, in REQUESTS_CA_BUNDLE"
            message = f"the certificate of {self.name} is not trusted here: {_short(fault)}"
            return PreflightError(message, code="certificate_refused", hint=hint)
        return TryAgainError(
            f"no gateway answers at {self.name}: {_short(fault)}",
            code="no_connection",
            hint="is it running? --url names another address, --db reads the store itself",
        )

    def _no_gateway(self) -> FailedError:
        return FailedError(
            f"{self.name} answers what no gateway's pool answers",
            code="bad_reply",
            hint="another program, or another version, may listen there",
        )


def gateway_url(url: str) -> str:
    """The address without a slash at its end. Raises UsageError for what is no http(s) address."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        good = good and not parts.username and not parts.password and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"--url {url!r}: write http://HOST:PORT", code="bad_value")
    return url.rstrip("/")


def _short(fault: BaseException) -> str:
    """The innermost reason: requests wraps it several times."""
    cause: BaseException = fault
    while True:
        inner = getattr(cause, "reason", None) or cause.__cause__ or cause.__context__
        if not isinstance(inner, BaseException):
            return type(cause).__name__ if not str(cause) else str(cause).rpartition("> ")[2][:200].strip("'<>() ")
        cause = inner
