"""What the client gets of a whole reply: everything but the ids and log probabilities that only the gateway asked for.

In their place stands null, which is what the engine says when it is not asked. Every other byte stays as it was. The
cuts are made by byte search, in the order in which vLLM writes its fields; where a reply looks otherwise it is taken
apart field by field, each value still as its own bytes.
"""

from __future__ import annotations

import msgspec

from moorage.engines.vllm.asked import Asked, wants_ids, wants_logprobs

__all__ = ["client_reply"]

PROMPT_IDS = b',"prompt_token_ids":'
TOKEN_IDS = b',"token_ids":'
LOGPROBS = b',"logprobs":'
FINISH = b',"finish_reason":'
NULL = msgspec.Raw(b"null")


def client_reply(raw: bytes, asked: Asked) -> bytes:
    """The reply of a captured chat or completion request, as the client asked for it."""
    ids, logprobs = not wants_ids(asked), not wants_logprobs(asked)
    if not ids and not logprobs:
        return raw
    return _by_search(raw, ids=ids, logprobs=logprobs) or _by_fields(raw, ids=ids, logprobs=logprobs)


def _by_search(raw: bytes, *, ids: bool, logprobs: bool) -> bytes | None:
    """None: the reply is not laid out as vLLM does, or holds objects of unknown make, where a key may mean anything."""
    if b'"choices":[{"index":' not in raw[:400] or b'_transfer_params":{' in raw:
        return None
    cuts: list[tuple[int, int]] = []
    if ids:
        _find_arrays(raw, TOKEN_IDS, cuts)
        _find_arrays(raw, PROMPT_IDS, cuts)
    if logprobs and not _find_logprobs(raw, cuts):
        return None
    cuts.sort()
    pieces, at = [], 0
    for start, end in cuts:
        pieces.append(raw[at:start])
        at = end
    pieces.append(raw[at:])
    return b"null".join(pieces)


def _find_arrays(raw: bytes, key: bytes, cuts: list[tuple[int, int]]) -> None:
    """The places of this key's arrays of numbers; a null is left as it is."""
    at = raw.find(key)
    while at >= 0:
        start = at + len(key)
        end = start
        if raw.startswith(b"[", start):
            end = raw.index(b"]", start) + 1
            cuts.append((start, end))
        at = raw.find(key, end)


def _find_logprobs(raw: bytes, cuts: list[tuple[int, int]]) -> bool:
    """The places of the choices' logprobs, each followed by its finish_reason; False when one is not."""
    at = raw.find(LOGPROBS)
    while at >= 0:
        start = at + len(LOGPROBS)
        end = start
        if raw.startswith(b"{", start):
            end = raw.find(FINISH, start)
            # No string of a token can hold this key, and no other key of a choice lies between the two.
            if end < 0 or not raw.startswith(b"}", end - 1):
                return False
            cuts.append((start, end))
        at = raw.find(LOGPROBS, end)
    return True


def _by_fields(raw: bytes, *, ids: bool, logprobs: bool) -> bytes:
    reply = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    choices = msgspec.json.decode(reply.get("choices", b"[]"), type=list[dict[str, msgspec.Raw]])
    for fields in (reply, *choices):
        for name in ("token_ids", "prompt_token_ids"):
            if ids and name in fields:
                fields[name] = NULL
        if logprobs and "logprobs" in fields:
            fields["logprobs"] = NULL
    reply["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(reply)
