"""Turn 200 of a session against turn 5: what a call costs above a pass-through of the same bodies, and what it stores.

Half of the sessions stand shortly before turn 5, half before turn 200. A round takes each half one turn further, and
sends the same bodies by model name as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import uvloop

from bench.gateway.accounting import tree_cpu_s
from bench.gateway.load import BARRIER, Ask, Report, Script, run_load
from bench.gateway.rounds import order_of_round
from bench.gateway.scripts import CHAT, chat_body, make_session
from bench.gateway.speech import SAMPLED_TOKENS, Speech, wide_answer
from bench.gateway.stacks.contract import Running
from bench.gateway.stored import read_stored
from bench.gateway.turns import NEW_TOKENS, prompt_tokens, variant_of

__all__ = ["BYTES_BUDGET", "LongSessions", "long_bodies", "run_long_sessions"]

EARLY, LATE = 5, 200
TURNS_MEASURED = 5
"""Around each of the two: one a round."""
BYTES_BUDGET = 4 * NEW_TOKENS + 12 * SAMPLED_TOKENS + 700
USER_TOKENS = 55


@dataclass(slots=True)
class LongSessions:
    """[rounds] by turn: 5 and 200."""

    mode: str
    captured_us: dict[int, list[float]] = field(default_factory=lambda: {EARLY: [], LATE: []})
    passed_us: dict[int, list[float]] = field(default_factory=lambda: {EARLY: [], LATE: []})
    record_bytes: dict[int, list[float]] = field(default_factory=lambda: {EARLY: [], LATE: []})
    """Of a call: ids, log probabilities, indexes, bookkeeping."""
    text_bytes: dict[int, list[float]] = field(default_factory=lambda: {EARLY: [], LATE: []})
    calls: int = 0
    """That were answered."""
    errors: int = 0
    faults: list[str] = field(default_factory=list)

    def above_us(self, turn: int) -> float:
        """Microseconds of CPU that capture adds to a pass-through."""
        pairs = zip(self.captured_us[turn], self.passed_us[turn], strict=True)
        return statistics.median(captured - passed for captured, passed in pairs)

    def ratio(self) -> float:
        return self.above_us(LATE) / self.above_us(EARLY)


def long_bodies(speech: Speech, mode: str) -> list[bytes]:
    """[turns] requests of one conversation, whose answers the stub's are; the first is turn 1.

    `user` tells the stub the turn, for the ids that an engine renders.
    """
    texts = [speech.answer(seed).text for seed in range(16)] if mode == "exact" else [wide_answer(1).text] * 16
    messages: list[dict[str, str]] = []
    bodies = []
    for turn in range(1, LATE + TURNS_MEASURED):
        messages.append({"role": "user", "content": speech.user_text(2000 + turn, USER_TOKENS)})
        bodies.append(chat_body(messages, user=f"turn-{turn}"))
        messages.append({"role": "assistant", "content": texts[variant_of(prompt_tokens(turn))]})
    return bodies


def run_long_sessions(mode: str, running: Running, bodies: list[bytes], sessions: int, rounds: int) -> LongSessions:
    """Grow the sessions, then measure; `rounds` at most the turns that are measured."""
    result = LongSessions(mode)
    offset = TURNS_MEASURED // 2
    grown = {turn: _grow(mode, running, bodies[: turn - offset - 1], sessions, result) for turn in (EARLY, LATE)}
    for number in range(min(rounds, TURNS_MEASURED)):
        for step in order_of_round([f"{turn}" for turn in grown], number):
            turn = int(step)
            body = bodies[turn - offset - 1 + number]
            steps: list[Callable[[], None]] = [
                partial(_captured, running, grown[turn], body, turn, result),
                partial(_passed, running, body, sessions, turn, result),
            ]
            for measure in steps if number % 2 == 0 else reversed(steps):
                measure()
    return result


def _grow(mode: str, running: Running, bodies: list[bytes], sessions: int, result: LongSessions) -> list[str]:
    """New sessions that have had these turns; their ids."""
    uuids: list[str] = []
    create = f'{{"mode":"{mode}"}}'.encode()

    def script() -> Script:
        uuid = yield from make_session(create)
        uuids.append(uuid)
        for body in bodies:
            yield Ask(f"/{uuid}{CHAT}", body)

    uvloop.run(run_load(running.port, [script() for _ in range(sessions)]))
    result.calls += sessions * len(bodies)
    return uuids


def _captured(running: Running, uuids: list[str], body: bytes, turn: int, result: LongSessions) -> None:
    assert running.store
    before = read_stored(running.store)
    report = _once(running, [f"/{uuid}{CHAT}" for uuid in uuids], body, result)
    after = read_stored(running.store)
    result.calls += report.requests
    result.captured_us[turn].append((report.cpu_s or 0.0) / max(report.requests, 1) * 1e6)
    result.record_bytes[turn].append((after.record_bytes - before.record_bytes) / len(uuids))
    result.text_bytes[turn].append((after.text_bytes - before.text_bytes) / len(uuids))


def _passed(running: Running, body: bytes, clients: int, turn: int, result: LongSessions) -> None:
    report = _once(running, [CHAT] * clients, body, result)
    result.passed_us[turn].append((report.cpu_s or 0.0) / max(report.requests, 1) * 1e6)


def _once(running: Running, paths: list[str], body: bytes, result: LongSessions) -> Report:
    """One request a connection, all at once, on connections that are open."""

    def script(path: str) -> Script:
        yield Ask("/v1/models")
        yield BARRIER
        yield Ask(path, body)

    read_cpu = partial(tree_cpu_s, running.process.pid)
    report = uvloop.run(run_load(running.port, [script(path) for path in paths], read_cpu))
    result.errors += report.errors
    result.faults += report.faults
    return report
