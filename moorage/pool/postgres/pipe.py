"""One connection to the server: statements are sent on without waiting, and waited for where their rows are wanted.

This is libpq's pipeline mode through psycopg's own wrapper: of what there is for Python it takes the least time for a
row, and the operations of a commit go out together. A connection that has failed once is thrown away.
"""

from __future__ import annotations

import select
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import OperationalError, pq
from psycopg.adapt import Transformer

__all__ = ["Answer", "Lost", "Pipe", "Refused"]

_ERROR = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.PIPELINE_ABORTED)
_BINARY = 1
_PLANS = 400
_PLAN_VALUES = 80
"""Statements of more values have any number of them: each would be remembered for itself."""


def _text(value: str) -> bytes:
    """The server's text has no NUL."""
    return value.replace("\0", "\ufffd").encode()


_PACKERS: dict[type, tuple[int, Callable[[Any], bytes | None]]] = {
    int: (20, struct.Struct(">q").pack),
    bool: (20, struct.Struct(">q").pack),
    float: (701, struct.Struct(">d").pack),
    str: (25, _text),
    bytes: (17, bytes),
    type(None): (0, lambda _none: None),
}
"""Python's type → the server's type, and its bytes on the wire."""


class Lost(Exception):
    """The connection is over, or the server is silent."""


class Refused(Exception):
    """The server answered with an error: nothing of the transaction is kept."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Answer:
    """What a statement gives, when it has been run: `moorage.pool.sql.connection.Rows`."""

    __slots__ = ("_pipe", "_place", "_result", "_rows", "done")

    def __init__(self, pipe: Pipe) -> None:
        self.done = False
        self._pipe = pipe
        self._result: pq.abc.PGresult | None = None
        self._rows: list[Any] | None = None
        self._place = 0

    def take(self, result: pq.abc.PGresult) -> None:
        self._result = result

    @property
    def rowcount(self) -> int:
        self._pipe.wait(self)
        return (self._result and self._result.command_tuples) or 0

    def fetchone(self) -> Any:
        rows = self._all()
        if self._place >= len(rows):
            return None
        self._place += 1
        return rows[self._place - 1]

    def fetchall(self) -> list[Any]:
        rows = self._all()
        place, self._place = self._place, len(rows)
        return rows[place:] if place else rows

    def _all(self) -> list[Any]:
        if self._rows is None:
            self._pipe.wait(self)
            self._rows = [] if self._result is None else self._pipe.load(self._result)
        return self._rows


class Pipe:
    """`moorage.pool.sql.connection.Connection`; for one thread at a time."""

    def __init__(self, connection: pq.abc.PGconn, patience_s: float) -> None:
        """`patience_s`: a server that has not answered for so long is given up."""
        self.session: tuple[int, str] | None = None
        """The server's process behind it and since when, as the server names them."""
        self.patience_s = patience_s
        self._connection = connection
        self._plans: dict[tuple[str, tuple[type, ...]], bytes] = {}
        self._waiting: deque[Answer] = deque()
        self._failed: Lost | Refused | None = None
        self._transformer = Transformer()
        self._poll = select.poll()
        self._poll.register(connection.socket, select.POLLIN)
        connection.nonblocking = 1
        connection.enter_pipeline_mode()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Answer:
        """Send it on. Raises Lost, Refused (of an earlier one)."""
        if self._failed is not None:
            raise self._failed
        types = tuple([type(value) for value in values])
        packed = [_PACKERS[kind][1](value) for kind, value in zip(types, values, strict=True)]
        formats = [_BINARY] * len(packed)
        answer = Answer(self)
        try:
            plan = self._plans.get((statement, types)) or self._prepare(statement, types)
            if plan is None:
                oids = [_PACKERS[kind][0] for kind in types]
                self._connection.send_query_params(_numbered(statement), packed, oids, formats, _BINARY)
            else:
                self._connection.send_query_prepared(plan, packed, formats, _BINARY)
        except OperationalError as fault:
            raise self._fail(Lost(_line(fault))) from fault
        self._waiting.append(answer)
        return answer

    def wait(self, answer: Answer) -> None:
        """Until it was run. Raises Lost, Refused."""
        if answer.done and self._failed is None:
            return
        if self._failed is not None:
            raise self._failed
        try:
            self._connection.send_flush_request()
            self._exchange(answer)
        except OperationalError as fault:
            self._drain()
            raise self._failed or self._fail(Lost(_line(fault))) from fault

    def push(self) -> Answer:
        """Send on what is waiting, and end what is no transaction of its own. Waited for or not, as one likes."""
        answer = Answer(self)
        try:
            self._connection.pipeline_sync()
            self._waiting.append(answer)
            self._connection.flush()
        except OperationalError as fault:
            self._fail(Lost(_line(fault)))
        return answer

    def finish(self) -> None:
        """Wait for all that was sent. Raises Lost, Refused."""
        self.wait(self.push())

    def load(self, result: pq.abc.PGresult) -> list[Any]:
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    @property
    def failed(self) -> bool:
        return self._failed is not None

    def close(self) -> None:
        self._fail(Lost("the connection was closed"))
        self._connection.finish()

    def _prepare(self, statement: str, types: tuple[type, ...]) -> bytes | None:
        if len(types) > _PLAN_VALUES or len(self._plans) >= _PLANS:
            return None
        name = b"m%d" % len(self._plans)
        self._connection.send_prepare(name, _numbered(statement), [_PACKERS[kind][0] for kind in types])
        self._waiting.append(Answer(self))
        self._plans[statement, types] = name
        return name

    def _exchange(self, until: Answer) -> None:
        """Send and receive until that answer is there."""
        connection = self._connection
        deadline = 0.0
        unsent = connection.flush()
        while True:
            self._receive()
            if self._failed is not None:
                raise self._failed
            if until.done:
                return
            now = time.monotonic()
            deadline = deadline or now + self.patience_s
            self._poll.modify(connection.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            if now >= deadline or not self._poll.poll((deadline - now) * 1000):
                raise self._fail(Lost(f"no answer for {self.patience_s:g} s"))
            connection.consume_input()
            if unsent:
                unsent = connection.flush()

    def _receive(self) -> None:
        """Take what has come."""
        while self._waiting and not self._connection.is_busy():
            result = self._connection.get_result()
            if result is None or result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._waiting.popleft().done = True
                continue
            if result.status in _ERROR:
                self._fail(_refusal(result))
            self._waiting[0].take(result)

    def _drain(self) -> None:
        """The connection broke: the server may have said why."""
        for _ in range(len(self._waiting)):
            try:
                result = self._connection.get_result()
            except OperationalError:
                return
            if result is not None and result.status in _ERROR:
                self._fail(_refusal(result))
                return

    def _fail(self, fault: Lost | Refused) -> Lost | Refused:
        """The first one counts."""
        self._failed = self._failed or fault
        return self._failed


def _numbered(statement: str) -> bytes:
    """`?` as the server has it: `$1`, `$2` …"""
    first, *rest = statement.split("?")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))).encode()


def _refusal(result: pq.abc.PGresult) -> Lost | Refused:
    """An error ends the transaction; one that ends the connection leaves open what became of a commit."""

    def field(name: pq.DiagnosticField) -> str:
        return (result.error_field(name) or b"").decode(errors="replace")

    message = field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message().strip()
    sqlstate = field(pq.DiagnosticField.SQLSTATE)
    ended = field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) in ("FATAL", "PANIC") or not sqlstate
    return Lost(message) if ended else Refused(sqlstate, message)


def _line(fault: Exception) -> str:
    """libpq's message in one line."""
    return " ".join(str(fault).split()) or "the connection is lost"
