"""A gateway's part in a serving control plane: which models there are, where, for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from moorage.engines.fleet.endpoint import DEFAULT_MODELS
from moorage.errors import MoorageError
from moorage.gateway.serving.directory import Directory
from moorage.gateway.serving.follower import Follower
from moorage.gateway.serving.refusals import nothing_heard

if TYPE_CHECKING:
    from moorage.engines.fleet.fleet import Fleet
    from moorage.engines.fleet.following import Followed
    from moorage.gateway.log import Log
    from moorage.gateway.serving.accounts import Accounts
    from moorage.gateway.serving.feed import Feed

__all__ = ["Serving"]

FIRST_WITHIN_S = 5.0
"""The gateway listens after that, whether or not the API was reached."""


class Serving:
    """Keeps the fleet as the feed says. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        fleet: Fleet,
        accounts: Accounts,
        clock: Callable[[], float],
        log: Log,
        share: Callable[[list[Followed]], list[Followed]] = lambda followed: followed,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`share`: this worker's part of what the endpoints take at once. `environ`: has the endpoints' keys; what is
        not in it is sent nowhere."""
        self.url = url
        self.accounts = accounts
        self.feed: Feed | None = None
        """What was heard last; None: nothing yet."""
        self.directory = Directory(None)
        self.on_feed: list[Callable[[Feed], None]] = []
        """Who else wants to know of every feed, before requests are routed by it."""
        self._fleet, self._clock, self._log, self._share = fleet, clock, log, share
        self._environ = environ or {}
        self._wrong: list[str] = []
        self.follower = Follower(url, token, self.take, clock=clock, log=log)
        fleet.follow((), self.why)

    async def start(self) -> None:
        """Hear of the models there are, or that nobody answers; then go on following."""
        self.accounts.start()
        await self.follower.start(FIRST_WITHIN_S)

    async def close(self) -> None:
        """Follow no more."""
        await self.follower.close()

    def take(self, feed: Feed) -> None:
        """From now on it is as this feed says."""
        same = self.feed is not None and self.feed.models == feed.models
        directory = self.directory if same else Directory(feed, self.directory, environ=self._environ)
        for hear in self.on_feed:
            hear(feed)
        if same:
            self.feed = feed
            return  # users, limits, or what is none of a gateway's business
        self.directory = directory
        self._fleet.follow(self._share(directory.followed()), self.why, directory.default)
        self.feed = feed
        if directory.wrong != self._wrong:
            self._wrong = directory.wrong
            for why in directory.wrong:
                self._log.warning("endpoint_wrong", why=why)

    def why(self, name: str | None) -> MoorageError | None:
        """Why a request for that model cannot be served; None: it can, as far as is known."""
        return self.directory.why(name)

    def meant(self, name: str | None) -> str:
        """The name that a new session keeps: the one given, else the default's alias. Raises what `why` says."""
        if name in DEFAULT_MODELS:
            name = None
        fault = self.directory.why(name)
        if fault is not None:
            raise fault
        return name or self.directory.default_alias

    def refuse_unheard(self) -> None:
        """Raises MoorageError as long as nothing is known."""
        if self.directory.feed is None:
            raise nothing_heard()

    def status(self, of_endpoints: str) -> str:
        """The gateway's: nothing is served before anything was heard, and what is known may be old after that."""
        if self.directory.feed is None:
            return "unavailable"
        return "degraded" if of_endpoints == "ok" and not self.follower.heard.following else of_endpoints

    @property
    def heard_s_ago(self) -> float:
        """How long it is since the API answered."""
        return round(max(0.0, self._clock() - (self.follower.heard.at or 0.0)), 3)

    def told(self) -> dict[str, Any]:
        """For `/health`."""
        heard, feed = self.follower.heard, self.feed
        return {
            "following": heard.following,
            "version": None if feed is None else feed.version,
            "heard_s_ago": None if heard.at is None else self.heard_s_ago,
            "fault": heard.fault,
            "models": 0 if feed is None else len(feed.models),
            "ready_models": len(self.directory.ready),
        }
