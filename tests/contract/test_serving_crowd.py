"""Hundreds that wait for changes, and a store that keeps every request waiting: who asks something else is answered."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest

from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

ENDPOINTS = "/api/v2/serve/endpoints"
WATCHES, POLLS = 200, 50
GENEROUS_S = 60.0
POSTS = 60
"""More than there are threads for requests."""
HELD_S = 4.0
"""Long enough for all of them to come in; a store waits 10 s for others' changes."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with running_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


class Waiting:
    """Requests that are not answered yet, or never to the end; what came back of each."""

    def __init__(self, api: ServingProcess, path: str, token: str | None, many: int) -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self.read = [b""] * many
        self._ready = selectors.DefaultSelector()
        self.wires = []
        for number in range(many):
            wire = socket.create_connection(("127.0.0.1", api.port), 30)
            wire.sendall(request)
            self._ready.register(wire, selectors.EVENT_READ, number)
            self.wires.append(wire)

    def until_all(self, have: bytes) -> None:
        ends = time.monotonic() + GENEROUS_S
        while not all(have in one for one in self.read):
            assert time.monotonic() < ends, [one[-300:] for one in self.read if have not in one][:3]
            for key, _ in self._ready.select(0.5):
                self.read[key.data] += key.fileobj.recv(1 << 16)  # type: ignore[union-attr]

    def close(self) -> None:
        self._ready.close()
        for wire in self.wires:
            wire.close()


def test_watches_and_polls_hold_nobody_up_and_hear_of_every_change(api: ServingProcess) -> None:
    alice, bob = api.user("alice"), api.user("bob")
    version = api.gateway.get(ENDPOINTS).json()["version"]
    watches = Waiting(api, f"{MODELS}?watch=1", alice.token, WATCHES)
    polls = Waiting(api, f"{ENDPOINTS}?version={version}&wait_s=30", api.gateway_token, POLLS)
    with contextlib.closing(watches), contextlib.closing(polls):
        watches.until_all(b"BOOKMARK")
        for _ in range(5):  # a watch has no end: each of these would wait for ever if watches held threads
            assert api.nobody.get("/health").status_code == 200
            assert bob.get(MODELS).status_code == 200
        key = alice.declare("news")
        bob.declare("not-for-alice")
        polls.until_all(b"HTTP/1.1 200")
        watches.until_all(b'"model_key":"' + key.encode())
        alice.settled(key, "RUNNING")
        watches.until_all(b'"state":"RUNNING"')
        assert not any(b"not-for-alice" in one for one in watches.read)


def test_health_is_told_while_every_request_waits_for_the_store(api: ServingProcess) -> None:
    carol = api.user("carol")
    callers = [Caller(api.url, carol.token) for _ in range(POSTS)]
    answered: list[int] = []

    def post(number: int) -> None:
        reply = callers[number].post(MODELS, {"model_id": f"m{number}", "model_source": "$HOME/common/hf/m"})
        answered.append(reply.status_code)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(POSTS)]
    other = sqlite3.connect(api.db, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        for thread in threads:
            thread.start()
        ends = time.monotonic() + HELD_S
        while time.monotonic() < ends:
            assert api.nobody.get("/health").status_code in (200, 503)
        assert not answered, "no request was given up or got through to make room"
    finally:
        other.execute("ROLLBACK")
        other.close()
    for thread in threads:
        thread.join(GENEROUS_S)
    assert answered == [202] * POSTS
