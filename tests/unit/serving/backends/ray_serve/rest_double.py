"""A dashboard that answers what it is told to: for faults that a real one does not have on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

APPLICATIONS = "/api/serve/applications/"


class Dashboard:
    """`details` is what it runs; a PUT is kept in `told`; `spoiled`: (status, text) in the place of every answer."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.details = details
        self.told: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        """Of a PUT."""
        self.spoiled: tuple[int, str] | None = None
        self.open_routes: set[str] = set()
        """Paths of applications that answer 200."""
        self.files: dict[str, list[str]] = {}
        self.tokens: list[str | None] = []
        """What was shown with each request to the dashboard."""
        self.probes: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, str]:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if not parts.path.startswith("/api/"):
            self.probes.append(parts.path)
            return (200 if parts.path in self.open_routes else 404), "{}"
        self.tokens.append(token)
        if self.spoiled is not None:
            return self.spoiled
        if method == "PUT":
            if self.refusal is not None:
                return self.refusal
            self.told.append(json.loads(body))
            return 200, ""
        if parts.path == APPLICATIONS:
            return 200, json.dumps(self.details)
        if parts.path == "/api/v0/logs":
            begin = query["glob"].rstrip("*")
            return 200, json.dumps({"data": {"result": {"all": [one for one in self.files if one.startswith(begin)]}}})
        if parts.path == "/api/v0/logs/file" and query["filename"] in self.files:
            return 200, "\n".join(self.files[query["filename"]][-int(query["lines"]) :])
        if parts.path == "/api/version":
            return 200, json.dumps({"ray_version": "2.60.0"})
        if parts.path == "/api/v0/nodes":
            return 200, json.dumps({"data": {"result": {"result": [{"node_id": "n", "state": "ALIVE", "labels": {}}]}}})
        return 404, ""


@contextmanager
def dashboard(details: dict[str, Any]) -> Iterator[Dashboard]:
    made = Dashboard(details)

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = made.answer(self.command, self.path, body, self.headers.get("Authorization"))
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = _any

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
