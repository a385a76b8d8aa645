"""Waiting until a service is ready: ends at once when it is ready, dead or hopeless, or when the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.errors import FailedError, MoorageError, NotReadyError, TryAgainError
from moorage.launch.entry import Entry
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms import NEAR_PLATFORMS
from moorage.launch.platforms.base import Life, Platform, Report
from moorage.launch.probe import Fetch, fetch_http, probe
from moorage.launch.readiness import SILENCE, Contract, Verdict
from moorage.launch.redact import redact

LOG_TAIL_LINES = 20
LIFE_EVERY_S = 0.5
"""How often the platform is asked whether the service lives: its death is told within 2 s."""
FAR_LIFE_EVERY_S = 2.0
"""Where asking means a login or a call over a network."""
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
    mend: Callable[[Entry, Life], Life] = lambda _entry, life: life
    """Starts a lost tunnel again."""
    learnt: dict[str, Any] = field(default_factory=dict)
    """Fields of the entry that the platform told meanwhile."""
    _life: Life | None = None

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
            every_s = LIFE_EVERY_S if self.entry.get("platform") in NEAR_PLATFORMS else FAR_LIFE_EVERY_S
            nowhere = self._life is None and not self.entry.get("host_url")
            if nowhere or self.clock.now_s() - asked_life >= every_s or verdict.state == "fatal":
                asked_life = self.clock.now_s()
                self._check_life()
            before, verdict = verdict, self._ask()
            now = self.clock.now_s()
            if verdict.state == "ready":
                if self._life is None and self.entry.get("platform") not in NEAR_PLATFORMS:
                    self._check_life()  # for the fields that only it tells
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
        verdict = probe(self.entry, self.contract, fetch=self.fetch, timeout_s=self.request_timeout_s)
        if verdict.state == "waiting" and verdict.reason in SILENCE and self._life is not None and self._life.detail:
            return Verdict("waiting", self._life.detail)
        return verdict

    def _check_life(self) -> None:
        life = self._life = self.mend(self.entry, self.platform.status([self.entry])[self.entry["job_id"]])
        self.learnt |= life.fields
        self.entry = {**self.entry, **life.fields}
        if life.state == "exited":
            raise self.failure(life.detail or "it is gone")
        if life.outlook == "failed":
            raise self.failure(life.detail or "it cannot come up", code="start_failed")
        if life.outlook == "no_capacity":
            raise TryAgainError(
                f"there is no room for the service {self.entry['job_id']}: {life.detail}",
                code="no_capacity",
                hint="ask for less, or try again when there is room",
            )

    def _not_ready(self, verdict: Verdict) -> NotReadyError:
        job_id = self.entry["job_id"]
        return NotReadyError(
            f"the service {job_id} was not ready within {self.timeout_s:g} s: {verdict.reason}",
            hint="it keeps running: wait on, look at its logs, or stop it",
            next=[f"moor wait {job_id}", f"moor logs {job_id}", f"moor stop {job_id}"],
            data={"job_id": job_id, "reason": verdict.reason},
        )
