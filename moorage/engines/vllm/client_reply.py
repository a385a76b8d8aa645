"""What the client gets of a whole reply: everything but the ids and log probabilities that only the gateway asked for.

In their place stands null, which is what the engine says when it is not asked. Every other byte stays as it was. The
cuts are made by byte search, in the order in which vLLM writes its fields; where a reply looks otherwise it is taken
apart field by field, each value still as its own bytes.
"""

from __future__ import annotations

import msgspec

from moorage.engines.vllm.asked import Asked, wants_ids, wants_logprobs
from moorage.engines.vllm.parts import Parts

__all__ = ["by_fields", "by_search", "client_reply"]

PROMPT_IDS = b',"prompt_token_ids":'
TOKEN_IDS = b',"token_ids":'
LOGPROBS = b',"logprobs":'
FINISH = b',"finish_reason":'
NEAR_BYTES = 1024
NULL = msgspec.Raw(b"null")


def client_reply(raw: bytes, asked: Asked, parts: Parts | None = None) -> bytes:
    """The reply of a captured chat or completion request, as the client asked for it. `parts`: of this reply."""
    ids, logprobs = not wants_ids(asked), not wants_logprobs(asked)
    if not ids and not logprobs:
        return raw
    if ids and logprobs and parts is not None:
        return parts.rest
    return by_search(raw, ids=ids, logprobs=logprobs) or by_fields(raw, ids=ids, logprobs=logprobs)


def by_search(raw: bytes, *, ids: bool, logprobs: bool) -> bytes | None:
    """A reply or event with null in place of what is taken out.

    None: it is not laid out as vLLM does, or holds objects of unknown make, where a key may mean anything.
    """
    if b'"choices":[{"index":' not in raw[:400]:
        return None
    keys = ((LOGPROBS,) if logprobs else ()) + ((TOKEN_IDS, PROMPT_IDS) if ids else ())
    pieces, at = [], 0
    found = _next(raw, keys, at)
    while found is not None:
        start, key = found
        start += len(key)
        if raw.startswith(b"[", start):
            end = raw.index(b"]", start) + 1
        elif key is LOGPROBS and raw.startswith(b"{", start):
            # No string of a token can hold this key, and no other key of a choice lies between the two.
            end = raw.find(FINISH, start)
            if end < 0 or not raw.startswith(b"}", end - 1):
                return None
        elif raw.startswith(b"null", start):
            end = start + 4
        else:
            return None
        pieces.append(raw[at:start])
        at = end
        found = _next(raw, keys, at)
    pieces.append(raw[at:])
    cut = b"null".join(pieces)
    return None if b'_transfer_params":{' in cut else cut


def by_fields(raw: bytes, *, ids: bool, logprobs: bool) -> bytes:
    """The same for any layout, taken apart field by field. Raises msgspec.DecodeError for what is no reply."""
    reply = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    choices = msgspec.json.decode(reply.get("choices", b"null"), type=list[dict[str, msgspec.Raw]])
    for fields in (reply, *choices):
        for name in ("token_ids", "prompt_token_ids"):
            if ids and name in fields:
                fields[name] = NULL
        if logprobs and "logprobs" in fields:
            fields["logprobs"] = NULL
    reply["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(reply)


def _next(raw: bytes, keys: tuple[bytes, ...], at: int) -> tuple[int, bytes] | None:
    """The first of the keys from `at` on, where it is and which; None: there is none.

    They mostly stand close together: looking near first spares a search through all of a long prompt's ids.
    """
    for end in (at + NEAR_BYTES, len(raw)) if at + NEAR_BYTES < len(raw) else (len(raw),):
        best: tuple[int, bytes] | None = None
        for key in keys:
            place = raw.find(key, at, end)
            if place >= 0:
                best, end = (place, key), place
        if best is not None:
            return best
    return None
