"""Requests that block."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from moorage.client.http.ask import Ask
from moorage.client.http.attempts import Attempts, options_of, readable
from moorage.client.http.terms import Terms

__all__ = ["Blocking"]

T = TypeVar("T")


class Blocking:
    """Connections to one gateway; for any number of threads. Proxies and redirects are never followed: the key goes
    where it was meant to go."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        limits = httpx.Limits(max_connections=terms.max_connections, max_keepalive_connections=100)
        self._http = httpx.Client(base_url=terms.url, headers=terms.headers, limits=limits, trust_env=False)

    def send(self, ask: Ask[T]) -> T:
        """The reply, read. Raises errors of `moorage.errors` with the gateway's code."""
        attempts = Attempts(ask, self.terms)
        while True:
            attempts.made += 1
            try:
                with readable(self.terms):
                    reply = self._http.request(**options_of(ask, self.terms))
            except (httpx.TransportError, OSError) as fault:
                time.sleep(attempts.pause_after_fault(fault))
                continue
            pause = attempts.pause_after(reply)
            if pause is None:
                return attempts.value(reply)
            time.sleep(pause)

    @contextmanager
    def stream(self, ask: Ask[Any]) -> Iterator[httpx.Response]:
        """A reply as it comes, whatever its status; asked once. Raises httpx.TransportError."""
        with readable(self.terms), self._http.stream(**options_of(ask, self.terms)) as reply:
            yield reply

    def close(self) -> None:
        """Close every connection."""
        self._http.close()
