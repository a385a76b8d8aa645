"""An upstream that comes and goes, each time in another way."""

from __future__ import annotations

import random
import threading

from tests.contract.gateway_process import StubThread
from tests.stand_ins.engine_stub import Fault

__all__ = ["Flapping"]

WAYS = ("gone", "status", "closes", "dies", "unhealthy", "garbage")


class Flapping:
    """It runs in a thread of its own until `stop`; `times` is how often it was out."""

    def __init__(self, stub: StubThread, seed: int) -> None:
        self._stub, self._random = stub, random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.times = 0
        self._thread.start()

    def stop(self) -> None:
        """From now on it is well."""
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.is_set():
            way = self._random.choice(WAYS)
            self.times += 1
            if way == "gone":
                self._stub.vanish()
            elif way == "unhealthy":
                self._stub.stub.healthy = False
                self._stub.spoil(*[Fault("status", 503)] * 20)
            else:
                self._stub.spoil(*[self._fault(way) for _ in range(20)])
            self._over.wait(self._random.uniform(0.01, 0.15))
            if way == "gone":
                self._stub.come_back()
            self._stub.stub.healthy = True
            self._stub.heal()
            self._over.wait(self._random.uniform(0.01, 0.15))

    def _fault(self, way: str) -> Fault:
        if way == "status":
            return Fault("status", self._random.choice((500, 502, 503, 504)))
        return Fault({"closes": "close", "dies": "die", "garbage": "garbage"}[way], after=0)  # type: ignore[arg-type]
