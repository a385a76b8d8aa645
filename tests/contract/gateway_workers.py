"""What the tests of several workers share: which worker answers on which connection, and which processes there are."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.contract.gateway_process import GatewayProcess, wait_until

__all__ = ["Way", "children_of", "events", "pids", "runs", "wait_until_gone", "ways"]


class Way:
    """A connection that is kept, so all of its requests reach one worker."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._url = gateway.url
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1))
        mark = uuid.uuid4().hex
        self.get("/ready", headers={"x-request-id": mark})
        found: list[int] = []
        wait_until(lambda: bool(found.extend(_served(gateway, mark)) or found))
        self.worker = found[0]

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._http.get(self._url + path, timeout=60, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self._http.post(self._url + path, json=body, timeout=60, **options)

    def delete(self, path: str) -> requests.Response:
        return self._http.delete(self._url + path, timeout=60)

    def close(self) -> None:
        self._http.close()


@contextlib.contextmanager
def ways(gateway: GatewayProcess, workers: int) -> Iterator[list[Way]]:
    """A connection to each worker, by its number. The gateway runs with `--access-log`."""
    found: dict[int, Way] = {}
    others: list[Way] = []
    try:
        while len(found) < workers:
            way = Way(gateway)
            others.append(way)
            found.setdefault(way.worker, way)
        yield [found[index] for index in range(workers)]
    finally:
        for way in others:
            way.close()


def events(gateway: GatewayProcess, name: str) -> list[dict[str, Any]]:
    """Lines of its log, by the name of the event."""
    found = []
    for line in list(gateway.said):
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == name:
                found.append(said)
    return found


def pids(gateway: GatewayProcess) -> dict[int, int]:
    """Worker → the process that listened last for it."""
    return {one["worker"]: one["pid"] for one in events(gateway, "worker_ready")}


def wait_until_gone(*numbers: int) -> None:
    """Until none of the processes runs, zombies of somebody else's apart."""
    wait_until(lambda: not any(runs(pid) for pid in numbers))


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _served(gateway: GatewayProcess, mark: str) -> list[int]:
    return [one["worker"] for one in events(gateway, "request") if one["request_id"] == mark]


def children_of(pid: int) -> list[int]:
    """The processes that it has started and not collected."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
