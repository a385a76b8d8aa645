"""Whole replies of vLLM, read: ids, log probabilities and what was said, checked before anybody may record them.

Whether each token has its log probability and each choice an end is decided here. A reply that fails is a fault of the
engine: nothing is padded, cut or guessed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from moorage.capture.call import Span
from moorage.capture.packing import pack_floats, pack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.engines.vllm.client_reply import client_reply
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.parts import Parts
from moorage.engines.vllm.shapes import ChoiceSaid, LogprobsSaid, ReplySaid, TopsReply

__all__ = [
    "check_end",
    "client_reply",
    "logprobs_of",
    "packed_ids",
    "read_chat",
    "read_completion",
    "read_generate",
    "without_known",
]

PROMPT_IDS = b'"prompt_token_ids":['
NO_REASONS = (None, "abort", "error")

_REPLY = msgspec.json.Decoder(ReplySaid)


def read_chat(
    raw: bytes, *, known: Known | None = None, top_logprobs: bool = False, parts: Parts | None = None
) -> Generation:
    """A `/v1/chat/completions` reply.

    `known`: ids that the prompt probably begins with; they are compared as memory and not parsed again.
    `top_logprobs`: keep what the client asked to see. `parts`: of this reply, taken apart with the same `known`.
    Raises EngineGaveNoIds, ShortLogprobs, AbortedByEngine, UnreadableReply.
    """
    said, prompt = _read(raw, known, parts)
    return _generation(said, prompt, _tops(raw, said) if top_logprobs else ())


def read_completion(
    raw: bytes, *, known: Known | None = None, top_logprobs: bool = False, parts: Parts | None = None
) -> Generation:
    """A `/v1/completions` reply to one prompt; arguments and faults as for `read_chat`.

    With `echo` the log probabilities begin with the prompt's; these are left out.
    """
    said, prompt = _read(raw, known, parts)
    return _generation(said, prompt, _tops(raw, said) if top_logprobs else ())


def read_generate(raw: bytes, prompt: bytes, *, top_logprobs: bool = False) -> Generation:
    """An `/inference/v1/generate` reply to `prompt` [P] uint32, which it does not repeat; faults as for `read_chat`."""
    said = _decode(raw)
    return _generation(said, prompt, _tops(raw, said) if top_logprobs else ())


def packed_ids(ids: Sequence[int] | None, whose: str) -> bytes:
    """[N] ids as uint32. Raises EngineGaveNoIds when there are none, or they are no ids."""
    if ids is None:
        raise EngineGaveNoIds(
            f"the engine gave no token ids of the {whose}: nothing was recorded",
            hint="capture needs an engine that honours return_token_ids, as vLLM 0.10.2 and newer do",
        )
    try:
        return pack_ids(ids)
    except ValueError as error:
        raise EngineGaveNoIds(f"the engine gave impossible token ids of the {whose}: {error}") from None


def logprobs_of(said: LogprobsSaid | None) -> list[float | None]:
    """[C]; None where the engine said none."""
    if said is None:
        return []
    if said.content is not None:
        return [entry.logprob for entry in said.content]
    return said.token_logprobs or []


def packed_logprobs(values: Sequence[float | None] | array[float], tokens: int, *, prompt_tokens: int) -> bytes:
    """[C] float64 for C tokens. Raises ShortLogprobs. More by just the prompt's tokens: the prompt was echoed."""
    if tokens and len(values) == tokens + prompt_tokens:
        values = values[prompt_tokens:]
    if len(values) == tokens:
        try:
            return pack_floats(values)  # type: ignore[arg-type]  # None raises TypeError
        except TypeError:
            pass
    given = sum(value is not None for value in values)
    raise ShortLogprobs(f"the engine gave {given} log probabilities for {tokens} tokens: nothing was recorded")


def check_end(finish_reason: str | None) -> str:
    """The finish reason. Raises AbortedByEngine when it is no end that a model or a limit makes."""
    if finish_reason is None or finish_reason in NO_REASONS:
        raise AbortedByEngine(f"the engine stopped by itself (finish_reason {finish_reason or 'null'})")
    return finish_reason


def _read(raw: bytes, known: Known | None, parts: Parts | None) -> tuple[ReplySaid, bytes]:
    """The reply and its prompt's ids."""
    if parts is not None:
        new = parts.prompt_ids
        return parts.said, parts.known + packed_ids(new, "prompt") if new else parts.known
    cut = None if known is None or not known.ids else without_known(raw, known.text)
    said = _decode(raw if cut is None else cut)
    ids = said.prompt_token_ids
    if ids is None and said.choices:
        ids = said.choices[0].prompt_token_ids
    rest = packed_ids(ids, "prompt")
    return said, rest if known is None or cut is None else known.ids + rest


def without_known(raw: bytes, text: bytes) -> bytes | None:
    """The reply with the known ids cut out of the prompt's; None when they are not its beginning, or it is not clear.

    The key cannot lie inside a JSON string, whose quotes would be escaped; a second one would make it unclear.
    """
    start = raw.find(PROMPT_IDS) + len(PROMPT_IDS)
    end = start + len(text)
    if start < len(PROMPT_IDS) or not raw.startswith(text, start) or raw[end : end + 1] not in (b",", b"]"):
        return None
    if raw[start - len(PROMPT_IDS) - 1 : start - len(PROMPT_IDS)] == b"\\" or raw.find(PROMPT_IDS, end) >= 0:
        return None
    return raw[:start] + raw[end + 1 if raw[end : end + 1] == b"," else end :]


def _decode(raw: bytes) -> ReplySaid:
    try:
        said = _REPLY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
    if not said.choices:
        raise UnreadableReply("the engine's reply has no choices")
    return said


def _generation(said: ReplySaid, prompt: bytes, tops: Sequence[msgspec.Raw]) -> Generation:
    prompt_tokens = len(prompt) // 4
    choices = tuple(
        _sampled(choice, prompt_tokens, tops[position] if tops else None)
        for position, choice in enumerate(said.choices)
    )
    return Generation(prompt=prompt, choices=choices, model=said.model or "", usage=said.usage)


def _sampled(choice: ChoiceSaid, prompt_tokens: int, tops: msgspec.Raw | None) -> Sampled:
    finish_reason = check_end(choice.finish_reason)
    ids = packed_ids(choice.token_ids, "completion")
    return Sampled(
        index=choice.index,
        ids=ids,
        logprobs=packed_logprobs(logprobs_of(choice.logprobs), len(ids) // 4, prompt_tokens=prompt_tokens),
        finish_reason=finish_reason,
        stop_reason=choice.stop_reason,
        text=choice.text,
        top_logprobs=tops,
        spans=tuple(Span(one.version, one.start, one.end) for one in choice.weight_versions or ()),
        message=choice.message,
        routed_experts=None if bytes(choice.routed_experts) == b"null" else choice.routed_experts.copy(),
    )


def _tops(raw: bytes, said: ReplySaid) -> list[msgspec.Raw]:
    tops = msgspec.json.decode(raw, type=TopsReply)
    assert len(tops.choices) == len(said.choices)
    return [msgspec.Raw(choice.rows()) for choice in tops.choices]
