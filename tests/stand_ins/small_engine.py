"""What vLLM would answer if it were a hash function: a real tokenizer and template, deterministic text, no model.

The same prompt ids, seed and choice always give the same tokens. Ids and log probabilities are in a reply only when the
request asks for them, in vLLM's places and spellings; bad requests get vLLM's errors. `say` holds texts to be sampled
before made-up ones; `<think>` and `<tool_call>` in them are split as the qwen3 and hermes parsers do.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import jinja2.ext
import jinja2.sandbox
import tokenizers

from tests.stand_ins.small_replies import Reply, chat, chat_stream, completion, completion_stream, generated
from tests.stand_ins.stub_reply import StubReply

WORDS = (
    "the",
    "sum",
    "of",
    "two",
    "three",
    "is",
    "five",
    "so",
    "ones",
    "give",
    "one",
    "tens",
    "four",
    "we",
    "add",
    "up",
)
CALL = re.compile(r"<tool_call>\n?(.*?)\n?</tool_call>", re.DOTALL)


class BadRequest(Exception):
    """A 400 in vLLM's shape."""


class Sample(NamedTuple):
    """One choice."""

    ids: list[int]
    logprobs: list[float]
    text: str
    """Without special tokens and what a stop string cut off."""
    finish_reason: str
    stop_reason: str | None


