"""The replies of the small engine, spelled as vLLM spells them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.stand_ins.stub_reply import StubReply

if TYPE_CHECKING:
    from tests.stand_ins.small_engine import Sample, SmallEngine

DONE = b"data: [DONE]\n\n"
CREATED = 1795277634


class Reply(NamedTuple):
    """What was asked and sampled."""

    engine: SmallEngine
    request: dict[str, Any]
    prompt: list[int]
    samples: list[Sample]

    @property
    def wants_ids(self) -> bool:
        return bool(self.request.get("return_token_ids"))

    @property
    def head(self) -> dict[str, Any]:
        return {"created": CREATED, "model": self.engine.model}

    def usage(self) -> dict[str, Any]:
        sampled = sum(len(sample.ids) for sample in self.samples)
        return {
            "prompt_tokens": len(self.prompt),
            "total_tokens": len(self.prompt) + sampled,
            "completion_tokens": sampled,
        }


def chat(reply: Reply) -> StubReply:
    """`/v1/chat/completions`."""
    choices = []
    for index, sample in enumerate(reply.samples):
        message, calls = _message(reply, sample, index)
        choice = {"index": index, "message": message, "logprobs": _chat_logprobs(reply, sample)}
        choice |= {"finish_reason": "tool_calls" if calls else sample.finish_reason, "stop_reason": sample.stop_reason}
        choice |= {"token_ids": sample.ids if reply.wants_ids else None, "routed_experts": None}
        choices.append(choice)
    body = {
        "id": f"chatcmpl-{next(reply.engine.numbers):016x}",
        "object": "chat.completion",
        **reply.head,
        "choices": choices,
    }
    body |= {"service_tier": None, "system_fingerprint": "vllm-stub", "usage": reply.usage(), "prompt_logprobs": None}
    body |= {"prompt_token_ids": reply.prompt if reply.wants_ids else None, "prompt_text": None}
    return StubReply(200, _dump(body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}))


def chat_stream(reply: Reply) -> StubReply:
    """The same, streamed: one event a token. With calls or reasoning the text comes with the last one."""
    head = {"id": f"chatcmpl-{next(reply.engine.numbers):016x}", "object": "chat.completion.chunk", **reply.head}
    given = {"prompt_token_ids": reply.prompt if reply.wants_ids else None, "prompt_text": None}
    events = [
        _event(head, [{"index": index, "delta": {"role": "assistant", "content": ""}, **_nothing()}], **given)
        for index in range(len(reply.samples))
    ]
    for index, sample in enumerate(reply.samples):
        message, calls = _message(reply, sample, index)
        plain = not calls and message["reasoning"] is None
        for at, piece in enumerate(_pieces(reply, sample)):
            last = at == len(sample.ids) - 1
            delta = {"content": piece} if plain else _delta(message) if last else {}
            choice = {"index": index, "delta": delta if delta.get("content") != "" else {}}
            choice |= {"logprobs": _chat_logprobs(reply, sample, at), "finish_reason": None}
            if last:
                choice |= {"finish_reason": "tool_calls" if calls else sample.finish_reason}
                choice |= {"stop_reason": sample.stop_reason}
            choice |= {"token_ids": [sample.ids[at]] if reply.wants_ids else None}
            if last or choice["delta"] or reply.wants_ids:
                events.append(_event(head, [choice], **_fingerprint(reply, last)))
    return _streamed(reply, head, events)


def completion(reply: Reply) -> StubReply:
    """`/v1/completions`."""
    choices = []
    for index, sample in enumerate(reply.samples):
        choice = {"index": index, "text": sample.text, "logprobs": _completion_logprobs(reply, sample)}
        choice |= {"finish_reason": sample.finish_reason, "stop_reason": sample.stop_reason}
        choice |= {"token_ids": sample.ids if reply.wants_ids else None, "prompt_logprobs": None}
        choices.append(choice | {"prompt_token_ids": reply.prompt if reply.wants_ids else None, "routed_experts": None})
    body = {
        "id": f"cmpl-{next(reply.engine.numbers):016x}",
        "object": "text_completion",
        **reply.head,
        "choices": choices,
    }
    body |= {"service_tier": None, "system_fingerprint": "vllm-stub", "usage": reply.usage()}
    return StubReply(200, _dump(body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}))


def completion_stream(reply: Reply) -> StubReply:
    """The same, streamed."""
    head = {"id": f"cmpl-{next(reply.engine.numbers):016x}", "object": "text_completion", **reply.head}
    events = []
    for index, sample in enumerate(reply.samples):
        for at, piece in enumerate(_pieces(reply, sample)):
            last = at == len(sample.ids) - 1
            choice = {"index": index, "text": piece, "logprobs": _completion_logprobs(reply, sample, at)}
            choice |= {"finish_reason": sample.finish_reason if last else None}
            choice |= {"stop_reason": sample.stop_reason if last else None}
            choice |= {"prompt_token_ids": None if at or not reply.wants_ids else reply.prompt}
            choice |= {"token_ids": [sample.ids[at]] if reply.wants_ids else None}
            events.append(_event(head, [choice], **_fingerprint(reply, last)))
    return _streamed(reply, head, events)


def generated(reply: Reply) -> StubReply:
    """`/inference/v1/generate`."""
    choices = []
    for index, sample in enumerate(reply.samples):
        content = [
            {"token_id": token, "logprob": logprob, "rank": 1, "top_logprobs": []}
            for token, logprob in zip(sample.ids, sample.logprobs, strict=True)
        ]
        choice = {"index": index, "finish_reason": sample.finish_reason, "stop_reason": sample.stop_reason}
        choice |= {"token_ids": sample.ids, "routed_experts": None, "sampling_mask": None}
        choice |= {"weight_versions": [{"version": "default", "start": 0, "end": len(sample.ids)}]}
        choices.append(choice | {"logprobs": {"content": content}})
    body = {"request_id": f"generate-tokens-{next(reply.engine.numbers)}", **reply.head, "usage": reply.usage()}
    return StubReply(200, _dump(body | {"prompt_token_ids": None, "output_mode": "tokens", "choices": choices}))


def _message(reply: Reply, sample: Sample, index: int) -> tuple[dict[str, Any], bool]:
    from tests.stand_ins.small_engine import parsed_message

    return parsed_message(sample.text, reply.request, f"{next(reply.engine.numbers)}-{index}")


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    delta = {name: message[name] for name in ("reasoning", "content") if message.get(name)}
    if message.get("tool_calls"):
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(message["tool_calls"])]
    return delta


def _pieces(reply: Reply, sample: Sample) -> list[str]:
    """[C] the text that each token adds; half a character waits for its other half, a stop string is left out."""
    pieces, said = [], ""
    for at in range(1, len(sample.ids) + 1):
        text = sample.text if at == len(sample.ids) else reply.engine.decode(sample.ids[:at])
        if text.endswith("\ufffd") or not sample.text.startswith(text):
            text = said
        pieces.append(text[len(said) :])
        said = text
    return pieces


def _entries(reply: Reply, sample: Sample, at: int | None) -> list[tuple[int, float]]:
    pairs = list(zip(sample.ids, sample.logprobs, strict=True))
    return pairs if at is None else pairs[at : at + 1]


def _chat_logprobs(reply: Reply, sample: Sample, at: int | None = None) -> dict[str, Any] | None:
    if not reply.request.get("logprobs"):
        return None
    content = []
    for token, logprob in _entries(reply, sample, at):
        text = _name(reply, token)
        said = {"token": text, "logprob": logprob, "bytes": list(text.encode())}
        top = int(reply.request.get("top_logprobs") or 0)
        content.append({**said, "top_logprobs": [said] if top else []})
    return {"content": content}


def _completion_logprobs(reply: Reply, sample: Sample, at: int | None = None) -> dict[str, Any] | None:
    if reply.request.get("logprobs") is None:
        return None
    entries = _entries(reply, sample, at)
    names = [_name(reply, token) for token, _ in entries]
    values = [logprob for _, logprob in entries]
    tops = [{name: value} for name, value in zip(names, values, strict=True)]
    return {"text_offset": [0] * len(names), "token_logprobs": values, "tokens": names, "top_logprobs": tops}


def _name(reply: Reply, token: int) -> str:
    if reply.request.get("return_tokens_as_token_ids"):
        return f"token_id:{token}"
    return str(reply.engine.tokenizer.decode([token], skip_special_tokens=False))


def _nothing() -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": None}


def _fingerprint(reply: Reply, last: bool) -> dict[str, Any]:
    """It stands in a stream's last event: of a choice, or the usage."""
    counted = (reply.request.get("stream_options") or {}).get("include_usage")
    return {"system_fingerprint": "vllm-stub"} if last and not counted else {}


def _streamed(reply: Reply, head: dict[str, Any], events: list[bytes]) -> StubReply:
    if (reply.request.get("stream_options") or {}).get("include_usage"):
        events.append(_event(head, [], usage=reply.usage(), system_fingerprint="vllm-stub"))
    return StubReply(200, chunks=[*events, DONE])


def _event(head: dict[str, Any], choices: list[dict[str, Any]], **fields: Any) -> bytes:
    return b"data: " + _dump({**head, "choices": choices, **fields}) + b"\n\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
