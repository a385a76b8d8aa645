"""Following the serving API: one long poll after the other, for as long as the gateway runs.

What was heard last counts until something else is heard, however long the API is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from moorage.engines.wire.origin import Origin
from moorage.engines.wire.upstream import Upstream
from moorage.errors import MoorageError, PreflightError
from moorage.gateway.serving.feed import Feed, read_feed

if TYPE_CHECKING:
    from moorage.gateway.log import Log

__all__ = ["Follower", "token_of"]

TARGET = "/api/v2/serve/endpoints"
WAIT_S = 10
"""How long the API holds a poll that has nothing new to say."""
SILENCE_S = 15.0
"""Without a byte for so long it is taken for gone; more than it may hold a poll."""
PAUSES_S = (0.1, 0.2, 0.5, 1.0)
"""After a poll that failed, and after one more, and so on."""
SOON_S = 0.5
"""A poll that says nothing new and was not held is followed by the next one so much later."""


class Heard:
    """How the following goes."""

    def __init__(self) -> None:
        self.following = False
        """Whether the last poll was answered as it should be."""
        self.at: float | None = None
        """When one was last, of the clock; None: never."""
        self.fault: str | None = None
        """What was wrong with the last poll; None: nothing."""
        self.polls = {"new": 0, "same": 0, "failed": 0}


class Follower:
    """One task. `take` is called with every feed that is another one, in order."""

    def __init__(
        self,
        url: str,
        token: str | None,
        take: Callable[[Feed], None],
        *,
        clock: Callable[[], float],
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`url`: of the serving API; `token`: that it wants, or None. `clock`: seconds that never go back."""
        headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode("ascii"))]
        self._upstream = Upstream(Origin.parse(url), headers=headers)
        self._take, self._clock, self._log, self._sleep = take, clock, log, sleep
        self.heard = Heard()
        self._version: int | None = None
        self._new = False
        """Whether the last poll said something new."""
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, within_s: float) -> None:
        """Begin; return when the first poll is over, or the time is."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            async with asyncio.timeout(within_s):
                await self._first.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._upstream.close()

    async def _run(self) -> None:
        failed = 0
        while True:
            began = self._clock()
            try:
                fault = await self._poll()
            except MoorageError as error:
                fault = error.message
            except Exception as error:  # of a feed that nobody foresaw: what is known stays, and the next may be better
                self._log.fault(error)
                fault = "the feed could not be taken; the log says more"
            self._note(fault)
            self._first.set()
            failed = 0 if fault is None else failed + 1
            if failed:
                await self._sleep(PAUSES_S[min(failed, len(PAUSES_S)) - 1])
            elif not self._new and self._clock() - began < SOON_S:
                await self._sleep(SOON_S)

    async def _poll(self) -> str | None:
        """What was wrong with it; None: nothing. Raises MoorageError."""
        self._new = False
        query = "" if self._version is None else f"?version={self._version}&wait_s={WAIT_S}"
        answer = await self._upstream.ask("GET", TARGET + query, silence_s=SILENCE_S)
        if answer.status == 304:
            return None
        if answer.status != 200:
            return f"{TARGET} answers {answer.status}{HINTS.get(answer.status, '')}"
        try:
            feed = read_feed(answer.body)
        except ValueError as fault:
            return f"{TARGET} says what is no feed: {fault}"
        self._new = feed.version != self._version
        if self._new:
            self._take(feed)
            self._version = feed.version
        return None

    def _note(self, fault: str | None) -> None:
        heard = self.heard
        heard.polls["failed" if fault is not None else "new" if self._new else "same"] += 1
        if fault is not None and fault != heard.fault:
            self._log.warning("serving_not_followed", serving=self._upstream.origin.url, why=fault)
        elif fault is None and not heard.following:
            self._log.info("serving_followed", serving=self._upstream.origin.url, version=self._version)
        heard.following, heard.fault = fault is None, fault
        if fault is None:
            heard.at = self._clock()


HINTS: Mapping[int, str] = {
    401: ": name the variable that holds its token with --serving-token-env",
    403: ": the token of --serving-token-env is not an administrator's",
    404: ": is it the address of moor serve api?",
}


def token_of(variable: str | None, environ: Mapping[str, str]) -> str | None:
    """The token in that variable; None: none is sent. Raises PreflightError when it is not there."""
    if variable is None:
        return None
    token = environ.get(variable, "").strip()
    if not token:
        raise PreflightError(
            f"--serving-token-env {variable}: the variable is not set",
            code="serving_token_missing",
            hint=f"export {variable}",
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise PreflightError(
            f"--serving-token-env {variable}: its value cannot stand in a header", code="serving_token_unusable"
        )
    return token
