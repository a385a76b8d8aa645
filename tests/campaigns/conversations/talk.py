"""One conversation with a model through the gateway, and what its script knows of every request."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

__all__ = ["Message", "Talk", "Turn", "user"]

Message = dict[str, Any]
ASK_WITHIN_S = 300.0
CHAT = "/chat/completions"


@dataclass
class Turn:
    """One request as its script meant it, and what was heard."""

    tag: str
    """Its `user` field: unique, but for requests that repeat another one."""
    messages: list[Message]
    after: tuple[Turn, int] | None
    """The reply that its messages go on from, the last one that is left as it was; None: it goes on from none."""
    change: str | None
    """What the script did to the history; None: it gives back what it was given."""
    fields: dict[str, Any]
    prompt: list[int] | str | None = None
    """Of a text completion."""
    body: bytes = b""
    """As it was sent."""
    requests: int = 1
    """How often it was sent to be sampled."""
    left: bool = False
    """The client went away before the end."""
    heard: list[Message] = field(default_factory=list)
    """The message of each choice (a text completion: its text as content)."""
    finish_reasons: list[str | None] = field(default_factory=list)
    logprobs: list[list[float] | None] = field(default_factory=list)
    usage: dict[str, Any] | None = None

    def then(
        self, *messages: Message, choice: int = 0, echo: Callable[[Message], Message] | None = None
    ) -> list[Message]:
        """The next request's messages: these, the reply (`echo` may change it), and more."""
        said = copy.deepcopy(self.heard[choice])
        return [*self.messages, echo(said) if echo else said, *messages]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


class Talk:
    """A conversation at `base_url` (with `/v1`). Its `dice` choose what the script leaves open."""

    def __init__(self, name: str, base_url: str, dice: random.Random) -> None:
        self.name, self.dice = name, dice
        self.turns: list[Turn] = []
        self.replays: list[tuple[Turn, list[Message]]] = []
        """Retries, and the messages with which they were answered."""
        self._bodies: dict[str, bytes] = {}
        self._http = httpx.AsyncClient(
            timeout=ASK_WITHIN_S, trust_env=False, event_hooks={"request": [self._note]}, base_url=base_url
        )
        self._sdk = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, http_client=self._http)

    async def close(self) -> None:
        await self._sdk.close()

    async def ask(
        self,
        messages: list[Message],
        *,
        after: tuple[Turn, int] | None = None,
        change: str | None = None,
        **fields: Any,
    ) -> Turn:
        """A chat request through OpenAI's SDK, streamed or not as the dice say; unknown fields go on top."""
        turn = self._begin(messages, after, change, fields)
        asked = {"model": "nano", "messages": messages, "user": turn.tag, **turn.fields}
        stream = asked.pop("stream", self.dice.random() < 0.5)
        known = {"model", "messages", "user", "n", "temperature", "stop", "tools", "tool_choice", "logprobs"}
        known |= {"top_logprobs", "max_tokens", "max_completion_tokens", "seed", "top_p", "logit_bias"}
        extra = {name: asked.pop(name) for name in [*asked] if name not in known}
        if stream:
            if self.dice.random() < 0.5:
                asked["stream_options"] = {"include_usage": True}
            chunks = await self._sdk.chat.completions.create(**asked, stream=True, extra_body=extra)
            _hear_stream(turn, [chunk.model_dump() async for chunk in chunks])
        else:
            reply = await self._sdk.chat.completions.create(**asked, extra_body=extra)
            _hear(turn, reply.model_dump(exclude_none=self.dice.random() < 0.5))
        turn.body = self._bodies[turn.tag]
        return turn

    async def complete(self, prompt: list[int] | str, *, after: tuple[Turn, int] | None = None, **fields: Any) -> Turn:
        """A text completion."""
        turn = self._begin([], after, None, fields)
        turn.prompt = prompt
        asked = {"model": "nano", "prompt": prompt, "user": turn.tag, **turn.fields}
        reply = await self._sdk.completions.create(**asked)
        for choice in reply.choices:
            turn.heard.append({"content": choice.text})
            turn.finish_reasons.append(choice.finish_reason)
            turn.logprobs.append([*choice.logprobs.token_logprobs] if choice.logprobs else None)
        turn.usage = reply.usage.model_dump() if reply.usage else None
        turn.body = self._bodies[turn.tag]
        return turn

    async def leave(
        self, messages: list[Message], *, after: tuple[Turn, int] | None = None, stream: bool, **fields: Any
    ) -> Turn:
        """A request whose client goes away: of a stream after some events, else while the engine is at work."""
        turn = self._begin(messages, after, None, fields)
        turn.left = True
        body = {"messages": messages, "user": turn.tag, "stream": stream, **turn.fields}
        turn.body = json.dumps(body).encode()
        if stream:
            events = self.dice.randrange(1, 20)
            async with self._http.stream("POST", CHAT.lstrip("/"), content=turn.body) as reply:
                async for line in reply.aiter_lines():
                    events -= line.startswith("data: ")
                    if events <= 0:
                        return turn
            return turn
        asking = asyncio.ensure_future(self._http.post(CHAT.lstrip("/"), content=turn.body))
        await asyncio.wait([asking], timeout=self.dice.uniform(0.01, 0.5))
        asking.cancel()
        await asyncio.wait([asking])
        return turn

    async def ids_of_last(self) -> list[int]:
        """Prompt and reply of the last call, as a trainer reads them."""
        [uid, *_] = str(self._http.base_url.path).strip("/").split("/")
        reply = await self._http.get(
            str(self._http.base_url.copy_with(path="/pool/steps")), params={"trajectory_uid": uid}
        )
        last = reply.raise_for_status().json()["steps"][-1]
        return [*last["prompt_ids"], *last["response_ids"]]

    async def retry(self, turn: Turn) -> None:
        """As the SDK asks again what it got no answer to: the first answer is expected."""
        reply = await self._again(turn, {"x-stainless-retry-count": "1"})
        self.replays.append((turn, [choice["message"] for choice in reply.json()["choices"]]))

    async def sample_again(self, turn: Turn) -> None:
        """The same bytes without any sign of a retry: another sample."""
        reply = await self._again(turn, {})
        turn.requests += 1
        _hear_again(turn, reply)

    async def _again(self, turn: Turn, headers: dict[str, str]) -> httpx.Response:
        reply = await self._http.post(CHAT.lstrip("/"), content=turn.body, headers=headers)
        return reply.raise_for_status()

    def _begin(
        self, messages: list[Message], after: tuple[Turn, int] | None, change: str | None, fields: dict[str, Any]
    ) -> Turn:
        """Every request is limited: what an untrained turn of phrase makes nano say has no end."""
        tag = f"{self.name} {len(self.turns)}"
        turn = Turn(tag, copy.deepcopy(messages), after, change, {"max_tokens": 96, **fields})
        self.turns.append(turn)
        return turn

    async def _note(self, request: httpx.Request) -> None:
        if request.content:
            self._bodies[str(json.loads(request.content).get("user"))] = request.content


