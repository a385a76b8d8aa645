"""The door with keys: who comes in where, what it asks of the store, and what it says to those that stay outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PreflightError
from moorage.gateway.auth.failures import BURST
from moorage.gateway.auth.key_ring import LOOK_EVERY_S, STALE_S
from moorage.gateway.auth.key_text import make_key
from moorage.gateway.auth.rules import RULES
from moorage.gateway.http.faults import Fault
from tests.unit.gateway.auth_parts import Doorway

UID, OTHER = "a" * 32, "b" * 32


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def refused(work: Coroutine[Any, Any, None]) -> tuple[int, str]:
    """Status and code."""
    with pytest.raises(Fault) as caught:
        await work
    assert (caught.value.challenge is not None) == (caught.value.status == 401)
    return caught.value.status, caught.value.code


def path_of(name: str, uid: str = UID) -> str:
    """A path of the route with that name in the rules."""
    if name == "/complete_trajectory/{uid}":
        return f"/complete_trajectory/{uid}"
    if name.startswith("/"):
        return name.replace("{file}", "page.css")
    if name == "":
        return f"/{uid}"
    return f"/{uid}/{name}" if name.startswith(("v1/", "nodes")) else f"/{uid}/p/v1/{name}"


async def opened() -> Doorway:
    way = Doorway()
    way.admin = way.key("admin")[0]  # type: ignore[attr-defined]
    await way.ring._read()
    return way


def test_every_rule_is_kept() -> None:
    """Each kind of key on each route."""

    async def work() -> None:
        way = await opened()
        keys = {"admin": way.admin, "trainer": way.key("trainer")[0], "session": way.session(UID)}  # type: ignore[attr-defined]
        await way.ring.look()
        for (method, name), rule in RULES.items():
            if rule == "open":
                await way.ask(method, path_of(name))
                await way.ask(method, path_of(name), key="nonsense")
                continue
            assert await refused(way.ask(method, path_of(name))) == (401, "key_missing")
            may = {"session": {"session", "trainer", "admin"}, "trainer": {"trainer", "admin"}, "admin": {"admin"}}[
                rule
            ]
            for role, key in keys.items():
                if role in may:
                    await way.ask(method, path_of(name), key=key)
                else:
                    assert await refused(way.ask(method, path_of(name), key=key)) == (403, "forbidden"), (name, role)

    run(work())


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_sessions_key_opens_its_own_session_and_no_other(in_memory: bool) -> None:
    async def work() -> None:
        way = await opened()
        own, others = way.session(UID, in_memory=in_memory), way.session(OTHER, in_memory=in_memory)
        await way.ask("POST", path_of("chat/completions"), key=own)
        assert await refused(way.ask("POST", path_of("chat/completions"), key=others)) == (403, "forbidden")
        forged = make_key("session", UID, way.random_bytes)
        assert await refused(way.ask("POST", path_of("chat/completions"), key=forged)) == (401, "key_wrong")
        nobody = make_key("session", "c" * 32, way.random_bytes)
        path = path_of("chat/completions", "c" * 32)
        assert await refused(way.ask("POST", path, key=nobody)) == (401, "key_wrong")

    run(work())


def test_a_session_without_a_key_is_for_trainers() -> None:
    """One that was made before keys were asked for."""

    async def work() -> None:
        way = await opened()
        key = way.session(UID)
        way.live[UID].trajectory.options.clear()
        assert await refused(way.ask("POST", path_of("chat/completions"), key=key)) == (401, "key_wrong")
        await way.ask("POST", path_of("chat/completions"), key=way.admin)  # type: ignore[attr-defined]

    run(work())


def test_what_a_sessions_key_may_never_do_asks_nothing_of_the_store() -> None:
    async def work() -> None:
        way = await opened()
        way.store.asked.clear()
        for path in ("/pool/steps", "/sessions", "/metrics"):
            assert await refused(way.ask("GET", path, key=make_key("session", UID, way.random_bytes))) == (
                403,
                "forbidden",
            )
        mistyped = make_key("session", UID, way.random_bytes)[:-1] + "x"
        assert await refused(way.ask("POST", path_of("models").replace("models", "completions"), key=mistyped)) == (
            401,
            "key_wrong",
        )
        assert way.store.asked == []

    run(work())


@pytest.mark.parametrize(
    "path", [path_of("complete_trajectory"), f"/complete_trajectory/{UID}", f"/{UID}/p/complete_trajectory"]
)
@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (b"", True),
        (b"{}", True),
        (b'{"reward": null}', True),
        (b'{"channel": "train"}', True),
        (b'{"reward": 0}', False),
        (b'{"reward": -1.5, "channel": "train"}', False),
        (b'{"\\u0072eward": 1}', False),
        (b'{"reward": null, "reward": 1}', False),
    ],
)
def test_a_sessions_key_sets_no_reward(path: str, body: bytes, allowed: bool) -> None:
    async def work() -> None:
        way = await opened()
        own = way.session(UID)
        if allowed:
            await way.ask("POST", path, body=body, key=own)
        else:
            assert await refused(way.ask("POST", path, body=body, key=own)) == (403, "forbidden")
            await way.ask("POST", path, body=body, key=way.admin)  # type: ignore[attr-defined]

    run(work())


# Making, revoking, running out -------------------------------------------------------------------------------------


def test_a_key_is_good_the_moment_it_is_made_and_refused_when_revoked() -> None:
    async def work() -> None:
        way = await opened()
        text, key = way.key("trainer")
        await way.ask("GET", "/pool/stats", key=text)  # nobody has looked since it was made
        way.store.put(msgspec.structs.replace(key, revoked_at=way.clock()))
        await way.ring.look()
        assert await refused(way.ask("GET", "/pool/stats", key=text)) == (401, "key_revoked")
        wrong = text[:-9] + ("0" if text[-9] != "0" else "1") + text[-8:]
        assert await refused(way.ask("GET", "/pool/stats", key=wrong)) == (401, "key_wrong")

    run(work())


def test_a_key_runs_out_without_anybody_looking() -> None:
    async def work() -> None:
        way = await opened()
        text, _ = way.key("trainer", lifetime_s=60)
        await way.ask("GET", "/pool/stats", key=text)
        way.clock.now += 60
        assert await refused(way.ask("GET", "/pool/stats", key=text)) == (401, "key_expired")

    run(work())


def test_a_revocation_is_seen_within_a_second_without_a_request() -> None:
    async def work() -> None:
        way = Doorway()
        way.key("admin")
        text, key = way.key("trainer")
        await way.door.open()
        try:
            way.store.put(msgspec.structs.replace(key, revoked_at=way.clock()))
            looked = asyncio.Event()
            read = way.ring._read

            async def noted() -> None:
                await read()
                looked.set()

            way.ring._read = noted  # type: ignore[method-assign]
            await asyncio.wait_for(looked.wait(), 30)
            assert LOOK_EVERY_S <= 0.5
            assert await refused(way.ask("GET", "/pool/stats", key=text)) == (401, "key_revoked")
        finally:
            await way.door.close()

    run(work())


def test_requests_with_a_good_key_ask_nothing_of_the_store() -> None:
    async def work() -> None:
        way = await opened()
        own = way.session(UID)
        way.store.asked.clear()
        for _ in range(10):
            await way.ask("GET", "/pool/stats", key=way.admin)  # type: ignore[attr-defined]
            await way.ask("POST", path_of("chat/completions"), key=own)
        assert way.store.asked == []

    run(work())


def test_when_the_store_is_silent_no_stored_key_is_good_after_a_while() -> None:
    async def work() -> None:
        way = await opened()
        way.store.down = True
        await way.ring.look()
        await way.ask("GET", "/pool/stats", key=way.admin)  # type: ignore[attr-defined]
        way.clock.now += STALE_S + 1
        await way.ring.look()
        assert await refused(way.ask("GET", "/pool/stats", key=way.admin)) == (503, "store_unavailable")  # type: ignore[attr-defined]
        assert '"keys_unknown"' in way.out.getvalue()
        way.store.down = False
        await way.ring.look()
        await way.ask("GET", "/pool/stats", key=way.admin)  # type: ignore[attr-defined]

    run(work())


def test_many_unknown_keys_at_once_share_their_looks() -> None:
    async def work() -> None:
        way = await opened()
        way.store.asked.clear()
        shown = [make_key("trainer", f"{number:012x}", way.random_bytes) for number in range(200)]
        tried = [way.ask("GET", "/pool/stats", key=key, address=f"198.51.100.{at}") for at, key in enumerate(shown)]
        answers = await asyncio.gather(*tried, return_exceptions=True)
        assert all(isinstance(answer, Fault) and answer.status == 401 for answer in answers)
        assert len(way.store.asked) <= 3

    run(work())


def test_a_gateway_that_nobody_could_use_does_not_open() -> None:
    async def work() -> None:
        way = Doorway()
        for make in (lambda: way.key("trainer"), lambda: way.key("admin", lifetime_s=1)):
            with pytest.raises(PreflightError) as caught:
                await way.door.open()
            assert caught.value.code == "keys_required"
            assert caught.value.next == ["moor gateway keys create --role admin --db sqlite:///x.db"]
            make()
            way.clock.now += 2
        way.key("admin")
        await way.door.open()
        await way.door.close()

    run(work())


def test_a_worker_in_the_place_of_another_opens_without_an_admin() -> None:
    """The last admin key may be revoked while trainers work: a worker that dies then is replaced all the same."""

    async def work() -> None:
        way = Doorway(wants_admin=False)
        text, _ = way.key("trainer")
        await way.door.open()
        try:
            await way.ask("GET", "/pool/stats", key=text)
        finally:
            await way.door.close()

    run(work())


# Those that stay outside -------------------------------------------------------------------------------------------


def test_many_wrong_keys_are_slowed_and_right_ones_never() -> None:
    async def work() -> None:
        way = await opened()
        own = way.session(UID, in_memory=False)
        wrong = make_key("trainer", "0" * 12, way.random_bytes)
        answers = [await refused(way.ask("GET", "/pool/stats", key=wrong)) for _ in range(int(BURST) + 5)]
        assert answers == [(401, "key_wrong")] * int(BURST) + [(429, "too_many_failures")] * 5
        await way.ask("GET", "/pool/stats", key=way.admin)  # type: ignore[attr-defined]
        await way.ask("POST", path_of("chat/completions"), key=own)
        assert await refused(way.ask("GET", "/pool/stats", key=wrong, address="192.0.2.77")) == (401, "key_wrong")
        assert await refused(way.ask("GET", "/pool/stats")) == (401, "key_missing")
        assert way.out.getvalue().count("key_refused") == int(BURST) + 1

    run(work())


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=120))
def test_no_text_opens_anything(text: str) -> None:
    async def work() -> None:
        way = await opened()
        way.session(UID)
        for method, path in (("GET", "/pool/stats"), ("POST", path_of("chat/completions"))):
            status, code = await refused(way.ask(method, path, key=text))
            assert (status, code) in {(401, "key_wrong"), (401, "key_missing"), (403, "forbidden")}
        assert not text or len(text) < 9 or text not in way.out.getvalue()

    run(work())


def test_nothing_that_is_said_or_written_has_a_key_in_it() -> None:
    async def work() -> None:
        way = await opened()
        trainer, key = way.key("trainer")
        shown = [way.session(UID), trainer, trainer[:-1], make_key("admin", "0" * 12, way.random_bytes)]
        way.store.put(msgspec.structs.replace(key, revoked_at=1.0))
        await way.ring.look()
        for text in shown:
            with pytest.raises(Fault) as caught:
                await way.ask("GET", "/pool/stats", key=text)
            secret = text.rpartition("_")[2]
            assert secret not in caught.value.message
            assert secret not in way.out.getvalue()

    run(work())


def test_secrets_are_compared_in_constant_time() -> None:
    """By structure, not by the clock: digests meet in `compare_digest` alone, also of an id that nobody has."""
    import inspect

    from moorage.gateway.auth import key_door, key_ring

    for source in (inspect.getsource(key_door), inspect.getsource(key_ring)):
        assert "hmac.compare_digest" in source
        assert "digest ==" not in source
        assert "digest !=" not in source
