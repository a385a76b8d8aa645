"""kill -9 of the gateway, of its workers or its database, at random under load: what a client has got to its last byte
is stored, once.

The engine is a stub whose replies can be told apart, so the store can be compared with what each client was answered
and with what the engine was asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.campaigns.findings import Findings
from tests.campaigns.kills.clients import Clients
from tests.campaigns.kills.numbered_engine import NumberedEngine, number_in
from tests.campaigns.kills.victims import Victim, victim_of
from tests.campaigns.ledger import Ledger, read_ledgers
from tests.campaigns.telling import Watch, unwatched
from tests.contract.gateway_process import GatewayProcess, StubThread
from tests.real.parts.postgres import Postgres
from tests.stand_ins.engine_stub import Fault

__all__ = ["run_kills"]

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"
PACE_S = 0.002
LEASE_S = 2.0
LIVES_S = (0.05, 1.5)
"""How long the gateway lives under load before it is killed."""
DRAIN_WITHIN_S = 120
FLAGS = ("--tokenizer-path", str(NANO), "--pool-max-attempts", "1000", "--upstream-timeout", "30")


def run_kills(
    folder: Path,
    *,
    number: int,
    seed: int,
    what: str = "gateway",
    workers: int = 1,
    server: Postgres | None = None,
    watch: Watch = unwatched,
) -> Findings:
    """Kill `what` (see `victims`) `number` times, then let every client finish, and compare.

    The store is left in `folder`; `server`: it is in a schema of its own there.
    """
    many = "" if workers == 1 else f" with {workers} workers"
    whom = "gateway" if what == "gateway" else f"{what} of a gateway"
    findings = watch(Findings(f"kill -9 of the {whom}{many}", seed))
    engine = NumberedEngine(NANO)
    stub = StubThread(engine)
    stub.stub.pace_s = PACE_S
    db = f"sqlite:///{folder / 'gateway.db'}" if server is None else server.url(server.new_schema())
    try:
        trial = _Trial(db, stub, engine, findings, workers)
        trial.victim = victim_of(what, trial.start, server)
        clients = asyncio.run(trial.run(number, random.Random(seed)))
    finally:
        stub.close()
    _compare(db, clients)
    return findings


class _Trial:
    """One gateway after the other, on one port and one store."""

    victim: Victim

    def __init__(self, db: str, stub: StubThread, engine: NumberedEngine, findings: Findings, workers: int) -> None:
        self._db, self._stub, self._engine, self._findings = db, stub, engine, findings
        self._workers = workers
        self._gateway: GatewayProcess

    async def run(self, kills: int, dice: random.Random) -> Clients:
        self._gateway = await asyncio.to_thread(self.start, 0)
        try:
            clients = Clients(
                self._gateway.url,
                self._engine,
                self._findings,
                delay=lambda after_s: self._stub.stub.faults.append(Fault("slow", after=after_s)),
                moves=self._workers > 1,
            )
            makers = [asyncio.create_task(work) for work in _makers(clients, dice)]
            trainers = [asyncio.create_task(work) for work in _trainers(clients, dice)]
            await self._kill_again_and_again(clients, [*makers, *trainers], kills, dice)
            clients.ending.set()
            async with asyncio.timeout(DRAIN_WITHIN_S):
                await asyncio.gather(*makers)
                clients.all_made.set()
                await asyncio.gather(*trainers)
            status = await asyncio.to_thread(self._gateway.stop)
            self._findings.check(status == 0, f"the last gateway ended with status {status}")
        finally:
            await asyncio.to_thread(self._gateway.kill)
        return clients

    async def _kill_again_and_again(
        self, clients: Clients, tasks: list[asyncio.Task[None]], kills: int, dice: random.Random
    ) -> None:
        for _ in range(kills):
            clients.runs += 1
            clients.up.set()
            told, waits = len(clients.answered), dice.random() < 0.75
            await asyncio.sleep(dice.uniform(*LIVES_S) if waits else 0.0)
            while waits and len(clients.answered) == told:  # mostly it is to have answered something
                _raise_failed(tasks)
                await asyncio.sleep(0.01)
            self._gateway = await self.victim.kill(self._gateway, clients, dice)
            self._findings.count("kills")
        clients.runs += 1
        clients.up.set()

    def start(self, port: int) -> GatewayProcess:
        """A gateway over the store, when it is ready."""
        flags = [*FLAGS, "--port", str(port), "--workers", str(self._workers), "--db", self._db]
        return GatewayProcess(self._stub, Path("unused"), *flags)


def _makers(clients: Clients, dice: random.Random) -> list[Coroutine[Any, Any, None]]:
    def seed() -> int:
        return dice.randrange(2**32)

    return [
        *(clients.agent(f"exact {n}", mode="exact", seed=seed()) for n in range(3)),
        *(clients.agent(f"passthrough {n}", mode="passthrough", seed=seed()) for n in range(3)),
        *(clients.rollout(f"rollout {n}", seed=seed()) for n in range(3)),
        clients.submitter(seed=seed()),
    ]


def _trainers(clients: Clients, dice: random.Random) -> list[Coroutine[Any, Any, None]]:
    return [clients.trainer(f"trainer {n}", lease_s=LEASE_S, seed=dice.randrange(2**32)) for n in range(2)]


def _raise_failed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _compare(db: str, clients: Clients) -> None:
    """The store with what clients were answered and the engine was asked."""
    findings, engine = clients.findings, clients.engine
    uids = list(dict.fromkeys(answered.uid for answered in clients.answered))
    ledgers = read_ledgers(db, uids, findings)
    stored: Counter[tuple[str, int, int]] = Counter()
    of_tag: dict[str, set[int]] = {}
    for ledger in ledgers.values():
        for number, choice in _numbers(ledger, engine, findings):
            stored[ledger.uid, number, choice] += 1
            of_tag.setdefault(engine.asked[number].tag, set()).add(number)
    for place, times in stored.items():
        findings.check(times == 1, f"{place} (session, number, choice) is stored {times} times")
    for answered in clients.answered:
        for choice in range(answered.choices):
            findings.check(stored[answered.uid, answered.number, choice] == 1, f"{answered} lacks choice {choice}")
        findings.check(of_tag.get(answered.tag) == {answered.number}, f"{answered}: {of_tag.get(answered.tag)} stored")
    findings.count("replies whose last byte came", len(clients.answered))
    findings.count("of these, stored exactly once", _once(clients, of_tag))
    findings.count("calls of the engine", len(engine.asked))
    findings.count("calls stored", sum(stored.values()))
    _compare_steps(db, clients)
    findings.count("groups complete", len(clients.complete))
    findings.count("groups acked, none delivered again", len(clients.acked))
    findings.check(clients.acked == clients.complete.keys(), "some complete groups were never acked")


def _numbers(ledger: Ledger, engine: NumberedEngine, findings: Findings) -> list[tuple[int, int]]:
    """(number, choice) of each delivered call, whose tokens are compared with the engine's on the way."""
    found: list[tuple[int, int]] = []
    for call in ledger.calls:
        text = engine.text(call.completion)
        delivered = call.record.delivered
        if not findings.check(" of choice " in text or not delivered, f"{ledger.uid}: call {call.seq} says {text!r}"):
            continue
        if not delivered:
            findings.count("calls kept as undelivered")
            continue
        number, choice = number_in(text)
        same = engine.asked[number].prompt == call.prompt
        findings.check(same, f"{ledger.uid}: the prompt of call {call.seq} is not the one that the engine was given")
        findings.check(
            call.logprobs is not None and len(call.logprobs) == len(call.completion), f"{ledger.uid}: logprobs"
        )
        findings.check(choice == call.record.choice, f"{ledger.uid}: call {call.seq} is choice {choice}")
        # Each turn goes on from the reply before it, whichever worker has that: a copy that is behind would branch.
        findings.check(call.record.verdict != "branch", f"{ledger.uid}: call {call.seq} is a branch")
        findings.count("of these, exact continuations", int(call.record.verdict == "exact"))
        found.append((number, choice))
    return found


def _once(clients: Clients, of_tag: dict[str, set[int]]) -> int:
    return sum(of_tag.get(answered.tag) == {answered.number} for answered in clients.answered)


def _compare_steps(db: str, clients: Clients) -> None:
    findings = clients.findings
    uids = list(dict.fromkeys(uid for uid, _ in clients.submitted))
    found: Counter[tuple[str, int]] = Counter()
    for ledger in read_ledgers(db, uids, findings).values():
        for call in ledger.calls:
            place = (ledger.uid, call.record.step_index or 0)
            found[place] += 1
            step = clients.submitted.get(place)
            if findings.check(step is not None, f"the step {place} was never submitted") and step is not None:
                same = (call.prompt, call.completion) == (step["prompt_ids"], step["response_ids"])
                findings.check(same and call.logprobs == step["rollout_log_probs"], f"the step {place} is another one")
    findings.check(found == Counter(clients.submitted.keys()), "the steps stored are not those submitted, once each")
    findings.count("steps submitted, stored exactly once", len(found))
