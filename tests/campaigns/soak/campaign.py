"""The soak: calibrate, hold half of it, be quiet, compare."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.campaigns.findings import Findings
from tests.campaigns.soak.comparing import compare_log, compare_store
from tests.campaigns.soak.crowd import Crowd
from tests.campaigns.soak.engine import NANO
from tests.campaigns.soak.gauges import Reading, metrics_of, read_gauges
from tests.campaigns.soak.load import Load
from tests.campaigns.soak.progress import Progress
from tests.campaigns.soak.quarters import Quarters
from tests.campaigns.soak.wire import Wire
from tests.contract.gateway_process import ROOT, GatewayProcess, StubThread
from tests.real.parts.postgres import Postgres

__all__ = ["SoakPlan", "run_soak"]

SESSION_TTL_S = 15
UPSTREAM_TIMEOUT_S = 3
QUIET_WITHIN_S = 60.0
END_WITHIN_S = 90.0
FLAGS = ("--tokenizer-path", str(NANO), "--pool-max-attempts", "1000", "--upstream-timeout", str(UPSTREAM_TIMEOUT_S))
FLAGS = (*FLAGS, "--session-ttl", str(SESSION_TTL_S))
IDLE = ("moorage_calls_in_flight", "moorage_upstream_requests_in_flight", "moorage_upstream_requests_waiting")
"""Gauges that are 0 when nobody asks."""
KEPT = ("engine descriptors", "store descriptors")
"""Are opened when they are first needed, and kept."""
STORE_FILES_A_WORKER = 24


@dataclass(frozen=True)
class SoakPlan:
    """`share`: of what the gateway can take. `calibrate_s`: how long it is found out."""

    minutes: float = 60.0
    workers: int = 1
    clients: int = 48
    share: float = 0.5
    calibrate_s: float = 20.0
    db: str | None = None
    """None: a file in the folder."""


def run_soak(folder: Path, plan: SoakPlan, *, seed: int, server: Postgres | None = None) -> Findings:
    """Hold `plan`, and say what grew, leaked, was lost or was not expected. The store is left in `folder`."""
    findings = Findings(f"{plan.minutes:g} minutes of soak, workers: {plan.workers}", seed)
    file = folder / "gateway.db"
    db = plan.db or (f"sqlite:///{file}" if server is None else server.url(server.new_schema()))
    probe = folder / "probe"
    probe.mkdir()
    with _engines() as urls:
        whom = ("--upstream", ",".join(urls))
        inside = ("env", f"PYTHONPATH={Path(__file__).parent / 'inside'}:{ROOT}", f"MOORAGE_SOAK_PROBE={probe}")
        flags = (*FLAGS, "--workers", str(plan.workers), "--db", db)
        # No stub of this process: the engines have one of their own.
        gateway = GatewayProcess(cast(StubThread, None), file, *flags, whom=whom, prefix=inside)
        try:
            gateway.http.close()  # its connection would count as open
            load = Load(gateway.port, findings, [int(url.rpartition(":")[2].removesuffix("/v1")) for url in urls])
            soak = _Soak(plan, gateway, load, probe, file if db.startswith("sqlite") else None)
            asyncio.run(soak.run(random.Random(seed)))
            status = gateway.stop()
            findings.check(status == 0, f"the gateway ended with status {status}")
        finally:
            gateway.kill()
    compare_log(gateway.said, findings)
    compare_store(db, load)
    return findings


class _Soak:
    """One gateway under load."""

    def __init__(self, plan: SoakPlan, gateway: GatewayProcess, load: Load, probe: Path, file: Path | None) -> None:
        self._plan, self._gateway, self._load, self._probe, self._file = plan, gateway, load, probe, file
        self._wire = Wire(gateway.port)
        self._progress = Progress(plan.minutes * 60)
        self._quarters = Quarters(load)

    async def run(self, dice: random.Random) -> None:
        """Findings are in the load's."""
        load, plan = self._load, self._plan
        async with self._crowd(dice):
            can_take = await self._calibrate()
        before = await self._quiet(None)
        load.pace.calls_s, load.faulty = can_take * plan.share, True
        async with self._crowd(dice):
            await self._hold(plan.minutes * 60, can_take)
        after = await self._quiet(before)
        self._compare(before, after)
        self._wire.close()

    @contextlib.asynccontextmanager
    async def _crowd(self, dice: random.Random) -> AsyncIterator[None]:
        """All clients, until what is inside is over."""
        crowd = Crowd(self._load, self._plan.clients, dice)
        crowd.start()
        try:
            yield
        finally:
            async with asyncio.timeout(END_WITHIN_S):
                await crowd.end()

    async def _calibrate(self) -> float:
        """Calls a second that it can take: what it answers without a pace, and as much more as leaves it idle."""
        await asyncio.sleep(self._plan.calibrate_s / 4)  # first sessions wait for proofs and caches
        first, calls = await self._read(), self._load.calls
        await asyncio.sleep(self._plan.calibrate_s * 3 / 4)
        last = await self._read()
        elapsed_s = last.at - first.at
        reached = (self._load.calls - calls) / elapsed_s
        busy = (last.cpu_s - first.cpu_s) / elapsed_s / self._plan.workers
        self._load.findings.count("calls a second without a pace, for calibration", round(reached))
        self._load.findings.count("of each worker's core, % then", round(100 * busy))
        return reached / min(1.0, busy)

    async def _hold(self, length_s: float, can_take: float) -> None:
        load = self._load
        load.findings.count("calls a second that it can take", round(can_take))
        load.findings.count("calls a second asked for", round(load.pace.calls_s or 0))
        began, calls = time.monotonic(), load.calls
        self._quarters.begin(await self._read())
        every_s = min(5.0, length_s / 40)
        for quarter in range(4):
            until = began + length_s * (quarter + 1) / 4
            while time.monotonic() < until:
                await asyncio.sleep(min(every_s, max(0.0, until - time.monotonic())))
                self._quarters.add(await self._read(), metrics_of(await self._metrics()))
                self._progress.tell(time.monotonic() - began, self._quarters.line())
            self._quarters.end_one()
        load.findings.count("calls a second held", round((load.calls - calls) / (time.monotonic() - began)))
        load.findings.tables.append(self._quarters.table())
        if length_s >= 300:
            self._quarters.check_memory()

    async def _quiet(self, goal: Reading | None) -> Reading:
        """Gauges when nobody asks any more; as soon as they are not above the goal, else when the time is over."""
        until = time.monotonic() + QUIET_WITHIN_S
        settled = 0
        while True:
            metrics = metrics_of(await self._metrics())
            reading = await self._read()
            idle = not any(metrics[name] for name in IDLE) and metrics["moorage_connections_open"] <= 1
            settled = settled + 1 if idle else 0
            if settled and (settled > 5 if goal is None else not _above(goal, reading)):
                return reading
            if time.monotonic() > until:
                for name in IDLE:
                    self._load.findings.check(metrics[name] == 0, f"{name} is {metrics[name]} when nobody asks")
                return reading
            await asyncio.sleep(0.3)

    def _compare(self, before: Reading, after: Reading) -> None:
        findings = self._load.findings
        for what, was, now in _above(before, after):
            findings.fault(f"{what}: {was} before, {now} after the load, when nobody asks")
        total = (sum(after.descriptors.values()), sum(after.tasks.values()), after.threads)
        for name, number in zip(("descriptors", "asyncio tasks", "threads"), total, strict=True):
            findings.count(f"{name} at the end, when nobody asks", number)
        held = after.descriptors["engine"]
        allowed = 2 * self._plan.clients * self._plan.workers
        findings.check(held <= allowed, f"{held} connections to engines are kept")
        files = after.descriptors["store"]
        findings.check(files <= STORE_FILES_A_WORKER * self._plan.workers, f"{files} descriptors of the store are open")

    async def _read(self) -> Reading:
        return await read_gauges(self._gateway.process.pid, self._probe, self._file, {*self._load.engine_ports})

    async def _metrics(self) -> str:
        return (await self._load.ask(self._wire, "GET", "/metrics")).body.decode()


def _above(before: Reading, after: Reading) -> list[tuple[str, int, int]]:
    """What there is more of, but of what is kept for reuse."""
    found = [("threads", before.threads, after.threads)]
    found += [(f"{kind} descriptors", before.descriptors[kind], after.descriptors[kind]) for kind in after.descriptors]
    found += [(f"asyncio tasks {name}", before.tasks[name], after.tasks[name]) for name in after.tasks]
    return [one for one in found if one[2] > one[1] and one[0] not in KEPT]


@contextlib.contextmanager
def _engines() -> Iterator[list[str]]:
    words = [sys.executable, "-m", "tests.campaigns.soak.engine", "--pace-ms", "1"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["urls"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
