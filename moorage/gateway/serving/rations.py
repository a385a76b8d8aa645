"""What each user may use up: requests and tokens in any minute, and requests at once.

A request counts from the moment it is let in, whatever becomes of it; one that is refused counts nothing. Its tokens
count from the moment they are known, which is when it is over: so what is under way may take a user beyond the limit
of tokens once, and the next request waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from moorage.gateway.http.faults import Fault
from moorage.gateway.serving.feed import Quota
from moorage.gateway.serving.window import Window

__all__ = ["Rations", "Refused"]

AT_ONCE_RETRY_S = 1


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Why a user's request is not let in."""

    limit: str
    """As the configuration names it."""
    allowed: int
    retry_after_s: int

    def fault(self) -> Fault:
        """429, which says when to come again."""
        what = {
            "requests_per_minute": f"{self.allowed} requests a minute are allowed to a user, and were made",
            "tokens_per_minute": f"{self.allowed} tokens a minute are allowed to a user, and were used",
            "concurrent_requests": f"{self.allowed} requests at once are allowed to a user, and are under way",
        }[self.limit]
        extra = {"limit": self.limit, "allowed": self.allowed}
        return Fault(429, what, code="rate_limit_exceeded", retry_after_s=self.retry_after_s, extra=extra)


class _Account:
    """One user's."""

    __slots__ = ("requests", "tokens", "under_way")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.under_way: dict[int, int] = {}
        """Worker → how many of its requests."""


class Rations:
    """Of all users, by what was used through this gateway. `clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.quota = Quota()
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def begin(self, user: str, worker: int = 0) -> Refused | None:
        """A request comes: None, and it counts; or why it is not let in."""
        account, now, quota = self._accounts.get(user) or _Account(), self._clock(), self.quota
        under_way = sum(account.under_way.values())
        for limit, allowed, wait_s in (
            ("requests_per_minute", quota.requests_per_minute, account.requests.wait_s),
            ("tokens_per_minute", quota.tokens_per_minute, account.tokens.wait_s),
        ):
            wait = 0.0 if allowed is None else wait_s(allowed, now)
            if allowed is not None and wait > 0:
                return Refused(limit, allowed, max(1, math.ceil(wait)))
        if quota.concurrent_requests is not None and under_way >= quota.concurrent_requests:
            return Refused("concurrent_requests", quota.concurrent_requests, AT_ONCE_RETRY_S)
        self._accounts[user] = account
        account.requests.use(1, now)
        account.under_way[worker] = account.under_way.get(worker, 0) + 1
        return None

    def end(self, user: str, tokens: int, worker: int = 0) -> None:
        """One that was let in is over, and took so many tokens."""
        account = self._accounts.get(user)
        if account is None:
            return
        account.tokens.use(tokens, self._clock())
        left = account.under_way.get(worker, 0) - 1
        if left > 0:
            account.under_way[worker] = left
        else:
            account.under_way.pop(worker, None)

    def lost(self, worker: int) -> None:
        """That worker has died, and all of its requests with it."""
        for account in self._accounts.values():
            account.under_way.pop(worker, None)

    def tidy(self) -> None:
        """Forget users of whom nothing counts any more."""
        now = self._clock()
        self._accounts = {
            user: account
            for user, account in self._accounts.items()
            if account.under_way or account.requests.used(now) or account.tokens.used(now)
        }
