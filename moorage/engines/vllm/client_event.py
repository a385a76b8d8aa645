"""What the client gets of one event of a stream: the same bytes without what only the gateway asked for."""

from __future__ import annotations

import msgspec

from moorage.engines.vllm.client_reply import by_fields, by_search

__all__ = ["client_event", "is_ours_alone", "with_fingerprint"]

EMPTY = b'"delta":{},"logprobs":null,"finish_reason":null,"token_ids":null'
LOGPROBS, FINISH, TOKEN_IDS = b',"logprobs":{', b',"finish_reason":', b',"token_ids":['
LAST, CLOSING = b"]}]}\n\n", ord("}")
FINGERPRINT = b'"system_fingerprint":"'


def client_event(event: bytes, *, ids: bool, logprobs: bool) -> bytes:
    """An event of a chat or completion stream with null for its ids and log probabilities, as these flags say."""
    found = _one_token(event) if ids and logprobs else None
    if found is None:
        found = by_search(event, ids=ids, logprobs=logprobs)
    if found is not None:
        return found
    lead, data, rest = event.partition(b"data:")
    try:
        said = by_fields(rest, ids=ids, logprobs=logprobs)
    except msgspec.DecodeError:
        return event  # no reply: nothing of ours is in it
    return b"%s%s %s%s" % (lead, data, said, event[len(event.rstrip()) :])


def _one_token(event: bytes) -> bytes | None:
    """The shortest way, for what nearly every event is: one choice, its log probabilities and its ids, no end.

    None: this event is another. Quotes inside strings are escaped, so none of the keys can be a string's text.
    """
    start = event.find(LOGPROBS) + 12
    end = event.find(FINISH, start)
    ids = event.find(TOKEN_IDS, end) + 13
    close = event.find(b"]", ids)
    if start < 12 or end < 0 or ids < 13 or event[close:] != LAST or event[end - 1] != CLOSING:
        return None
    if event.find(b"[", end, ids - 1) >= 0:
        return None  # the prompt's ids stand between
    return b"%snull%snull%s" % (event[:start], event[end:ids], LAST[1:])


def is_ours_alone(event: bytes) -> bool:
    """Whether nothing is left in a client's event: without ids asked for, the engine would not have sent it."""
    return EMPTY in event


def with_fingerprint(event: bytes, usage: bytes) -> bytes:
    """The last event, with the fingerprint that the engine gives along with the usage once that is asked for."""
    start = usage.find(FINGERPRINT)
    if start < 0 or FINGERPRINT in event:
        return event
    end = usage.find(b'"', start + len(FINGERPRINT)) + 1
    body = event.rstrip()
    return b"%s,%s}%s" % (body[:-1], usage[start:end], event[len(body) :])
