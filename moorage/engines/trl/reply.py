"""TRL's replies as vLLM would give them: it gives ids alone, so text and ends are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.capture.packing import pack_ids
from moorage.engines.contract import Wanted
from moorage.engines.told import Choice, completion_reply
from moorage.engines.trl.ask import limit
from moorage.engines.vllm.faults import EngineGaveNoIds, ShortLogprobs, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.errors import FailedError

__all__ = ["retold"]

Values = list[list[float | None] | float | None]
"""[C] each with the alternatives' log probabilities; servers before 0.25 gave the sampled one alone."""


class _Reply(msgspec.Struct):
    prompt_ids: list[list[int]] | None = None
    completion_ids: list[list[int]] | None = None
    logprobs: list[Values] | None = None
    logprob_token_ids: list[list[list[int]]] | None = None


def retold(reply: bytes, wanted: Wanted) -> bytes:
    """A chat's reply where the engine made the prompt of messages, else a text completion's.

    Raises EngineGaveNoIds, ShortLogprobs, UnreadableReply, and FailedError `tokenizer_missing`.
    """
    try:
        said = msgspec.json.decode(reply, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
    if not said.completion_ids or not said.prompt_ids:
        raise EngineGaveNoIds("the engine gave no completion_ids: nothing was recorded")
    fields = msgspec.json.decode(wanted.request, type=dict[str, msgspec.Raw])
    longest = limit(fields, wanted.max_tokens, chat=wanted.chat)
    choices = [_choice(said, index, longest, wanted) for index in range(len(said.completion_ids))]
    prompt = Known.of(pack_ids(said.prompt_ids[0]))
    told = completion_reply("trl", choices, wanted._replace(prompt=prompt), _usage(said))
    return told if not wanted.chat or wanted.prompt is not None else _as_chat(told)


def _choice(said: _Reply, index: int, longest: int, wanted: Wanted) -> Choice:
    if wanted.decode is None:
        raise FailedError(
            "the engine gives token ids and no text, and there is no tokenizer to read them with",
            code="tokenizer_missing",
            hint="start with --tokenizer-path DIR",
        )
    assert said.completion_ids is not None
    ids = said.completion_ids[index]
    values = said.logprobs[index] if said.logprobs is not None and index < len(said.logprobs) else []
    names = said.logprob_token_ids[index] if said.logprob_token_ids is not None else None
    if len(values) != len(ids) or (names is not None and len(names) != len(ids)):
        raise ShortLogprobs(f"the engine gave {len(values)} log probabilities for {len(ids)} tokens")
    rows = [_row(values[at], None if names is None else names[at], ids[at]) for at in range(len(ids))]
    ended = bool(ids) and ids[-1] in wanted.ends
    return Choice(
        index=index,
        text=wanted.decode(ids),
        ids=ids,
        logprobs=[row[token] for row, token in zip(rows, ids, strict=True)],
        # A stop string or token ends it too, and then the limit was not reached.
        finish_reason="stop" if ended or len(ids) < longest else "length",
        tops=[{f"token_id:{token}": value for token, value in row.items()} for row in rows],
    )


def _row(values: list[float | None] | float | None, names: Sequence[int] | None, token: int) -> dict[int, float]:
    """The alternatives by token. Raises ShortLogprobs when the sampled one has none."""
    if isinstance(values, list):
        pairs = zip(names or (token,), values, strict=names is not None)
        row = {name: value for name, value in pairs if value is not None}
    else:
        row = {} if values is None else {token: values}
    if token not in row:
        raise ShortLogprobs(f"the engine gave no log probability of the sampled token {token}")
    return row


def _usage(said: _Reply) -> dict[str, int]:
    prompt = len((said.prompt_ids or [[]])[0])
    sampled = sum(map(len, said.completion_ids or ()))
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def _as_chat(told: bytes) -> bytes:
    """A text completion's reply as a chat's."""
    said: dict[str, Any] = msgspec.json.decode(told)
    for choice in said["choices"]:
        prompt = choice.pop("prompt_token_ids", None)
        said.setdefault("prompt_token_ids", prompt)
        message = {"role": "assistant", "content": choice.pop("text")}
        logprobs = choice.pop("logprobs")
        values = zip(logprobs["token_logprobs"], logprobs.get("top_logprobs") or (), strict=False)
        content = [{"token": "", "logprob": value, "top_logprobs": _listed(tops)} for value, tops in values]
        choice |= {"message": message, "logprobs": {"content": content}}
    return msgspec.json.encode({**said, "object": "chat.completion"})


def _listed(tops: dict[str, float]) -> list[dict[str, Any]]:
    """By their ids: the engine has no texts of them."""
    return [{"token": name, "logprob": value} for name, value in sorted(tops.items(), key=lambda pair: -pair[1])]
