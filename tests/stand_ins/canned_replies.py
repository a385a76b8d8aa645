"""Replies of one size, made once: what measurements need, and tests that look at the wire alone.

Chat: the prompt's ids are a made-up conversation's, so a session of them is consistent: `prompt_ids` ids for the first
turn, and for each assistant message in the request the ids sampled before and 64 more. Completions and generate take
the prompt's ids from the request. Every reply samples the same ids with the same text.
"""

from __future__ import annotations

import json
import random
from typing import Any

from tests.stand_ins.stub_reply import StubReply

NEW_A_TURN = 64
END = 505
DONE = b"data: [DONE]\n\n"


class CannedReplies:
    """Called with path and body; vocabulary 512, as nano's."""

    def __init__(self, model: str, *, prompt_ids: int = 512, sampled: int = 128, seed: int = 7) -> None:
        rng = random.Random(seed)
        self._model = model
        self.first = [rng.randrange(500) for _ in range(prompt_ids)]
        self.new = [rng.randrange(500) for _ in range(NEW_A_TURN)]
        self.sampled = [*(rng.randrange(500) for _ in range(sampled - 1)), END]
        self.logprobs = [-rng.random() * 3 for _ in range(sampled)]
        self.words = [rng.choice(("the ", "sum ", "is ", "of ", "ten ", "and ", "one ")) for _ in range(sampled - 1)]
        self.text = "".join(self.words)
        self._chat: dict[int, StubReply] = {}
        self._streams: dict[int, StubReply] = {}
        self._completion_events: list[bytes] = []
        around = _dump(self._completion("@")).split(b'"@"')
        self._completion_head, self._completion_tail = around
        self._generate = _dump(self._generated())
        self._atropos_head, self._atropos_tail = _dump(self._atropos("@")).split(b'"@"')

    def prompt_of(self, turn: int) -> list[int]:
        """The chat prompt's ids with `turn` assistant messages in the request."""
        return self.first + (self.sampled + self.new) * turn

    def __call__(self, path: str, body: bytes) -> StubReply:
        streamed = b'"stream":true' in body or b'"stream": true' in body
        if path == "/v1/chat/completions":
            turn = body.count(b'"assistant"')
            return self._chat_stream(turn) if streamed else self._chat_reply(turn)
        ids = _lift(body, b'"prompt":') or _lift(body, b'"prompt_token_ids":') or b"[1,2,3]"
        if path == "/v1/completions":
            if streamed:
                return self._completion_stream(ids)
            return StubReply(200, self._completion_head + ids + self._completion_tail)
        if path == "/inference/v1/generate":
            return StubReply(200, self._generate)
        if path == "/generate":
            return StubReply(200, self._atropos_head + ids + self._atropos_tail)
        return StubReply(404, b'{"detail":"Not Found"}')

    def _chat_reply(self, turn: int) -> StubReply:
        if turn not in self._chat:
            reply = StubReply(200, _dump(self._chat_completion(self.prompt_of(turn))))
            reply.ready = reply.encoded()
            self._chat[turn] = reply
        return self._chat[turn]

    def _chat_completion(self, prompt: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text, "refusal": None, "annotations": None, "audio": None}
        message |= {"function_call": None, "reasoning": None}
        choice = {"index": 0, "message": message, "logprobs": {"content": self._entries()}, "finish_reason": "stop"}
        choice |= {"stop_reason": None, "token_ids": self.sampled, "routed_experts": None}
        reply = {"id": "chatcmpl-5ac6d8e6acffae16", "object": "chat.completion", "created": 1795277634}
        reply |= {"model": self._model, "choices": [choice], "service_tier": None, "system_fingerprint": "vllm-stub"}
        reply |= {"usage": self._usage(len(prompt)), "prompt_logprobs": None, "prompt_token_ids": prompt}
        return reply | {"prompt_text": None, "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}

    def _entries(self) -> list[dict[str, Any]]:
        texts = [*self.words, "<|im_end|>"]
        return [
            {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
            for text, logprob in zip(texts, self.logprobs, strict=True)
        ]

    def _usage(self, prompt_tokens: int) -> dict[str, Any]:
        sampled = len(self.sampled)
        counts = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + sampled, "completion_tokens": sampled}
        return counts | {"prompt_tokens_details": None, "completion_tokens_details": None}

    def _chat_stream(self, turn: int) -> StubReply:
        if turn not in self._streams:
            prompt = self.prompt_of(turn)
            chunks = [
                self._chunk(
                    {"role": "assistant", "content": ""},
                    {"logprobs": None, "finish_reason": None},
                    prompt_token_ids=prompt,
                    prompt_text=None,
                )
            ]
            last = len(self.sampled) - 1
            for at, (entry, token) in enumerate(zip(self._entries(), self.sampled, strict=True)):
                rest: dict[str, Any] = {
                    "logprobs": {"content": [entry]},
                    "finish_reason": None if at < last else "stop",
                }
                rest |= {} if at < last else {"stop_reason": None}
                chunks.append(
                    self._chunk({"content": "" if at == last else entry["token"]}, rest | {"token_ids": [token]})
                )
            usage = self._chunk(None, {}, usage=self._usage(len(prompt)), system_fingerprint="vllm-stub")
            reply = StubReply(200, chunks=[*chunks, usage, DONE])
            reply.ready = reply.encoded()
            self._streams[turn] = reply
        return self._streams[turn]

    def _completion_stream(self, ids: bytes) -> StubReply:
        """Only the first event depends on the request: it repeats the prompt."""
        if not self._completion_events:
            head = {"id": "cmpl-bcda8099", "object": "text_completion", "created": 1795277635, "model": self._model}
            last = len(self.sampled) - 1
            for at, (token, logprob) in enumerate(zip(self.sampled, self.logprobs, strict=True)):
                text = self.words[at] if at < last else "<|im_end|>"
                logprobs = {"text_offset": [at], "token_logprobs": [logprob], "tokens": [text]}
                logprobs["top_logprobs"] = [{text: logprob}]
                choice = {"index": 0, "text": text if at < last else "", "logprobs": logprobs}
                choice |= {"finish_reason": None if at < last else "stop", "stop_reason": None}
                choice |= {"prompt_token_ids": None if at else "@", "token_ids": [token]}
                self._completion_events.append(b"data: " + _dump(head | {"choices": [choice]}) + b"\n\n")
            usage = head | {"choices": [], "usage": self._usage(len(self.first)), "system_fingerprint": "vllm-stub"}
            self._completion_events += [b"data: " + _dump(usage) + b"\n\n", DONE]
        first, *rest = self._completion_events
        return StubReply(200, chunks=[first.replace(b'"@"', ids), *rest])

    def _chunk(self, delta: dict[str, Any] | None, rest: dict[str, Any], **fields: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, **rest}]
        head = {
            "id": "chatcmpl-8e7af4e2",
            "object": "chat.completion.chunk",
            "created": 1795277635,
            "model": self._model,
        }
        return b"data: " + _dump(head | {"choices": choices} | fields) + b"\n\n"

    def _completion(self, prompt: Any) -> dict[str, Any]:
        texts = [*self.words, "<|im_end|>"]
        logprobs = {"text_offset": list(range(len(texts))), "token_logprobs": self.logprobs, "tokens": texts}
        logprobs["top_logprobs"] = [{text: one} for text, one in zip(texts, self.logprobs, strict=True)]
        choice = {"index": 0, "text": self.text, "logprobs": logprobs, "finish_reason": "stop", "stop_reason": None}
        choice |= {
            "token_ids": self.sampled,
            "prompt_logprobs": None,
            "prompt_token_ids": prompt,
            "routed_experts": None,
        }
        reply = {"id": "cmpl-865e705de46cd7b1", "object": "text_completion", "created": 1795277635}
        reply |= {"model": self._model, "choices": [choice], "service_tier": None, "system_fingerprint": "vllm-stub"}
        return reply | {
            "usage": self._usage(len(self.first)),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def _generated(self) -> dict[str, Any]:
        content = [
            {"token_id": token, "logprob": logprob, "rank": 1, "top_logprobs": []}
            for token, logprob in zip(self.sampled, self.logprobs, strict=True)
        ]
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": self.sampled,
            "routed_experts": None,
        }
        choice |= {"sampling_mask": None, "weight_versions": [{"version": "default", "start": 0, "end": len(content)}]}
        choice |= {"logprobs": {"content": content}}
        return {"request_id": "generate-tokens-b6b7", "usage": self._usage(len(self.first)), "choices": [choice]}

    def _atropos(self, prompt: Any) -> dict[str, Any]:
        logprobs = [[{str(token): one}] for token, one in zip(self.sampled, self.logprobs, strict=True)]
        reply: dict[str, Any] = {"text": [self.text], "prompt": "", "finish_reasons": ["stop"], "logprobs": [logprobs]}
        return reply | {"prompt_token_ids": prompt, "token_ids": [self.sampled]}


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _lift(body: bytes, key: bytes) -> bytes | None:
    at = body.find(key)
    if at < 0:
        return None
    start = body.find(b"[", at, at + len(key) + 2)
    return None if start < 0 else body[start : body.index(b"]", start) + 1]