def _hear(turn: Turn, reply: dict[str, Any]) -> None:
    for choice in reply["choices"]:
        message = choice["message"]
        if message.get("tool_calls", 0) is None:
            del message["tool_calls"]  # the SDK says null where vLLM takes none
        turn.heard.append(message)
        turn.finish_reasons.append(choice["finish_reason"])
        logprobs = choice.get("logprobs")
        turn.logprobs.append([one["logprob"] for one in logprobs["content"]] if logprobs else None)
    turn.usage = reply.get("usage")


def _hear_stream(turn: Turn, chunks: list[dict[str, Any]]) -> None:
    count = turn.fields.get("n", 1)
    turn.heard = [{"role": "assistant", "content": None} for _ in range(count)]
    turn.finish_reasons, turn.logprobs = [None] * count, [None] * count
    for chunk in chunks:
        turn.usage = chunk.get("usage") or turn.usage
        for choice in chunk["choices"]:
            index = choice["index"]
            _add_delta(turn.heard[index], choice["delta"])
            turn.finish_reasons[index] = choice.get("finish_reason") or turn.finish_reasons[index]
            if choice.get("logprobs"):
                known = turn.logprobs[index] or []
                turn.logprobs[index] = known + [one["logprob"] for one in choice["logprobs"]["content"]]


def _hear_again(turn: Turn, reply: httpx.Response) -> None:
    if not turn.fields.get("stream") and reply.headers["content-type"].startswith("application/json"):
        _hear(turn, reply.json())
        return
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n") if line.startswith("data: {")]
    heard, reasons, logprobs = turn.heard, turn.finish_reasons, turn.logprobs
    _hear_stream(turn, [json.loads(line) for line in lines])
    turn.heard, turn.finish_reasons = heard + turn.heard, reasons + turn.finish_reasons
    turn.logprobs = logprobs + turn.logprobs


def _add_delta(message: Message, delta: dict[str, Any]) -> None:
    for name in ("content", "reasoning"):
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    for call in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        while len(calls) <= call["index"]:
            calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        known, said = calls[call["index"]], call.get("function") or {}
        known["id"] = call.get("id") or known["id"]
        for part in ("name", "arguments"):
            known["function"][part] += said.get(part) or ""
