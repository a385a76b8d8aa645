"""The attempts of one request: shared by both transports, which only send and wait."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import httpx

from moorage.client.http.again import Trouble, may_pass, pause_before, retry_after_of
from moorage.client.http.ask import Ask, Reply
from moorage.client.http.faults import fault_of, no_connection, silent, undecodable
from moorage.errors import MoorageError

if TYPE_CHECKING:
    from moorage.client.http.terms import Terms

__all__ = ["Attempts", "options_of", "readable"]

T = TypeVar("T")


class Attempts(Generic[T]):
    """Of `ask`. After each attempt one of the methods says how long to wait, or raises what the caller gets."""

    __slots__ = ("_ask", "_chance", "_terms", "made", "waited_s")

    def __init__(self, ask: Ask[T], terms: Terms, chance: Callable[[], float] = random.random) -> None:
        self._ask, self._terms, self._chance = ask, terms, chance
        self.made = 0
        self.waited_s = 0.0

    def pause_after(self, reply: httpx.Response) -> float | None:
        """Seconds before the next attempt; None: `value` can be had. Raises the reply's fault."""
        if 200 <= reply.status_code < 300:
            return None
        fault = self._fault(reply)
        if self.made > 1 and fault.code in self._ask.done_when_repeated:
            return None
        retry_after_s = retry_after_of(reply.headers.get("retry-after"))
        if not may_pass(reply.status_code, fault.code, retry_after_s):
            raise fault
        return self._pause("passing", fault, retry_after_s)

    def value(self, reply: httpx.Response) -> T:
        """What the reply says, read."""
        if not 200 <= reply.status_code < 300:
            return self._ask.done_when_repeated[self._fault(reply).code]
        return self._ask.read(Reply(reply.status_code, reply.headers, reply.content))

    def pause_after_fault(self, fault: httpx.TransportError | OSError) -> float:
        """Seconds before the next attempt. Raises TryAgainError."""
        if isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return self._pause("unconnected", self._unanswered(fault), None)
        told: MoorageError = self._unanswered(fault)
        if isinstance(fault, httpx.TimeoutException):
            told = silent(self._terms.url, self._ask.timeout_s or self._terms.timeout_s)
            raise told from None
        return self._pause("broken", told, None)

    def _fault(self, reply: httpx.Response) -> MoorageError:
        terms, retry_after_s = self._terms, retry_after_of(reply.headers.get("retry-after"))
        return fault_of(
            reply.status_code, reply.content, terms.url, key_hint=terms.key_hint, retry_after_s=retry_after_s
        )

    def _unanswered(self, fault: BaseException) -> MoorageError:
        return no_connection(self._terms.url, fault, server=self._terms.server)

    def _pause(self, trouble: Trouble, fault: MoorageError, retry_after_s: float | None) -> float:
        pause = pause_before(
            trouble,
            repeatable=self._ask.repeatable,
            attempts=self.made,
            waited_s=self.waited_s,
            patience_s=0.0 if self._ask.once else self._terms.patience_s,
            retry_after_s=retry_after_s,
            chance=self._chance(),
        )
        if pause is None:
            _raise(fault)
        self.waited_s += pause
        return pause


@contextmanager
def readable(terms: Terms) -> Iterator[None]:
    """Raises FailedError `bad_reply` for what cannot be decoded within it, which is no fault of a connection."""
    try:
        yield
    except httpx.DecodingError as fault:
        raise undecodable(terms.url, fault) from None


def options_of(ask: Ask[Any], terms: Terms) -> dict[str, Any]:
    """What the transport's `request` is given."""
    headers = {"accept": "application/json", **(ask.headers or {})}
    if ask.content is not None:
        headers.setdefault("content-type", "application/json")
    return {
        "method": ask.method,
        "url": ask.path,
        "params": ask.params,
        "content": ask.content,
        "headers": headers,
        "timeout": httpx.Timeout(ask.timeout_s or terms.timeout_s, connect=min(terms.timeout_s, 10.0)),
    }


def _raise(fault: MoorageError) -> NoReturn:
    raise fault from None
