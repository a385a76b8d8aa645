"""Waiting until a service is ready: ends at once when it is ready, dead or hopeless, or when the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorage.errors import FailedError, MoorageError, NotReadyError
from moorage.launch.entry import Entry
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms.base import Life, Platform, Report
from moorage.launch.probe import Fetch, fetch_http, probe
from moorage.launch.readiness import Contract, Verdict
from moorage.launch.redact import redact

LOG_TAIL_LINES = 20
LIFE_EVERY_S = 0.5
"""How often the platform is asked whether the service lives: its death is told within 2 s."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
TELL_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, as waiting needs it."""

    now_s: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Wait:
    """One wait for one service. Run it with `until_ready`."""

    entry: Entry
    platform: Platform
    contract: Contract
    timeout_s: float
    request_timeout_s: float
    report: Report
    secrets: Mapping[str, str]
    fetch: Fetch = fetch_http
    clock: Clock = Clock()

    def until_ready(self) -> float:
        """Seconds it took.

        Raises FailedError with `data["log_tail"]` when it died or gave a fatal reason, NotReadyError when the time
        is over: then the service is left as it is.
        """
        begun = self.clock.now_s()
        asked_life = told = begun
        pause_s = FIRST_PAUSE_S
        verdict = Verdict("waiting", None)
        while True:
            raise_if_interrupted()
            if self.clock.now_s() - asked_life >= LIFE_EVERY_S or verdict.state == "fatal":
                asked_life = self.clock.now_s()
                self._check_life()
            before, verdict = verdict, self._ask()
            now = self.clock.now_s()
            if verdict.state == "ready":
                return now - begun
            if verdict.state == "fatal":
                raise self.failure(f"the server reported {verdict.reason}", code=str(verdict.reason))
            if verdict.reason != before.reason or now - told >= TELL_EVERY_S:
                told = now
                self.report("wait", verdict.reason or "waiting", waited_s=round(now - begun, 1))
            if now - begun >= self.timeout_s:
                self._check_life()
                raise self._not_ready(verdict)
            self.clock.pause(min(pause_s, max(0.0, begun + self.timeout_s - now)))
            pause_s = min(pause_s * 1.3, LONGEST_PAUSE_S)

    def failure(self, what: str, *, code: str = "service_died") -> FailedError:
        """The error that tells what happened, with the last lines of the log."""
        tail = self.log_tail()
        job_id = self.entry["job_id"]
        return FailedError(
            f"the service {job_id} failed: {what}",
            code=code,
            hint="the last lines of its log say more" if tail else "it wrote nothing to its log",
            data={"log_tail": tail, "job_id": job_id},
        )

    def log_tail(self) -> list[str]:
        """Its last lines, at most 20, without secrets; empty when they cannot be had."""
        try:
            lines = list(self.platform.logs(self.entry, tail=LOG_TAIL_LINES, follow=False))
        except MoorageError:
            return []
        return list(redact(lines, self.secrets))[-LOG_TAIL_LINES:]

    def _ask(self) -> Verdict:
        return probe(self.entry, self.contract, fetch=self.fetch, timeout_s=self.request_timeout_s)

    def _check_life(self) -> None:
        life: Life = self.platform.status([self.entry])[self.entry["job_id"]]
        if life.state == "exited":
            raise self.failure(life.detail or "it is gone")

    def _not_ready(self, verdict: Verdict) -> NotReadyError:
        job_id = self.entry["job_id"]
        return NotReadyError(
            f"the service {job_id} was not ready within {self.timeout_s:g} s: {verdict.reason}",
            hint="it keeps running: wait on, look at its logs, or stop it",
            next=[f"moor wait {job_id}", f"moor logs {job_id}", f"moor stop {job_id}"],
            data={"job_id": job_id, "reason": verdict.reason},
        )
