"""Who comes in to declared models, and to everything else beside them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moorage.gateway.auth.open_door import OpenDoor
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.paths import FIXED, SESSION, TRAJECTORY, Route, find_route
from moorage.gateway.http.request import Request
from moorage.gateway.serving.accounts import Accounts
from moorage.gateway.serving.door import INFERENCE, ServedDoor
from moorage.gateway.serving.rations import Rations
from tests.contract.serving_feed import digest
from tests.unit.gateway.auth_parts import Clock, Doorway
from tests.unit.gateway.serving.feeds import feed_of

CHAT = ("POST", "/v1/chat/completions")
OTHERS = [("POST", "/sessions/create"), ("POST", "/init_trajectory"), ("POST", "/pool/lease"), ("POST", "/v1/logprobs")]


class Served:
    """A door, and what stands before it."""

    def __init__(self, *, guarded: bool = False, strict: bool = False) -> None:
        self.way = Doorway(wants_admin=False)
        self.clock = Clock()
        self.accounts = Accounts(Rations(self.clock), None)
        self.door = ServedDoor(
            self.way.door, OpenDoor(loopback=not guarded), self.accounts, guarded=guarded, strict=strict
        )

    def hear(self, **feed: Any) -> None:
        self.door.hear(feed_of(**feed))

    def require(self, *tokens: str, **limits: int) -> None:
        self.hear(auth="required", users=[digest(token) for token in tokens], limits=limits)

    def ask(self, method: str, path: str, key: str | None = None, *headers: tuple[str, str]) -> Request:
        """One request. Raises what it is refused with."""

        async def main() -> Request:
            await self.door.open()
            try:
                raw = [(name.encode(), value.encode()) for name, value in headers]
                raw += [(b"authorization", f"Bearer {key}".encode())] if key is not None else []
                request = Request(method, path.encode(), raw, b"{}")
                request.from_page = any(name == b"origin" for name, _ in raw)
                route, request.params = find_route(method, path)
                waiting = self.door.admit(route, request, cast(Any, SimpleNamespace(address="192.0.2.9")))
                if waiting is not None:
                    await waiting
                return request
            finally:
                await self.door.close()

        return asyncio.run(main())

    def refused(self, method: str, path: str, key: str | None = None, *headers: tuple[str, str]) -> tuple[int, str]:
        with pytest.raises(Fault) as caught:
            self.ask(method, path, key, *headers)
        return caught.value.status, caught.value.code


def test_models_are_open_and_nothing_else_off_loopback() -> None:
    served = Served(guarded=True)
    served.hear()
    for path in INFERENCE:
        served.ask("GET" if path.startswith("/v1/models") else "POST", path)
    for method, path in OTHERS:
        assert served.refused(method, path) == (401, "key_missing")


def test_on_loopback_everything_is_open_as_ever() -> None:
    served = Served()
    served.hear()
    for method, path in (CHAT, *OTHERS):
        served.ask(method, path)


@pytest.mark.parametrize("guarded", [False, True])
def test_where_tokens_are_required_a_users_token_opens_the_models_alone(guarded: bool) -> None:
    served = Served(guarded=guarded)
    served.require("alices")
    served.ask(*CHAT, "alices")
    served.ask("GET", "/v1/models", "alices")
    served.ask(*CHAT, None, ("x-api-key", "alices"))
    assert served.refused(*CHAT) == (401, "key_missing")
    assert served.refused(*CHAT, "alice") == (401, "key_wrong")
    assert served.refused(*CHAT, "alices2") == (401, "key_wrong")
    for method, path in OTHERS:
        assert served.refused(method, path, "alices") == (403, "forbidden")
        assert served.refused(method, path) == (401, "key_missing")
    served.ask("GET", "/health")


def test_every_route_that_is_not_a_models_takes_a_key_where_tokens_are_required() -> None:
    served = Served()
    served.require("alices")
    tables = (*FIXED.values(), *SESSION.values(), *TRAJECTORY.values())
    routes: list[tuple[str, Route]] = [(method, one) for table in tables for method, one in table.items()]
    routes.append(("GET", find_route("GET", "/v1/models/m")[0]))
    opened = set()
    for method, route in routes:
        request = Request(method, b"/x", [(b"authorization", b"Bearer alices")], b"{}")
        request.params = {"uid": "x"}
        try:
            served.door.admit(route, request, cast(Any, SimpleNamespace(address="192.0.2.9")))
        except Fault as fault:
            assert fault.code == "forbidden"
        else:
            opened.add(route.name)
    assert opened == INFERENCE | {"/health", "/ready", "/docs", "/openapi.json"}


def test_keys_of_the_gateway_open_models_too_without_limits() -> None:
    served = Served()
    served.require("alices", requests_per_minute=1)
    trainer, _ = served.way.key("trainer")
    for _ in range(3):
        served.ask(*CHAT, trainer)
        served.ask("POST", "/sessions/create", trainer)


def test_a_session_is_no_way_around_a_users_limits() -> None:
    served = Served()
    served.require("alices")
    assert served.door.capability("1" * 32) is not None
    served.hear()
    assert served.door.capability("1" * 32) is None
    assert Served(guarded=True).door.capability("1" * 32) is not None


def test_a_revoked_token_is_none_with_the_next_feed() -> None:
    served = Served()
    served.require("alices", "bobs")
    served.ask(*CHAT, "alices")
    served.require("bobs")
    assert served.refused(*CHAT, "alices") == (401, "key_wrong")
    served.ask(*CHAT, "bobs")
    served.hear()
    served.ask(*CHAT)


def test_wrong_tokens_are_told_so_often_and_no_more() -> None:
    served = Served()
    served.require("alices")
    codes = [served.refused(*CHAT, f"guess{n}")[1] for n in range(40)]
    assert codes[0] == "key_wrong"
    assert codes[-1] == "too_many_failures"
    served.ask(*CHAT, "alices")


def test_with_auth_keys_models_take_a_key_as_well() -> None:
    served = Served(guarded=True, strict=True)
    trainer, _ = served.way.key("trainer")
    for feed in ({}, {"auth": "required", "users": [digest("alices")]}):
        served.hear(**feed)
        served.ask(*CHAT, trainer)
        assert served.refused(*CHAT) == (401, "key_missing")
    assert served.refused(*CHAT, "alices") == (403, "forbidden")


def test_pages_of_others_use_no_model_without_a_token() -> None:
    served = Served(guarded=True)
    served.hear()
    assert served.refused(*CHAT, None, ("origin", "http://evil"), ("host", "gateway:8000")) == (403, "page_foreign")


def test_two_different_keys_in_one_request_are_none() -> None:
    served = Served()
    served.require("alices", "bobs")
    assert served.refused(*CHAT, "alices", ("x-api-key", "bobs")) == (401, "key_wrong")


def test_limits_are_told_and_end_with_the_request() -> None:
    served = Served()
    served.require("alices", concurrent_requests=1, tokens_per_minute=10)
    first = served.ask(*CHAT, "alices")
    assert served.refused(*CHAT, "alices") == (429, "rate_limit_exceeded")
    meter = served.accounts.meter(first)
    assert meter is not None
    meter.whole(b'{"usage":{"total_tokens":10}}')
    served.accounts.over(first)
    served.accounts.over(first)
    assert served.refused(*CHAT, "alices") == (429, "rate_limit_exceeded")
    served.clock.now += 60
    second = served.ask(*CHAT, "alices")
    served.accounts.over(second)
    assert served.accounts.refused == {"requests_per_minute": 0, "tokens_per_minute": 1, "concurrent_requests": 1}


def test_reading_the_list_of_models_counts_for_nothing() -> None:
    served = Served()
    served.require("alices", requests_per_minute=1)
    for _ in range(3):
        served.ask("GET", "/v1/models", "alices")
    served.ask(*CHAT, "alices")


def test_without_limits_nothing_is_noted() -> None:
    served = Served()
    served.require("alices")
    assert served.accounts.meter(served.ask(*CHAT, "alices")) is None


@pytest.mark.parametrize("wrong", ["", "xyz", "ab"])
def test_a_digest_that_is_none_lets_nobody_in_and_keeps_nobody_out(wrong: str) -> None:
    served = Served()
    served.hear(auth="required", users=[{"sha256": wrong, "user_id": "mallory"}, digest("alices")])
    for guess in ("", wrong, "mallory"):
        assert served.refused(*CHAT, guess)[0] == 401
    served.ask(*CHAT, "alices")
