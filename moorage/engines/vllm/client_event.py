"""What the client gets of one event of a stream: the same bytes without what only the gateway asked for.

Ids are left out and log probabilities become null, which is how the engine streams when it is not asked for them.
"""

from __future__ import annotations

import msgspec

__all__ = ["client_event"]

TOKEN_IDS = b',"token_ids":['
PROMPT_IDS = b',"prompt_token_ids":['
PROMPT_IDS_NULL = b',"prompt_token_ids":null'
LOGPROBS = b'"logprobs":{'
FINISH = b',"finish_reason":'


def client_event(event: bytes, *, ids: bool, logprobs: bool) -> bytes:
    """An event of a chat or completion stream. `ids`, `logprobs`: what to take out."""
    if b'"choices":[{"index":' not in event[:400] or event.count(b'"choices"') != 1:
        return _by_fields(event, ids=ids, logprobs=logprobs)
    if logprobs:
        start = event.find(LOGPROBS) + 11
        if start > 10:
            end = event.find(FINISH, start)
            if end < 0 or not event.startswith(b"}", end - 1) or event.find(LOGPROBS, end) >= 0:
                return _by_fields(event, ids=ids, logprobs=logprobs)
            event = b"%snull%s" % (event[:start], event[end:])
    if ids:
        event = _without_array(_without_array(event, TOKEN_IDS), PROMPT_IDS).replace(PROMPT_IDS_NULL, b"")
    return event


def _without_array(event: bytes, key: bytes) -> bytes:
    """Without each array of numbers of that name. Quotes inside strings are escaped, so the key is never one's text."""
    start = event.find(key)
    while start >= 0:
        event = event[:start] + event[event.index(b"]", start) + 1 :]
        start = event.find(key, start)
    return event


def _by_fields(event: bytes, *, ids: bool, logprobs: bool) -> bytes:
    """The long way, for an event that is laid out otherwise; one that is no reply stays as it is."""
    lead, _, data = event.partition(b"data:")
    try:
        said = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        choices = msgspec.json.decode(said.get("choices", b"null"), type=list[dict[str, msgspec.Raw]])
    except msgspec.DecodeError:
        return event
    for fields in (said, *choices):
        for name in ("token_ids", "prompt_token_ids"):
            if ids:
                fields.pop(name, None)
        if logprobs and "logprobs" in fields:
            fields["logprobs"] = msgspec.Raw(b"null")
    said["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    end = event[len(event.rstrip()) :]
    return lead + b"data: " + msgspec.json.encode(said) + end
