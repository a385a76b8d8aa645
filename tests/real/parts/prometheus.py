"""A real Prometheus, Debian's package, on a port of its own; and promtool, which comes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.contract.platform_contract import free_port
from tests.real.parts.absence import PartMissing

START_S = 60.0
PACKAGE = "prometheus"


def promtool(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it. Raises PartMissing."""
    program = _program("promtool")
    return subprocess.run([program, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=60)


class Prometheus:
    """One that answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of a reply of its API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            told = json.load(reply)
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The value of each series now, by its labels."""
        result = self.ask("query", query=expression)["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in result}

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == "firing"}


@contextmanager
def running_prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """One with this configuration, gone at the end. Raises PartMissing."""
    port = free_port()
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config)))
    log = folder / "prometheus.log"
    words = [
        _program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as said, subprocess.Popen(words, stdout=said, stderr=said) as process:
        try:
            found = Prometheus(port)
            _await(found.ready, process, log)
            yield found
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"prometheus did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PartMissing(f"{name} is not installed: apt-get install -y {PACKAGE}")
    return found
