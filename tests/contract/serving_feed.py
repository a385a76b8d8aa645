"""The part of the serving API that gateways follow, in a thread: a feed that tests change, and that can go away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until

__all__ = ["FeedServer", "digest", "fed", "following"]

TOKEN = "gateways-own-token"


class FeedServer:
    """`GET /api/v2/serve/endpoints` as the API answers it; `auth`, `users` and `limits` as the feed has them."""

    def __init__(self, *models: dict[str, Any], token: str | None = TOKEN, **more: Any) -> None:
        self.token = token
        self.holds = True
        """Whether it holds polls that have nothing new to say, as the API does."""
        self.polls: list[tuple[str, str | None]] = []
        """(target, authorization) of each request."""
        self.odd: tuple[int, bytes] | None = None
        """What it answers instead; None: the feed."""
        self._feed: dict[str, Any] = {"version": 1, "auth": "none", "models": list(models), "limits": {}, **more}
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def version(self) -> int:
        version: int = self._feed["version"]
        return version

    def say(self, *models: dict[str, Any], **more: Any) -> int:
        """Another feed from now on; its version."""
        with self._changed:
            self._feed = {**self._feed, "models": list(models), **more, "version": self._feed["version"] + 1}
            self._changed.notify_all()
            return self.version

    def change(self, **more: Any) -> int:
        """The same models."""
        return self.say(*self._feed["models"], **more)

    def vanish(self) -> None:
        """Stop listening, and end every poll without an answer."""
        server, self._server = self._server, None
        if server is not None:
            with self._changed:
                self._changed.notify_all()
            server.shutdown()
            server.server_close()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        handler = type("Handler", (_Handler,), {"feed": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, target: str, authorization: str | None) -> tuple[int, bytes] | None:
        """None: not at all."""
        self.polls.append((target, authorization))
        if self.odd is not None:
            return self.odd
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, b'{"code":"token_missing"}'
        query = parse_qs(urlsplit(target).query)
        known, wait_s = int(query.get("version", ["-1"])[0]), float(query.get("wait_s", ["0"])[0])
        until = time.monotonic() + (wait_s if self.holds else 0)
        with self._changed:
            while self.version == known and self._server is not None and time.monotonic() < until:
                self._changed.wait(until - time.monotonic())
            if self._server is None or self.odd is not None:
                return self.odd
            return (304, b"") if self.version == known else (200, json.dumps(self._feed).encode())


class _Handler(BaseHTTPRequestHandler):
    feed: FeedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = self.feed.answer(self.path, self.headers.get("authorization"))
        if said is None:
            self.close_connection = True
            return
        status, body = said
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if status != 304:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        del args


def fed(suffix: str, *urls: str, user: str = "alice", adapters: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A model as the feed has it: ready where it has endpoints, which call it by its dated name."""
    model_id = f"{user}-202601061235-{suffix}"
    return {
        "model_key": f"svc-{user}-20260106-123500-{suffix}",
        "model_id": model_id,
        "alias": f"{user}/{suffix}",
        "user_id": user,
        "state": "RUNNING" if urls else "DEPLOYING",
        "ready": bool(urls),
        "reason": "Serving" if urls else "ReplicasStarting",
        "message": "" if urls else "0 of 1 replicas answer",
        "retry_after_s": None if urls else 7,
        "endpoints": [{"base_url": url, "model": model_id, "adapters": list(adapters)} for url in urls],
        **more,
    }


def digest(token: str, user: str = "alice") -> dict[str, str]:
    """A user's token as the feed has it."""
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "user_id": user}


@contextlib.contextmanager
def following(
    folder: Path, feed: FeedServer, stub: StubThread, *flags: str, prefix: tuple[str, ...] = ()
) -> Iterator[GatewayProcess]:
    """A gateway that follows it, heard of it once; gone at the end, as the feed is."""
    whom = ("--serving", feed.url, "--serving-token-env", "MOORAGE_TEST_SERVING_TOKEN")
    words = (*prefix, "env", f"MOORAGE_TEST_SERVING_TOKEN={TOKEN}")
    gateway = GatewayProcess(stub, folder / "gateway.db", *flags, whom=whom, prefix=words)
    try:
        yield gateway
    finally:
        gateway.kill()
        feed.vanish()


def heard(gateway: GatewayProcess, version: int) -> None:
    """Wait until it has heard of that version."""
    wait_until(lambda: gateway.get("/health").json()["serving"]["version"] == version)
