"""A gateway as a process of its own, in front of a stub engine that runs in a thread of the test.

    with running_gateway(tmp_path) as gateway:
        gateway.stub.faults.append(Fault("close"))
        gateway.post("/init_trajectory")

Each gateway has a store and a port of its own; it is killed at the end, and `stop()` ends it as a service manager does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

from tests.contract.server_lines import ServerLines
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.engine_stub import EngineStub, Fault, Replier, Seen

ROOT = Path(__file__).resolve().parents[2]
END_WITHIN_S = 60
MODEL = "stub"


class StubThread:
    """The stub engine in a thread; `faults` spoil the next model requests, `requests` has what came."""

    def __init__(self, replies: Replier | None = None, *, models: tuple[str, ...] = (MODEL,)) -> None:
        self._loop = asyncio.new_event_loop()
        small = CannedReplies(models[0], prompt_ids=12, sampled=6)
        self.stub = EngineStub(replies or small, models=models)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.stub.start())

    @property
    def url(self) -> str:
        return self.stub.url

    @property
    def requests(self) -> list[Seen]:
        return self.stub.requests

    def spoil(self, *faults: Fault) -> None:
        """What happens to the next model requests."""
        self.stub.faults.extend(faults)

    def heal(self) -> None:
        """Forget faults that no request has met."""
        self.stub.faults.clear()

    def call(self, work: Any) -> Any:
        """The result of a coroutine, run where the stub runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def vanish(self) -> None:
        """Stop listening and drop every connection, as an engine that was killed."""
        self.call(self.stub.close())

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self.call(self.stub.start(self.stub.port))

    def close(self) -> None:
        """Gone for good."""
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class GatewayProcess:
    """`moor gateway` on a free port. `url` is where it answers; `whom`: the flags that name engines, else the stub."""

    def __init__(
        self,
        stub: StubThread,
        db: Path,
        *flags: str,
        whom: Sequence[str] = (),
        until_ready: bool = True,
        prefix: Sequence[str] = (),
        address: str = "127.0.0.1",
    ) -> None:
        """`prefix`: words before the command, which run it elsewhere; `address`: where it answers then."""
        self._address = address
        self.stub = stub
        self.db = db
        asked = whom or ("--upstream", stub.url)
        words = ["gateway", "--port", "0", *asked, "--db", f"sqlite:///{db}", "--json", *flags]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "moorage.cli.main", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self._lines = ServerLines(self.process.stderr)
        self.said = self._lines.said
        self.http = requests.Session()
        self.url = self._listening()
        if until_ready:
            wait_until(lambda: self.get("/ready").status_code == 200)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._ask("GET", path, options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """`body`: bytes as they are, anything else as JSON, None none."""
        if isinstance(body, bytes):
            options["data"] = body
        elif body is not None:
            options["json"] = body
        return self._ask("POST", path, options)

    def delete(self, path: str) -> requests.Response:
        return self._ask("DELETE", path, {})

    def stop(self) -> int:
        """Tell it to end and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_WITHIN_S)

    def kill(self) -> None:
        """End it as a crash does, if it still runs."""
        self.http.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_WITHIN_S)

    def _ask(self, method: str, path: str, options: dict[str, Any]) -> requests.Response:
        address = path if path.startswith("http://") else self.url + path
        return self.http.request(method, address, timeout=60, **options)

    def _listening(self) -> str:
        port = self._lines.listening_port()
        if port is None:
            self.kill()
            raise AssertionError(f"the gateway did not start: {''.join(self.said)}")
        return f"http://{self._address}:{port}"


@contextlib.contextmanager
def running_gateway(
    folder: Path, *flags: str, replies: Replier | None = None, whom: Sequence[str] = ()
) -> Iterator[GatewayProcess]:
    """A gateway and its stub, both gone at the end; the store stays in `folder`."""
    stub = StubThread(replies)
    try:
        gateway = GatewayProcess(stub, folder / "gateway.db", "--upstream-timeout", "3", *flags, whom=whom)
        try:
            yield gateway
        finally:
            gateway.kill()
    finally:
        stub.close()


def wait_until(condition: Callable[[], bool], *, within_s: float = 60, pause_s: float = 0.02) -> None:
    """Ask until it is so: for what another process does, which no event tells of."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"not so within {within_s} s")
        time.sleep(pause_s)
