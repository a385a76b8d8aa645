"""Following the feed: what is new is taken once and in order, and what goes wrong changes nothing."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorage.errors import PreflightError
from moorage.gateway.log import Log
from moorage.gateway.serving.feed import Feed
from moorage.gateway.serving.follower import PAUSES_S, SOON_S, Follower, token_of
from tests.contract.serving_feed import TOKEN, FeedServer, fed


class Following:
    """A follower, and what it took. It sleeps not at all; `slept` says how long it would have."""

    def __init__(self, feed: FeedServer, token: str | None = TOKEN) -> None:
        self.feed = feed
        self.taken: list[Feed] = []
        self.slept: list[float] = []
        self.out = io.StringIO()
        self.fault: Exception | None = None
        self.follower = Follower(
            feed.url, token, self._take, clock=time.monotonic, log=Log(self.out), sleep=self._sleep
        )

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    def _take(self, feed: Feed) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append(feed)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.005)


@asynccontextmanager
async def following(feed: FeedServer, token: str | None = TOKEN) -> AsyncIterator[Following]:
    one = Following(feed, token)
    await one.follower.start(20)
    try:
        yield one
    finally:
        await one.follower.close()
        feed.vanish()


def test_each_feed_is_taken_once_and_in_order() -> None:
    async def main() -> None:
        async with following(FeedServer(fed("q"))) as one:
            assert [feed.version for feed in one.taken] == [1]
            for version in (2, 3, 4):
                assert one.feed.change() == version
                await one.until(lambda version=version: one.taken[-1].version == version)  # type: ignore[misc]
            assert [feed.version for feed in one.taken] == [1, 2, 3, 4]
            assert one.follower.heard.following
            assert not one.slept  # the API held every poll
            first, second = one.feed.polls[:2]
            assert first == ("/api/v2/serve/endpoints", f"Bearer {TOKEN}")
            assert second[0].startswith("/api/v2/serve/endpoints?version=1&wait_s=")

    asyncio.run(main())


def test_a_smaller_version_is_another_one() -> None:
    async def main() -> None:
        async with following(FeedServer(version=7)) as one:
            one.feed.change()
            await one.until(lambda: one.taken[-1].version == 8)
            one.feed._feed["version"] = 1  # the API was started with another store
            one.feed.change()
            await one.until(lambda: one.taken[-1].version == 2)

    asyncio.run(main())


def test_an_api_that_is_gone_leaves_what_is_known_and_is_followed_again() -> None:
    async def main() -> None:
        async with following(FeedServer(fed("q"))) as one:
            one.feed.vanish()
            await one.until(lambda: len(one.slept) > len(PAUSES_S) + 2)
            assert not one.follower.heard.following
            assert one.follower.heard.fault
            assert one.slept[: len(PAUSES_S) + 1] == [*PAUSES_S, PAUSES_S[-1]]
            assert len(one.taken) == 1
            one.feed.come_back()
            one.feed.change()
            await one.until(lambda: one.taken[-1].version == 2)
            await one.until(lambda: one.follower.heard.following)
            assert one.follower.heard.fault is None
            events = [line["event"] for line in one.logged]
            assert events.count("serving_followed") == 2
            assert events.count("serving_not_followed") <= 2  # not with every poll

    asyncio.run(main())


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ((200, b"<html>"), "no feed"),
        ((200, b'{"version":2}'), "no feed"),
        ((500, b""), "answers 500"),
        ((403, b""), "not an administrator's"),
        ((404, b""), "moor serve api"),
        ((301, b""), "answers 301"),
    ],
)
def test_an_odd_answer_leaves_what_is_known(odd: tuple[int, bytes], said: str) -> None:
    async def main() -> None:
        async with following(FeedServer(fed("q"))) as one:
            one.feed.odd = odd
            one.feed.change()
            await one.until(lambda: one.follower.heard.fault is not None and said in one.follower.heard.fault)
            assert len(one.taken) == 1
            one.feed.odd = None
            await one.until(lambda: one.taken[-1].version == 2)

    asyncio.run(main())


def test_without_the_token_it_says_what_is_missing() -> None:
    async def main() -> None:
        async with following(FeedServer(fed("q")), token=None) as one:
            assert not one.taken
            assert "--serving-token-env" in str(one.follower.heard.fault)
            assert TOKEN not in one.out.getvalue()

    asyncio.run(main())


def test_a_feed_that_cannot_be_taken_is_tried_again() -> None:
    async def main() -> None:
        async with following(FeedServer(fed("q"))) as one:
            one.fault = RuntimeError("a fault of ours")
            one.feed.change()
            await one.until(lambda: one.follower.heard.polls["failed"] > 1)
            one.fault = None
            await one.until(lambda: one.taken[-1].version == 2)

    asyncio.run(main())


def test_an_api_that_holds_no_poll_is_not_asked_without_end() -> None:
    async def main() -> None:
        feed = FeedServer(fed("q"))
        feed.holds = False
        async with following(feed) as one:
            await one.until(lambda: len(one.slept) > 3)
            assert set(one.slept) == {SOON_S}

    asyncio.run(main())


def test_it_starts_without_the_api_when_the_time_is_over() -> None:
    async def main() -> None:
        feed = FeedServer()
        feed.vanish()
        one = Following(feed)
        await one.follower.start(20)
        assert not one.taken
        await one.follower.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("environ", "code"),
    [({}, "serving_token_missing"), ({"T": " "}, "serving_token_missing"), ({"T": "a b"}, "serving_token_unusable")],
)
def test_a_token_that_cannot_be_sent(environ: dict[str, str], code: str) -> None:
    with pytest.raises(PreflightError) as caught:
        token_of("T", environ)
    assert caught.value.code == code
    assert "a b" not in str(caught.value)


def test_a_token_of_a_variable() -> None:
    assert token_of(None, {}) is None
    assert token_of("T", {"T": "x\n"}) == "x"