class SmallEngine:
    """Called with path and body. `scale_out`: whether `/inference/v1/generate` is open."""

    def __init__(
        self, folder: Path, *, model: str = "stub", max_model_len: int = 32768, scale_out: bool = False
    ) -> None:
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        self.eos = self.tokenizer.token_to_id(config["eos_token"])
        self.special = {number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        self.model, self.max_model_len, self.scale_out = model, max_model_len, scale_out
        self.say: deque[str] = deque()
        self.numbers = itertools.count(1)
        """Ids of replies are new each time."""
        template = (folder / "chat_template.jinja").read_text()
        sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        sandbox.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        sandbox.globals["raise_exception"] = _raise
        self._template = sandbox.from_string(template)

    def __call__(self, path: str, body: bytes) -> StubReply:
        try:
            request = json.loads(body)
        except ValueError as error:
            return _error(400, f"JSON decode error: {error}")
        if not isinstance(request, dict):
            return _error(400, "the body is no object")
        if request.get("model") not in (None, self.model):
            return _error(404, f"The model `{request['model']}` does not exist.", "NotFoundError")
        try:
            return self._route(path, request)
        except BadRequest as error:
            return _error(400, str(error))

    def prompt_of(self, request: dict[str, Any]) -> list[int]:
        """The ids that a chat request is rendered to."""
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequest("messages must have at least one message")
        said = [self._parsed_arguments(message) for message in messages]
        extra = request.get("chat_template_kwargs") or {}
        try:
            text = self._template.render(
                messages=said,
                tools=request.get("tools") or None,
                add_generation_prompt=request.get("add_generation_prompt", True),
                **extra,
            )
        except jinja2.TemplateError as error:
            raise BadRequest(f"the template failed: {error}") from None
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _route(self, path: str, request: dict[str, Any]) -> StubReply:
        if path == "/tokenize":
            ids = self.prompt_of(request) if "messages" in request else self.encode(request["prompt"])
            return StubReply(
                200, json.dumps({"count": len(ids), "max_model_len": self.max_model_len, "tokens": ids}).encode()
            )
        if path == "/v1/chat/completions/render":
            return StubReply(200, json.dumps({"token_ids": self.prompt_of(request)}).encode())
        if path == "/v1/chat/completions":
            prompt = self.prompt_of(request)
            return (chat_stream if request.get("stream") else chat)(self._reply(request, prompt))
        if path == "/v1/completions":
            said = request.get("prompt")
            prompt = self.encode(said) if isinstance(said, str) else said
            reply = self._reply({"max_tokens": 16, **request}, prompt)
            return (completion_stream if request.get("stream") else completion)(reply)
        if path == "/inference/v1/generate":
            if not self.scale_out:
                return _error(403, "Scale-out endpoints are disabled", "Forbidden")
            prompt = request.get("token_ids")
            return generated(self._reply({"max_tokens": 16, **request["sampling_params"]}, prompt))
        return StubReply(404, b'{"detail":"Not Found"}')

    def _reply(self, request: dict[str, Any], prompt: Any) -> Reply:
        if not isinstance(prompt, list) or not prompt or not all(isinstance(one, int) and one >= 0 for one in prompt):
            raise BadRequest("the prompt is empty or no list of ids")
        if max(prompt) >= self.tokenizer.get_vocab_size():
            raise BadRequest(f"token id {max(prompt)} is out of vocabulary")
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        room = self.max_model_len - len(prompt)
        if room < 1 or (limit or 0) > room:
            raise BadRequest(f"max_tokens={limit} and a prompt of {len(prompt)} exceed {self.max_model_len}")
        count = request.get("n") or 1
        samples = [self._sample(prompt, request, limit or room, choice) for choice in range(count)]
        return Reply(self, request, prompt, samples)

    def _sample(self, prompt: list[int], request: dict[str, Any], limit: int, choice: int) -> Sample:
        salt = json.dumps([prompt, request.get("seed"), choice, request.get("temperature")])
        rng = random.Random(hashlib.sha256(salt.encode()).digest())
        text = self.say.popleft() if self.say else " ".join(rng.choices(WORDS, k=rng.randrange(3, 12))) + "."
        ids = [*self.encode(text), self.eos]
        stops = request.get("stop") or []
        found = [one for one in ([stops] if isinstance(stops, str) else stops) if one in text]
        finish, reason = "stop", None
        if found:
            reason = min(found, key=text.index)
            ids = self._until(ids, reason)
            text = text[: text.index(reason)]
        if len(ids) > limit:
            ids, finish, reason = ids[:limit], "length", None
            text = self.decode(ids)
        return Sample(ids, [-rng.random() * 2 for _ in ids], text, finish, reason)

    def _until(self, ids: list[int], stop: str) -> list[int]:
        length = next(n for n in range(1, len(ids) + 1) if stop in self.decode(ids[:n]))
        return ids[:length]

    @staticmethod
    def _parsed_arguments(message: dict[str, Any]) -> dict[str, Any]:
        """vLLM hands arguments to templates as objects."""
        calls = message.get("tool_calls")
        if not calls:
            return message
        parsed = []
        for call in calls:
            function = dict(call["function"])
            if isinstance(function.get("arguments"), str):
                try:
                    function["arguments"] = json.loads(function["arguments"] or "{}")
                except ValueError:
                    raise BadRequest("the arguments of a tool call are no JSON") from None
            parsed.append({**call, "function": function})
        return {**message, "tool_calls": parsed}


def parsed_message(text: str, request: dict[str, Any], salt: str) -> tuple[dict[str, Any], bool]:
    """The assistant's message as the qwen3 and hermes parsers split it, and whether it calls tools."""
    head, closed, rest = text.partition("</think>")
    reasoning = head.removeprefix("<think>") if closed or head.startswith("<think>") else None
    content: str | None = text if reasoning is None else rest
    calls = []
    if request.get("tools") and content:
        for number, match in enumerate(CALL.finditer(content)):
            try:
                said = json.loads(match.group(1))
            except ValueError:
                calls = []
                break
            function = {
                "name": said.get("name"),
                "arguments": json.dumps(said.get("arguments", {}), ensure_ascii=False),
            }
            calls.append({"id": f"call-{salt}-{number}", "type": "function", "function": function})
    if calls:
        content = (content or "").partition("<tool_call>")[0].strip() or None
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if reasoning or calls else "")}
    message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
    if calls:
        message["tool_calls"] = calls
    return message | {"reasoning": reasoning}, bool(calls)


def _error(status: int, message: str, kind: str = "BadRequestError") -> StubReply:
    error = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return StubReply(status, json.dumps(error).encode())


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
