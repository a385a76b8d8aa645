"""An agent's run with the unmodified OpenAI SDK: several turns, tools, thinking, streamed and whole, text completions.

What a client sees of it is comparable, so the same run against a replay must give the same.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from openai import OpenAI

from tests.contract.gateway_process import ROOT
from tests.stand_ins.small_engine import SmallEngine

NANO = ROOT / "models" / "nano"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
        },
    }
]
THOUGHT = "<think>\nadd the ones\n</think>\n\n"
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
SCRIPT = (f"{THOUGHT}{CALL}", f"{THOUGHT}The sum is 5.", "So it is five.", "It is five.", "Fünf, naïve 好.")


def scripted_engine() -> SmallEngine:
    """A stub that says the script, then whatever it makes up."""
    engine = SmallEngine(NANO)
    engine.say = deque(SCRIPT)
    return engine


def play(base_url: str, *, sampling: dict[str, Any] | None = None, streams_text: bool = True) -> list[Any]:
    """What the client was given, turn by turn, without ids and times of replies.

    `streams_text` False: a text completion is not streamed.
    """
    client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
    how = {"model": "default", "max_tokens": 64, "temperature": 0.5, **(sampling or {})}
    messages: list[Any] = [
        {"role": "system", "content": "You add numbers."},
        {"role": "user", "content": "What is two and three?"},
    ]
    given: list[Any] = []
    said = client.chat.completions.create(messages=messages, tools=TOOLS, **how)
    given.append(_whole(said))
    messages.append(said.choices[0].message.model_dump(exclude_none=True))
    for call in said.choices[0].message.tool_calls or ():
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "5"})
    streamed = _streamed(client.chat.completions.create(messages=messages, tools=TOOLS, stream=True, **how))
    given.append(streamed)
    messages += [streamed["message"], {"role": "user", "content": "Are you sure?"}]
    for _ in range(2):  # two samples of one request
        again = client.chat.completions.create(
            messages=messages, tools=TOOLS, logprobs=True, top_logprobs=2, extra_body={"return_token_ids": True}, **how
        )
        given.append(_whole(again))
    streamed = _streamed(
        client.chat.completions.create(messages=messages, stream=True, logprobs=True, top_logprobs=1, **how)
    )
    given.append(streamed)
    several = client.chat.completions.create(messages=messages[:2], n=2, seed=3, **how)
    given.append(_whole(several))
    given.append(_whole(client.completions.create(prompt="Two and two is", logprobs=1, **how)))
    given.append(_whole(client.completions.create(prompt=[5, 6, 7], **how)))
    if streams_text:
        chunks = client.completions.create(prompt=[5, 6, 7, 8], stream=True, **how)
        given.append("".join(chunk.choices[0].text for chunk in chunks if chunk.choices))
    return given


def _whole(said: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(said.model_dump_json())
    for name in ("id", "created"):
        body.pop(name)
    return body


def _streamed(chunks: Any) -> dict[str, Any]:
    """A stream put together as a client's library does."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    logprobs: list[Any] = []
    finish = usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            logprobs += [entry.model_dump() for entry in (choice.logprobs and choice.logprobs.content) or ()]
            _take(message, choice.delta)
    return {"message": message, "finish_reason": finish, "logprobs": logprobs, "usage": usage}


def _take(message: dict[str, Any], delta: Any) -> None:
    message["content"] += delta.content or ""
    reasoning = getattr(delta, "reasoning", None)
    if reasoning:
        message["reasoning"] = message.get("reasoning", "") + reasoning
    for call in delta.tool_calls or ():
        calls = message.setdefault("tool_calls", [])
        if call.index == len(calls):
            calls.append({"id": call.id, "type": "function", "function": {"name": "", "arguments": ""}})
        calls[call.index]["function"]["name"] += call.function.name or ""
        calls[call.index]["function"]["arguments"] += call.function.arguments or ""
