"""A whole reply with one choice, taken apart by byte search: its long lists are found once, to be read and to be cut.

The lists of ids and the log probabilities are nine tenths of a reply. They are cut out in the order in which vLLM
writes its fields, and each is read by itself. What is left is what the client gets, and soon read.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from moorage.engines.vllm.known import Known

__all__ = ["Parts", "take_apart"]

LOGPROBS = b',"logprobs":{'
FINISH = b'},"finish_reason":'
TOKEN_IDS = b',"token_ids":['
PROMPT_IDS = b',"prompt_token_ids":['


class Parts(NamedTuple):
    """`rest` has null in place of the other three, which are JSON."""

    rest: bytes
    logprobs: memoryview
    token_ids: bytes
    prompt_ids: bytes
    """Without the known ones at its beginning."""
    known: bytes
    """[K] uint32: the ids that were known; empty: none of the prompt's were."""


class _ChoiceRest(msgspec.Struct, gc=False):
    logprobs: None
    token_ids: None
    prompt_token_ids: msgspec.UnsetType | None = msgspec.UNSET


class _Rest(msgspec.Struct):
    """What `rest` must be: null stands where it was put, and the fields it was put for have it."""

    choices: list[_ChoiceRest]
    prompt_token_ids: msgspec.UnsetType | None = msgspec.UNSET


_REST = msgspec.json.Decoder(_Rest)


def take_apart(raw: bytes, known: Known | None = None) -> Parts | None:
    """None: the reply is laid out in another way, or has more than one choice.

    `known`: ids that the prompt probably begins with. No key can lie inside a JSON string, whose quotes would be
    escaped; that each one found was the field of its choice or reply, what is left shows.
    """
    logprobs = raw.find(LOGPROBS)
    finish = raw.find(FINISH, logprobs)
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
    if not _is_whole(rest):
        return None
    return Parts(rest, memoryview(raw)[logprobs : finish + 1], raw[ids:ids_end], b"[" + raw[unknown:end], before)


def _is_whole(rest: bytes) -> bool:
    """Whether each null stands for the field that it was put for."""
    if rest.count(b'"logprobs":null') != 1 or rest.count(b'token_ids":null') != 2:
        return False
    try:
        found = _REST.decode(rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return len(found.choices) == 1 and (found.prompt_token_ids is None or found.choices[0].prompt_token_ids is None)
