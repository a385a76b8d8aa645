"""SGLang's whole replies as vLLM would give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.engines.contract import Wanted
from moorage.engines.sglang.shapes import GeneratedSaid, MetaSaid, Triple
from moorage.engines.told import Choice, completion_reply
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, ShortLogprobs, UnreadableReply
from moorage.errors import FailedError

__all__ = ["check_prompt_tokens", "choice_of", "refuse_abort", "retold", "usage_of", "version_of"]

_GENERATED = msgspec.json.Decoder(list[GeneratedSaid])


def retold(reply: bytes, wanted: Wanted) -> bytes:
    """A reply of `/generate`, `/v1/chat/completions` or `/v1/completions`.

    Raises EngineGaveNoIds, ShortLogprobs, AbortedByEngine, UnreadableReply, and FailedError
    `prompt_changed_by_engine`.
    """
    try:
        if b'"choices"' in reply[:2048] and b'"meta_info"' not in reply[:64]:
            return _openai(reply)
        listed = reply.lstrip().startswith(b"[")
        several = _GENERATED.decode(reply if listed else b"[%b]" % reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
    if not several:
        raise UnreadableReply("the engine's reply has no choices")
    for one in several:
        refuse_abort(one.meta_info)
        check_prompt_tokens(one.meta_info, wanted)
    choices = [choice_of(one, index, wanted) for index, one in enumerate(several)]
    return completion_reply(several[0].meta_info.id, choices, wanted, usage_of([one.meta_info for one in several]))


def choice_of(said: GeneratedSaid, index: int, wanted: Wanted) -> Choice:
    """All of one choice. Raises EngineGaveNoIds and ShortLogprobs."""
    meta = said.meta_info
    triples = meta.output_token_logprobs
    if triples is None:
        raise EngineGaveNoIds("the engine gave no output_token_logprobs: nothing was recorded")
    counted = meta.completion_tokens
    if counted is not None and counted != len(triples):
        message = f"the engine gave {len(triples)} log probabilities for {counted} tokens: nothing was recorded"
        raise ShortLogprobs(message)
    version = version_of(meta)
    return Choice(
        index=index,
        text=said.text,
        ids=[token for _, token, _ in triples],
        logprobs=[logprob for logprob, _, _ in triples],
        finish_reason=None if meta.finish_reason is None else meta.finish_reason.type,
        stop_reason=stop_reason_of(meta, wanted),
        tops=None if meta.output_top_logprobs is None else [tops_of(row, wanted) for row in meta.output_top_logprobs],
        spans=[(version, 0, len(triples))] if version is not None and triples else (),
    )


def stop_reason_of(meta: MetaSaid, wanted: Wanted) -> int | str | None:
    """The stop string, or a stop token that is not the model's own end."""
    matched = None if meta.finish_reason is None else meta.finish_reason.matched
    if isinstance(matched, str):
        return matched
    return matched if isinstance(matched, int) and matched not in wanted.ends else None


def tops_of(row: Sequence[Triple] | None, wanted: Wanted) -> dict[str, float] | None:
    """By name: a chat's tokens by their ids, since two may have one text; a text completion's by their text."""
    if row is None:
        return None
    return {
        (text if text is not None and not wanted.chat else f"token_id:{token}"): logprob
        for logprob, token, text in row
        if logprob is not None
    }


def version_of(meta: MetaSaid) -> str | None:
    """The weights that sampled it."""
    return None if meta.weight_version is None else str(meta.weight_version)


def usage_of(metas: Sequence[MetaSaid]) -> dict[str, int]:
    """OpenAI's counts."""
    prompt = metas[0].prompt_tokens or 0
    sampled = sum(meta.completion_tokens or 0 for meta in metas)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def refuse_abort(meta: MetaSaid) -> None:
    """Raises AbortedByEngine with what SGLang says of it."""
    finish = meta.finish_reason
    if finish is not None and finish.type == "abort":
        raise AbortedByEngine(
            f"the engine stopped by itself (finish_reason abort): {finish.message or 'it says no why'}"
        )


def check_prompt_tokens(meta: MetaSaid, wanted: Wanted) -> None:
    """Raises FailedError when the engine counts other prompt tokens than were sent."""
    if wanted.prompt is None or meta.prompt_tokens is None:
        return
    sent = len(wanted.prompt.ids) // 4
    if meta.prompt_tokens != sent:
        raise FailedError(
            f"the engine counts {meta.prompt_tokens} prompt tokens where {sent} were sent: nothing was recorded",
            code="prompt_changed_by_engine",
            hint="use mode passthrough with this engine",
        )


def _openai(reply: bytes) -> bytes:
    """A reply of its OpenAI routes: ids out of `meta_info` where they are nowhere else."""
    said = msgspec.json.decode(reply, type=dict[str, msgspec.Raw])
    choices = msgspec.json.decode(said["choices"], type=list[dict[str, Any]])
    for choice in choices:
        _fill(choice)
    said["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(said)


def _fill(choice: dict[str, Any]) -> None:
    """One choice, with the fields that vLLM has, in its order."""
    meta = msgspec.convert(choice.pop("meta_info", None) or {}, MetaSaid, strict=False)
    refuse_abort(meta)
    triples = meta.output_token_logprobs
    ids = choice.pop("token_ids", None)
    if ids is None and triples is not None:
        ids = [token for _, token, _ in triples]
    logprobs = choice.get("logprobs")
    if logprobs is None and triples is not None:
        choice["logprobs"] = {"content": [{"token": "", "logprob": logprob} for logprob, _, _ in triples]}
    stop = choice.pop("matched_stop", None)
    prompt = choice.pop("prompt_token_ids", None)
    choice["stop_reason"] = stop if isinstance(stop, str) else None
    choice["token_ids"] = ids
    if prompt is not None:
        choice["prompt_token_ids"] = prompt
    version = version_of(meta)
    if version is not None and ids:
        choice["weight_versions"] = [{"version": version, "start": 0, "end": len(ids)}]
