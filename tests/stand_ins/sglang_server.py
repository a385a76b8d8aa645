"""An SGLang server as far as its wire goes: `/generate` and chats with ids, over the small engine's tokens.

Written from its documentation of the native API and the OpenAI routes (release 0.5), for it cannot run here:
- `/generate` takes `input_ids`, `sampling_params` (its own names; an unknown one is an error), `return_logprob`,
  `logprob_start_len`, `top_logprobs_num`; a list comes back where n > 1;
- `meta_info` has `finish_reason` {type, matched}, `prompt_tokens`, `completion_tokens`, `weight_version`, and
  `output_token_logprobs` of [log probability, id, text or null];
- a stream repeats everything with each event, or (`incremental`) has what is new, and counts in
  `output_token_logprobs_length`;
- a chat gives ids by `return_meta_info` and `return_prompt_token_ids`, newer ones by `return_token_ids`, and refuses
  all of them together with `stream`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

PARAMS = frozenset(
    (
        *("max_new_tokens", "stop", "stop_token_ids", "stop_regex", "temperature", "top_p", "top_k", "min_p"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "min_new_tokens", "n", "json_schema", "regex"),
        *("ebnf", "structural_tag", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens"),
        *("no_stop_trim", "custom_params", "stream_interval", "logit_bias", "sampling_seed"),
    )
)


class SglangServer:
    """Called with path and body. `older`: 0.5.13, which names chats' ids otherwise."""

    def __init__(self, folder: Path, *, model: str = "stub", incremental: bool = False, older: bool = False) -> None:
        self.small = SmallEngine(folder, model=model)
        self.incremental, self.older = incremental, older
        self.weight_version = "default"
        self.aborts = False
        """The next replies end by an abort."""
        self.prompt_tokens_off = 0
        """It counts so many more prompt tokens than it was given."""

    def __call__(self, path: str, body: bytes) -> StubReply:
        if path == "/generate":
            return self._generate(json.loads(body))
        if path == "/v1/chat/completions":
            return self._chat(json.loads(body))
        if path == "/v1/completions":
            return self._completion(json.loads(body))
        if path == "/tokenize":
            return self.small(path, body)
        return StubReply(404, b'{"detail":"Not Found"}')

    def _generate(self, said: dict[str, Any]) -> StubReply:
        params = said.get("sampling_params") or {}
        unknown = sorted(params.keys() - PARAMS)
        if unknown:
            return _error(f"Unexpected keyword argument '{unknown[0]}'")
        asked = {name: value for name, value in params.items() if name in ("stop", "temperature", "n")}
        asked |= {"seed": params.get("sampling_seed"), "max_tokens": params.get("max_new_tokens", 128)}
        asked |= {"prompt": said.get("input_ids"), "return_token_ids": True, "logprobs": 1}
        reply = self.small("/v1/completions", json.dumps(asked).encode())
        if reply.status != 200:
            return _error(json.loads(reply.body)["error"]["message"])
        choices = json.loads(reply.body)["choices"]
        if said.get("stream"):
            events = [event for choice in choices for event in self._events(said, choice)]
            return StubReply(200, chunks=[*events, b"data: [DONE]\n\n"])
        whole = [self._one(said, choice, len(choice["token_ids"])) for choice in choices]
        return StubReply(200, json.dumps(whole if params.get("n", 1) > 1 else whole[0]).encode())

    def _events(self, said: dict[str, Any], choice: dict[str, Any]) -> list[bytes]:
        count = len(choice["token_ids"])
        events, text = [], ""
        for at in range(1, count + 1):
            event = self._one(said, choice, at) | {"index": choice["index"]}
            if at < count:
                event["text"] = self.small.decode(choice["token_ids"][:at]).removesuffix("\ufffd")
                if not choice["text"].startswith(event["text"]):
                    event["text"] = text
            if self.incremental:
                event["meta_info"]["output_token_logprobs"] = event["meta_info"]["output_token_logprobs"][-1:]
                tops = event["meta_info"].get("output_top_logprobs")
                if tops is not None:
                    event["meta_info"]["output_top_logprobs"] = tops[-1:]
                text, event["text"] = event["text"], event["text"].removeprefix(text)
            else:
                text = event["text"]
            events.append(b"data: " + json.dumps(event).encode() + b"\n\n")
        return events

    def _one(self, said: dict[str, Any], choice: dict[str, Any], upto: int) -> dict[str, Any]:
        """A choice as `/generate` has it after `upto` tokens."""
        ids, count = choice["token_ids"][:upto], len(choice["token_ids"])
        logprobs = choice["logprobs"]["token_logprobs"][:upto]
        prompt = said["input_ids"]
        meta: dict[str, Any] = {
            "id": "0123456789abcdef",
            "finish_reason": self._finish(choice) if upto == count else None,
            "prompt_tokens": len(prompt) + self.prompt_tokens_off,
            "weight_version": self.weight_version,
            "completion_tokens": upto,
            "cached_tokens": 0,
            "e2e_latency": 0.01,
        }
        if said.get("return_logprob"):
            texts = said.get("return_text_in_logprobs")
            meta["output_token_logprobs"] = [
                self._triple(*pair, texts=texts) for pair in zip(logprobs, ids, strict=True)
            ]
            meta["output_token_logprobs_length"] = upto
            meta["input_token_logprobs"] = []
            k = said.get("top_logprobs_num") or 0
            if k:
                meta["output_top_logprobs"] = [[one] for one in meta["output_token_logprobs"]]
            if said.get("logprob_start_len", -1) == 0:
                meta |= self._scores(prompt, k)
        return {"text": choice["text"] if upto == count else "", "output_ids": ids, "meta_info": meta}

    def _scores(self, prompt: list[int], k: int) -> dict[str, Any]:
        """Of the prompt: the first token has no log probability. Rows are as the engine ranks them."""
        rng = random.Random(repr(prompt))
        rows: list[Any] = [None]
        own: list[Any] = [[None, prompt[0], None]]
        for token in prompt[1:]:
            values = sorted((-rng.random() * 9 for _ in range(k)), reverse=True)
            rows.append([[value, rank, None] for rank, value in enumerate(values)])
            own.append([-rng.random() * 9, token, None])
        return {"input_token_logprobs": own, "input_top_logprobs": rows}

    def _triple(self, logprob: float, token: int, *, texts: Any) -> list[Any]:
        return [logprob, token, self.small.tokenizer.decode([token], skip_special_tokens=False) if texts else None]

    def _finish(self, choice: dict[str, Any]) -> dict[str, Any]:
        if self.aborts:
            return {"type": "abort", "message": "Abort in waiting queue", "status_code": 503}
        if choice["finish_reason"] == "length":
            return {"type": "length", "length": len(choice["token_ids"])}
        return {"type": "stop", "matched": choice["stop_reason"] or self.small.eos}

    def _chat(self, said: dict[str, Any]) -> StubReply:
        wants = said.get("return_token_ids") or said.get("return_prompt_token_ids") or said.get("return_meta_info")
        if said.get("stream"):
            if wants:
                return _error("return_token_ids is not supported with streaming on /v1/chat/completions.")
            return self.small("/v1/chat/completions", json.dumps(said).encode())
        reply = self.small("/v1/chat/completions", json.dumps(said | {"return_token_ids": True}).encode())
        if reply.status != 200:
            return reply
        whole = json.loads(reply.body)
        prompt = whole.pop("prompt_token_ids")
        for choice in whole["choices"]:
            ids = choice.pop("token_ids")
            choice["matched_stop"] = choice.pop("stop_reason") or self.small.eos
            choice["message"].pop("reasoning", None)
            values = [one["logprob"] for one in (choice["logprobs"] or {}).get("content", [])]
            if said.get("return_prompt_token_ids"):
                choice["prompt_token_ids"] = prompt
            if said.get("return_token_ids") and not self.older:
                choice["token_ids"] = ids
            if said.get("return_meta_info"):
                triples = [[*pair, None] for pair in zip(values, ids, strict=True)]
                meta = {"id": whole["id"], "weight_version": self.weight_version, "output_token_logprobs": triples}
                choice["meta_info"] = meta | {"finish_reason": {"type": choice["finish_reason"]}}
        return StubReply(200, json.dumps(whole).encode())

    def _completion(self, said: dict[str, Any]) -> StubReply:
        if said.get("logprobs") == 0:
            said["logprobs"] = None  # it takes that for: none
        reply = self.small("/v1/completions", json.dumps(said).encode())
        return StubReply(
            reply.status,
            reply.body.replace(b'"stop_reason"', b'"matched_stop"'),
            [one.replace(b'"stop_reason"', b'"matched_stop"') for one in reply.chunks],
        )


def _error(message: str) -> StubReply:
    return StubReply(400, json.dumps({"error": {"message": message}}).encode())
