"""Agents: conversations in sessions and trajectories, with branches, edits, retries and what else a turn can have."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

from tests.campaigns.soak.load import Load
from tests.campaigns.soak.wire import Wire

__all__ = ["AGENTS"]

LENGTH = 256
"""max_tokens: longer than any reply."""
CHANNELS = ("train", "eval")
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"{name}s numbers", "parameters": {}}}
    for name in ("add", "multiply", "divide")
]


async def session(load: Load, wire: Wire, dice: random.Random) -> None:
    """One of either mode; ended by DELETE, or left until its time is over."""
    create = {"mode": dice.choice(("exact", "passthrough")), "track_tree": dice.random() < 0.3}
    create |= {"preserve_think_blocks": dice.random() < 0.8}
    made = (await load.ask(wire, "POST", "/sessions/create", create)).json()["uuid"]
    await _converse(load, wire, made, f"/{made}", dice)
    for path, chance in ((f"/{made}/nodes", 0.5), (f"/{made}/nodes?include=undelivered", 0.1), ("/sessions", 0.02)):
        if dice.random() < chance:
            await load.ask(wire, "GET", path)
    if dice.random() < 0.1:
        ask = {"messages": [{"role": "user", "content": "How long am I?"}]}
        await load.ask(wire, "POST", f"/{made}/v1/chat/completions/render", ask)
    if dice.random() < 0.2:
        await load.call(wire, made, f"/{made}/v1/completions", {"prompt": "Count: ", "max_tokens": LENGTH})
    if dice.random() < 0.5:
        await load.ask(wire, "DELETE", f"/{made}")
        load.findings.count("sessions deleted")
    else:
        load.findings.count("sessions left to --session-ttl")


async def trajectory(load: Load, wire: Wire, dice: random.Random) -> None:
    """A rollout that is completed; now and then its reward is changed and its steps are marked."""
    made = (await load.ask(wire, "POST", "/init_trajectory", {"channel": dice.choice(CHANNELS)})).json()
    uid, base = made["trajectory_uid"], f"/{made['trajectory_uid']}/{made['prompt_uid']}"
    await load.ask(wire, "POST", f"{base}/v1/register_trajectory", {"metadata": {"policy_version": 3}})
    await _converse(load, wire, uid, base, dice)
    if dice.random() < 0.3 and load.answered.get(uid):
        marks = {"trainable": dice.random() < 0.5, "seen": dice.randrange(9)}
        await load.ask(wire, "POST", "/pool/marks", {"trajectory_uid": uid, "step_index": 0, "marks": marks})
        load.findings.count("steps marked")
    await load.ask(wire, "POST", f"{base}/v1/complete_trajectory", {"reward": 0.5})
    if dice.random() < 0.1:
        await load.ask(wire, "POST", f"/complete_trajectory/{uid}", {"reward": 0.25}, allowed=(200, 409))
    load.findings.count("trajectories completed")


async def submitter(load: Load, wire: Wire, dice: random.Random) -> None:
    """Steps that were sampled elsewhere, one batch of them twice."""
    uid, length = uuid.uuid4().hex, dice.randrange(1, 5)
    steps = [
        {
            "trajectory_uid": uid,
            "step_index": index,
            "prompt_ids": [dice.randrange(500) for _ in range(100)],
            "response_ids": [dice.randrange(500) for _ in range(20)],
            "rollout_log_probs": [-dice.random() for _ in range(20)],
            "is_last": index == length - 1,
        }
        for index in range(length)
    ]
    for _ in range(dice.choice((1, 1, 2))):
        await load.ask(wire, "POST", "/submit_steps", {"steps": steps})
    load.submitted[uid] = length


async def white_box(load: Load, wire: Wire, dice: random.Random) -> None:
    """Calls that are not recorded: by model name, and of ids."""
    body = {
        "model": "default",
        "messages": _user("What is it?", dice),
        "max_tokens": LENGTH,
        "stream": dice.random() < 0.5,
    }
    await load.call(wire, "", "/v1/chat/completions", body)
    await load.pace.turn()
    await load.ask(wire, "POST", "/generate", {"prompt_ids": [5, 6, 7], "max_tokens": LENGTH}, allowed=load.spoiled)


AGENTS: dict[Callable[[Load, Wire, random.Random], Any], int] = {session: 12, trajectory: 8, submitter: 3, white_box: 2}
"""And how often each is, of all."""


async def _converse(load: Load, wire: Wire, uid: str, base: str, dice: random.Random) -> None:
    path = f"{base}/v1/chat/completions"
    fixed: dict[str, Any] = {"max_tokens": LENGTH}
    if dice.random() < 0.3:
        fixed["tools"] = TOOLS[:2]
    if dice.random() < 0.2:
        fixed["chat_template_kwargs"] = {"enable_thinking": False}
    messages = [{"role": "system", "content": "You count."}] if dice.random() < 0.4 else []
    for turn in range(dice.randrange(2, 7)):
        _turn_aside(load, messages, fixed, dice)
        messages += _user(f"Turn {turn}: what is 1+{turn}?", dice)
        body = {**fixed, "messages": messages, "n": dice.choice((1, 1, 1, 1, 2)), "stream": dice.random() < 0.5}
        if dice.random() < 0.1:
            body |= {"logprobs": True, "top_logprobs": 1}
        said = await _said(load, wire, uid, path, body, dice)
        if said is None:
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": said})


async def _said(load: Load, wire: Wire, uid: str, path: str, body: dict[str, Any], dice: random.Random) -> str | None:
    """What the first choice said; with a key some ask again, after the answer or meanwhile, and must hear the same."""
    if dice.random() < 0.85:
        texts = await load.call(wire, uid, path, body)
        return None if texts is None else texts[0]
    key = uuid.uuid4().hex
    if dice.random() < 0.5:
        texts = await load.call(wire, uid, path, body, key)
        again = await load.call(wire, uid, path, body, key)
    else:
        other = Wire(load.port)
        texts, again = await asyncio.gather(
            load.call(wire, uid, path, body, key), load.call(other, uid, path, body, key)
        )
        other.close()
    if texts is not None and again is not None:
        load.findings.check(texts == again, f"{uid}: a retry with the same key was answered {again}, not {texts}")
        load.findings.count("retries with a key, answered the same", int(texts == again))
    found = texts or again
    return None if found is None else found[0]


def _turn_aside(load: Load, messages: list[dict[str, Any]], fixed: dict[str, Any], dice: random.Random) -> None:
    """A branch, an edit, or other tools than before; mostly nothing."""
    throw = dice.random()
    if throw < 0.1 and len(messages) > 3:
        del messages[-2:]
        load.findings.count("branches: the last turn asked otherwise")
    elif throw < 0.15 and messages:
        place = dice.randrange(len(messages))
        messages[place] = {**messages[place], "content": "Something else was said."}
        load.findings.count("edits of what was said before")
    elif throw < 0.18 and "tools" in fixed:
        fixed["tools"] = TOOLS
        load.findings.count("changes of the tools")


def _user(text: str, dice: random.Random) -> list[dict[str, Any]]:
    """As one string, or in parts."""
    if dice.random() < 0.8:
        return [{"role": "user", "content": text}]
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]
