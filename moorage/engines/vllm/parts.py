"""A whole reply with one choice, taken apart by byte search: its long lists are found once, to be read and to be cut.

The lists of ids and the log probabilities are nine tenths of a reply. They are cut out in the order in which vLLM
writes its fields, and each is read by itself. What is left is what the client gets, and soon read.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from moorage.engines.vllm.known import Known
from moorage.engines.vllm.shapes import ChoiceSaid, LogprobsSaid, ReplySaid

__all__ = ["Parts", "take_apart"]

LOGPROBS = b',"logprobs":{'
FINISH = b'},"finish_reason":'
TOKEN_IDS = b',"token_ids":['
PROMPT_IDS = b',"prompt_token_ids":['


class Parts(NamedTuple):
    """A reply in two forms."""

    rest: bytes
    """Its text, with null in place of the long lists."""
    said: ReplySaid
    """All of it, but for the prompt's ids."""
    prompt_ids: list[int]
    """Without the known ones at its beginning."""
    known: bytes
    """[K] uint32: the ids that were known; empty: none of the prompt's were."""


class _ChoiceRest(ChoiceSaid, kw_only=True):
    """Null stands where it was put, and the fields it was put for have it."""

    logprobs: None
    token_ids: None
    prompt_token_ids: msgspec.UnsetType | None = msgspec.UNSET  # type: ignore[assignment]  # it was cut out


class _Rest(ReplySaid, kw_only=True):
    """What `rest` must be."""

    choices: list[_ChoiceRest]  # type: ignore[assignment]  # of the same fields
    prompt_token_ids: msgspec.UnsetType | None = msgspec.UNSET  # type: ignore[assignment]


_REST = msgspec.json.Decoder(_Rest)
_LOGPROBS = msgspec.json.Decoder(LogprobsSaid)
_IDS = msgspec.json.Decoder(list[int])


def take_apart(raw: bytes, known: Known | None = None) -> Parts | None:
    """None: the reply is laid out in another way, has more than one choice, or cannot be read.

    `known`: ids that the prompt probably begins with. No key can lie inside a JSON string, whose quotes would be
    escaped; that each one found was the field of its choice or reply, what is left shows.
    """
    logprobs = raw.find(LOGPROBS)
    finish = raw.find(FINISH, logprobs)  # not from the end: a prompt grows longer than the log probabilities
    ids = raw.find(TOKEN_IDS, finish)
    ids_end = raw.find(b"]", ids) + 1
    prompt = raw.find(PROMPT_IDS, ids_end)
    if not 0 < logprobs < finish < ids < ids_end < prompt:
        return None
    logprobs += len(LOGPROBS) - 1
    ids += len(TOKEN_IDS) - 1
    prompt += len(PROMPT_IDS) - 1
    before = b""
    unknown = prompt + 1
    if known is not None and raw.startswith(known.text, unknown):
        after = unknown + len(known.text)
        if raw.startswith((b",", b"]"), after):
            before, unknown = known.ids, after + raw.startswith(b",", after)
    end = raw.find(b"]", unknown) + 1
    if end == 0:
        return None
    rest = b"null".join((raw[:logprobs], raw[finish + 1 : ids], raw[ids_end:prompt], raw[end:]))
    said = _read(rest)
    if said is None:
        return None
    choice = said.choices[0]
    try:
        # Of several choices this is no JSON, for it begins in the first one and ends in the last.
        choice.logprobs = _LOGPROBS.decode(memoryview(raw)[logprobs : finish + 1])
        choice.token_ids = _IDS.decode(raw[ids:ids_end])
        new = _IDS.decode(b"[" + raw[unknown:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Parts(rest, said, new, before)


def _read(rest: bytes) -> ReplySaid | None:
    """None unless each null stands for the field that it was put for."""
    if rest.count(b'"logprobs":null') != 1 or rest.count(b'token_ids":null') != 2:
        return None
    try:
        said = _REST.decode(rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    whole = len(said.choices) == 1 and (said.prompt_token_ids is None or said.choices[0].prompt_token_ids is None)
    return said if whole else None
