"""Clients of a gateway that is killed again and again: agents in sessions and trajectories, submitters, trainers.

Each knows what it was answered to the last byte, and asks again, as OpenAI's SDK does, what it was not.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.campaigns.findings import Findings
from tests.campaigns.kills.numbered_engine import NumberedEngine, number_in

__all__ = ["Answered", "Clients"]

ASK_WITHIN_S = 60.0


@dataclass(frozen=True)
class Answered:
    """A model call whose last byte came. `numbers`: of its choices, all of one request of the engine."""

    uid: str
    tag: str
    number: int
    choices: int


@dataclass
class Clients:
    """What all clients share. `up`: the gateway listens; `runs`: how often it was started."""

    url: str
    engine: NumberedEngine
    findings: Findings
    delay: Callable[[float], None]
    """Make the engine slow for one request, for so many seconds."""
    moves: bool = False
    """Each request goes over a connection of its own, so to any worker."""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing new is begun."""
    all_made: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no more groups will be complete."""
    runs: int = 0
    answered: list[Answered] = field(default_factory=list)
    submitted: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    complete: dict[str, str] = field(default_factory=dict)
    """prompt_uid → trajectory_uid of what is ready for a trainer."""
    acked: set[str] = field(default_factory=set)

    async def agent(self, name: str, *, mode: str, seed: int) -> None:
        """Conversations in sessions, one after the other."""
        dice = random.Random(seed)
        async with self._http() as http:
            while not self.ending.is_set():
                made = await self._ask(http, "/sessions/create", {"mode": mode})
                await self._converse(http, made["uuid"], f"/{made['uuid']}/v1/chat/completions", name, dice)

    async def rollout(self, name: str, *, seed: int) -> None:
        """Conversations in trajectories, each completed with a reward."""
        dice = random.Random(seed)
        async with self._http() as http:
            while not self.ending.is_set():
                made = await self._ask(http, "/init_trajectory", {"prompt_uid": uuid.uuid4().hex})
                base = f"/{made['trajectory_uid']}/{made['prompt_uid']}/v1"
                await self._ask(http, f"{base}/register_trajectory", {"metadata": {"policy_version": 3}})
                await self._converse(http, made["trajectory_uid"], f"{base}/chat/completions", name, dice)
                await self._ask(http, f"{base}/complete_trajectory", {"reward": 0.5})
                self.complete[made["prompt_uid"]] = made["trajectory_uid"]

    async def submitter(self, *, seed: int) -> None:
        """Steps that an agent made elsewhere; a batch that was not answered is sent again as it was."""
        dice = random.Random(seed)
        async with self._http() as http:
            while not self.ending.is_set():
                uid, prompt_uid, length = uuid.uuid4().hex, uuid.uuid4().hex, dice.randrange(1, 5)
                steps: list[dict[str, Any]] = [
                    {
                        "trajectory_uid": uid,
                        "prompt_uid": prompt_uid,
                        "step_index": index,
                        "prompt_ids": [dice.randrange(500) for _ in range(20)],
                        "response_ids": [dice.randrange(500) for _ in range(5)],
                        "rollout_log_probs": [-dice.random() for _ in range(5)],
                        "is_last": index == length - 1,
                    }
                    for index in range(length)
                ]
                said = await self._ask(http, "/submit_steps", {"steps": steps})
                self.findings.check(
                    said["accepted"] == length and said["duplicates"] in (0, length), f"submit of {uid} said {said}"
                )
                self.findings.count("batches of steps found stored when sent again", int(said["duplicates"] > 0))
                self.submitted |= {(uid, step["step_index"]): step for step in steps}
                self.complete[prompt_uid] = uid
                await asyncio.sleep(dice.random() * 0.05)

    async def trainer(self, name: str, *, lease_s: float, seed: int) -> None:
        """Leases groups, acks most, gives some back, lets some expire; at the end until all are acked."""
        dice = random.Random(seed)
        async with self._http() as http:
            while not (self.all_made.is_set() and self.acked >= self.complete.keys()):
                ask = {"max_groups": 3, "lease_s": lease_s, "wait_s": 0.2, "consumer": name}
                leases = (await self._ask(http, "/pool/lease", ask))["leases"]
                self.findings.count("groups leased", len(leases))
                for lease in leases:
                    again = lease["prompt_uid"] in self.acked
                    self.findings.check(not again, f"{lease['prompt_uid']} was delivered after its ack")
                    await self._settle(http, lease, dice)

    async def _settle(self, http: httpx.AsyncClient, lease: dict[str, Any], dice: random.Random) -> None:
        ids = {"lease_ids": [lease["lease_id"]]}
        throw = dice.random()
        if throw < 0.1 and not self.ending.is_set():
            await self._ask(http, "/pool/nack", ids, allowed=(409,))
            self.findings.count("leases given back")
        elif throw < 0.15 and not self.ending.is_set():
            self.findings.count("leases left to expire")
        elif (await self._ask(http, "/pool/ack", ids, allowed=(409,))).get("code") == "lease_lost":
            self.findings.count("acks that came after their lease was lost")
        else:
            self.findings.check(lease["prompt_uid"] not in self.acked, f"{lease['prompt_uid']} was acked twice")
            self.acked.add(lease["prompt_uid"])

    async def _converse(self, http: httpx.AsyncClient, uid: str, path: str, name: str, dice: random.Random) -> None:
        messages: list[dict[str, Any]] = []
        run = self.runs
        last: tuple[dict[str, Any], Answered] | None = None
        for turn in range(dice.randrange(2, 6)):
            tag = uuid.uuid4().hex
            messages.append({"role": "user", "content": f"{name}, turn {turn}: what is 1+{turn}? [{tag}]"})
            body = {"messages": [*messages], "max_tokens": 64, "user": tag}
            body |= {"n": dice.choice((1, 1, 1, 2)), "stream": dice.random() < 0.5}
            if dice.random() < 0.3:
                self.delay(dice.uniform(0.02, 0.2))
            answered, text = await self._call(http, uid, path, body)
            self.answered.append(answered)
            messages.append({"role": "assistant", "content": text})
            if last is not None and run != self.runs:
                await self._say_again(http, path, *last)
            run, last = self.runs, (body, answered)

    async def _say_again(self, http: httpx.AsyncClient, path: str, body: dict[str, Any], answered: Answered) -> None:
        """A retry of what an earlier run of the gateway has answered: the same reply, and the engine not asked."""
        again, _ = await self._call(http, answered.uid, path, body, attempt=1)
        self.findings.check(again == answered, f"{answered} was answered {again} after a restart")
        self.findings.count("answered calls asked again after a restart, and replayed", int(again == answered))

    async def _call(
        self, http: httpx.AsyncClient, uid: str, path: str, body: dict[str, Any], attempt: int = 0
    ) -> tuple[Answered, str]:
        """Ask until the last byte came; what each choice said must be of one request of the engine."""
        tag, lost = body["user"], 0
        while True:
            await self.up.wait()
            headers = {"x-stainless-retry-count": str(attempt)}
            asked_before = self.engine.times(tag)
            texts = await self._said(http, path, body, headers)
            if texts is not None:
                break
            await asyncio.sleep(0.05)  # nobody may be listening for a while
            attempt, lost = attempt + 1, lost + 1
            self.findings.count("calls asked again after a lost connection")
        numbers = [number_in(text) for text in texts]
        self.findings.check(
            numbers == [(numbers[0][0], choice) for choice in range(body["n"])], f"{tag} was answered {texts}"
        )
        self.findings.count(
            "of these, replayed: stored before the kill", int(lost > 0 and self.engine.times(tag) == asked_before)
        )
        return Answered(uid, tag, numbers[0][0], body["n"]), texts[0]

    async def _said(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> list[str] | None:
        """What each choice said; None: the last byte did not come, so ask again."""
        status, lines = await _read(http, path, body, headers)
        if status >= 500:
            self.findings.count(f"replies of status {status}, asked again")
            await asyncio.sleep(0.05)
            return None
        if status not in (0, 200):
            raise AssertionError(f"{path} was answered {status}: {lines}")
        if not body["stream"]:
            return [choice["message"]["content"] for choice in json.loads(lines[0])["choices"]] if status else None
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if events[-1:] != ["[DONE]"]:
            return None
        texts = [""] * body["n"]
        for event in map(json.loads, events[:-1]):
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
        return texts

    async def _ask(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], allowed: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The reply's JSON; what got none is sent again."""
        while True:
            await self.up.wait()
            try:
                reply = await http.post(path, json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                continue
            if reply.status_code == 200 or reply.status_code in allowed:
                return dict(reply.json())
            if reply.status_code < 500:
                raise AssertionError(f"{path} was answered {reply.status_code}: {reply.text}")
            self.findings.count(f"replies of status {reply.status_code}, asked again")
            await asyncio.sleep(0.05)

    def _http(self) -> httpx.AsyncClient:
        kept = httpx.Limits(max_keepalive_connections=0 if self.moves else None)
        return httpx.AsyncClient(base_url=self.url, timeout=ASK_WITHIN_S, trust_env=False, limits=kept)


async def _read(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]
) -> tuple[int, list[str]]:
    """Status and lines; 0: the connection broke, and these lines came before."""
    lines: list[str] = []
    try:
        async with http.stream("POST", path, json=body, headers=headers) as reply:
            async for line in reply.aiter_lines():
                lines.append(line)  # a client of a stream goes on as soon as it has read [DONE]
        return reply.status_code, lines
    except httpx.TransportError:
        return 0, lines
