"""Conversations with a real vLLM through the gateway: what is stored is what the engine itself reported.

Between gateway and engine stands an observer, which keeps the engine's own words for every call. Conversations are in
exact and in passthrough sessions and in trajectories of a gateway with and of one without a tokenizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.campaigns.conversations.observer import Observer
from tests.campaigns.conversations.plans import PLANS, Plan
from tests.campaigns.conversations.reports import Said, read_report
from tests.campaigns.conversations.stored import Comparison
from tests.campaigns.conversations.talk import Talk
from tests.campaigns.findings import Findings
from tests.campaigns.ledger import read_ledgers
from tests.campaigns.telling import Watch, unwatched
from tests.contract.gateway_process import GatewayProcess

__all__ = ["run_conversations"]

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"
AT_ONCE = 6
"""Conversations at a time."""
HOMES = ("exact", "passthrough", "trajectory", "trajectory passed through")


@dataclass
class Conversation:
    """One of them, played or not. `options`: of its session."""

    number: int
    plan: Plan
    home: str
    uid: str
    base_url: str
    options: dict[str, Any]
    talk: Talk | None = None
    views: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Its nodes (of sessions) and steps, as the gateway shows them."""


def run_conversations(folder: Path, engine_url: str, *, number: int, seed: int, watch: Watch = unwatched) -> Findings:
    """Play `number` of them against the engine, then compare. The stores are left in `folder`."""
    findings = watch(Findings("conversations with vLLM", seed))
    dice = random.Random(seed)
    observer = Observer(engine_url)
    try:
        with _gateways(folder, observer) as gateways:
            played = [_conversation(n, gateways, dice) for n in range(number)]
            asyncio.run(_play_all(played, findings, dice))
            for gateway in gateways:
                findings.check(gateway.stop() == 0, "a gateway did not end well")
        _write_down(folder / "said.json", played)
        _compare(folder, played, observer, findings)
    finally:
        observer.close()
    return findings


@contextlib.contextmanager
def _gateways(folder: Path, observer: Observer) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """One with a tokenizer and one without."""
    with contextlib.ExitStack() as stack:
        gateways = []
        for name, flags in (("exact", ("--tokenizer-path", str(NANO))), ("passthrough", ("--mode", "passthrough"))):
            # Of its engine a gateway's process is told the URL alone, and an observer has one too.
            gateway = GatewayProcess(observer, folder / f"{name}.db", "--upstream-timeout", "120", *flags)
            stack.callback(gateway.kill)
            gateways.append(gateway)
        yield gateways[0], gateways[1]


def _conversation(number: int, gateways: tuple[GatewayProcess, GatewayProcess], dice: random.Random) -> Conversation:
    """Every plan comes in every home in turn; the options are thrown."""
    plan, home = PLANS[number % len(PLANS)], HOMES[(number + number // len(PLANS)) % len(HOMES)]
    gateway = gateways[home == "trajectory passed through"]
    options: dict[str, Any] = {}
    if home in ("exact", "passthrough"):
        parser, keep = dice.choice(("qwen3", "qwen3", None)), dice.random() < 0.7
        options = {"mode": home, "reasoning_parser": parser, "preserve_think_blocks": keep}
        options["track_tree"] = dice.random() < 0.3
        made = gateway.post("/sessions/create", options)
        made.raise_for_status()
        return Conversation(number, plan, home, made.json()["uuid"], f"{gateway.url}/{made.json()['uuid']}/v1", options)
    made = gateway.post("/init_trajectory", {"prompt_uid": uuid.uuid4().hex})
    made.raise_for_status()
    return Conversation(number, plan, home, made.json()["trajectory_uid"], made.json()["openai_base_url"], options)


async def _play_all(played: Sequence[Conversation], findings: Findings, dice: random.Random) -> None:
    seeds = [dice.randrange(2**32) for _ in played]
    turnstile = asyncio.Semaphore(AT_ONCE)

    async def play(one: Conversation, seed: int) -> None:
        async with turnstile:
            name = f"{one.number} {one.plan.__name__} {one.home}"
            one.talk = Talk(name, one.base_url, random.Random(seed))
            try:
                await one.plan(one.talk)
            except Exception as fault:  # the others go on: a campaign tells all it found
                findings.fault(f"{name}, turn {len(one.talk.turns) - 1}: {type(fault).__name__}: {fault}")
            finally:
                await one.talk.close()
            await asyncio.to_thread(_look, one)

    await asyncio.gather(*(play(one, seed) for one, seed in zip(played, seeds, strict=True)))


def _look(one: Conversation) -> None:
    """The views, while the gateway runs."""
    root = one.base_url.partition("/")[0] + "//" + one.base_url.split("/")[2]
    one.views["steps"] = _get(f"{root}/pool/steps?trajectory_uid={one.uid}&limit=1000")["steps"]
    if one.options:
        one.views["nodes"] = _get(f"{root}/{one.uid}/nodes")["nodes"]


def _get(url: str) -> dict[str, Any]:
    reply = requests.get(url, timeout=60)
    reply.raise_for_status()
    return dict(reply.json())


def _write_down(file: Path, played: Sequence[Conversation]) -> None:
    """What was asked and heard, for whoever has to explain a fault."""
    said = {
        one.talk.name: {
            "uid": one.uid,
            "options": one.options,
            "turns": [
                {**vars(turn), "after": turn.after and (turn.after[0].tag, turn.after[1])} for turn in one.talk.turns
            ],
        }
        for one in played
        if one.talk is not None
    }
    file.write_text(json.dumps(said, indent=1, default=repr))


def _compare(folder: Path, played: Sequence[Conversation], observer: Observer, findings: Findings) -> None:
    reports = [report for exchange in observer.exchanges if (report := read_report(exchange)) is not None]
    said = Said(reports)
    findings.count("conversations", len(played))
    for name, mine in (("exact", lambda home: home != HOMES[3]), ("passthrough", lambda home: home == HOMES[3])):
        here = [one for one in played if mine(one.home)]
        ledgers = read_ledgers(folder / f"{name}.db", [one.uid for one in here], findings)
        for one in here:
            if one.talk is not None and one.uid in ledgers:
                Comparison(one.talk, one.options, one.views, ledgers[one.uid], said, findings).run()
    left = sum(turn.left for one in played if one.talk is not None for turn in one.talk.turns)
    findings.count("samples of the engine in no record", len(said.rest()))
    findings.check(len(said.rest()) <= left, f"{len(said.rest())} samples are in no record, and {left} clients left")
