"""`moor serve api` as a process, and how long it takes to answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.serving.declared import store_url

__all__ = ["asked_s", "serving"]

ROOT = Path(__file__).resolve().parents[2]
ADMIN_ENV = "BENCH_SERVING_ADMIN"
READY_WITHIN_S = 120


@contextlib.contextmanager
def serving(folder: Path, count: int) -> Iterator[int]:
    """Its port, when all of its models run again."""
    admin = secrets.token_hex(16)
    words = ["serve", "api", "--backend", "memory", "--port", "0", "--root", str(folder), "--db", store_url(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "moorage.cli.main", *words, "--admin-token-env", ADMIN_ENV, "--json"],
        env={**os.environ, ADMIN_ENV: admin},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        port = next(json.loads(line)["port"] for line in process.stderr if '"listening"' in line)
        _until_running(port, admin, count)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def asked_s(connection: http.client.HTTPConnection, path: str, token: str, times: int) -> list[float]:
    """Seconds of each request, one after the other."""
    headers = {"Authorization": f"Bearer {token}"}
    found = []
    for _ in range(times):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        content = reply.read()
        found.append(time.perf_counter() - began)
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status} {content[:300]!r}")
    return found


def _until_running(port: int, admin: str, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    until = time.monotonic() + READY_WITHIN_S
    while True:
        connection.request("GET", "/api/v2/serve/status", headers={"Authorization": f"Bearer {admin}"})
        told = json.loads(connection.getresponse().read())
        if told["models"] == {"RUNNING": count} and len(told["applications"]) == count:
            break
        if time.monotonic() > until:
            raise SystemExit(f"the models do not run: {told['models']}")
        time.sleep(0.2)
    connection.close()
