"""When a request is the same one again, and when it is a new sample.

Nothing but the client's word tells a retry from best-of-n: an equal body is sent for both. So a request is a retry of
an earlier one in its session when path and body are the same, and either both carry one `Idempotency-Key`, or this
one says that it repeats (`x-stainless-retry-count` of 1 or more, which OpenAI's SDK sets by itself).

| earlier requests with this path and body | evidence | what to do |
| --- | --- | --- |
| none, or only failed ones and ones whose client went away | any | ask: a new call |
| any | none | ask: a new sample; the earlier ones stay |
| in flight | yes | wait for its reply |
| finished | yes | replay its reply |

Of several, one with the same Idempotency-Key goes before others, then one in flight before a finished one (the client
of a finished one has most likely got its reply), then the latest. The tables of requests are the gateway's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from moorage.capture.chain import digest

__all__ = ["Action", "Begun", "Evidence", "RetryKey", "begin", "choose", "key_of", "retry_evidence", "retry_key"]

Action = Literal["ask", "wait", "replay"]

_MANY_DIGITS = 9


class Evidence(msgspec.Struct, frozen=True):
    """What a request says about being a retry."""

    idempotency_key: str
    """Empty: it has none."""
    counted: bool
    """It says itself that it repeats an earlier one."""


class RetryKey(msgspec.Struct, frozen=True):
    """How a request may repeat another of its session."""

    content: bytes
    """[16] digest of path and body: what two requests must have in common."""
    idempotency_digest: bytes
    """[16] of the Idempotency-Key; empty: it has none."""
    counted: bool

    def repeats(self, idempotency_digest: bytes) -> bool:
        """Whether this is a retry of an earlier request with the same content and that Idempotency digest."""
        return self.counted or self.same_key(idempotency_digest)

    def same_key(self, idempotency_digest: bytes) -> bool:
        """Whether both carry one Idempotency-Key."""
        return bool(self.idempotency_digest) and self.idempotency_digest == idempotency_digest


def retry_evidence(idempotency_key: str | None, stainless_retry_count: str | None) -> Evidence:
    """Read the two headers; None or empty: absent. A count that is no whole number is no evidence."""
    count = (stainless_retry_count or "").strip()
    counted = count.isascii() and count.isdigit() and int(count[-_MANY_DIGITS:]) >= 1
    return Evidence((idempotency_key or "").strip(), counted)


def retry_key(path: str, body: bytes, evidence: Evidence) -> RetryKey:
    """`path`: the route within the session, so that the spellings of one route are one."""
    return key_of(begin(path).plus(body).digest(), evidence)


def key_of(content: bytes, evidence: Evidence) -> RetryKey:
    """The same of the digest of path and body."""
    token = evidence.idempotency_key.encode("utf-8", "surrogateescape")
    return RetryKey(content, digest(token) if token else b"", evidence.counted)


class Begun:
    """The digest of a path and the beginning of a body, to be continued; never changed."""

    __slots__ = ("_hash",)

    def __init__(self, hashed: hashlib.blake2b) -> None:
        self._hash = hashed

    def plus(self, more: bytes) -> Begun:
        """With `more` of the body."""
        copy = self._hash.copy()
        copy.update(more)
        return Begun(copy)

    def digest(self) -> bytes:
        """[16] of the path and the body so far."""
        return self._hash.digest()


def begin(path: str) -> Begun:
    """Nothing of the body yet."""
    name = path.encode("utf-8", "surrogateescape")
    return Begun(hashlib.blake2b(len(name).to_bytes(4, "little") + name, digest_size=16))


def choose(key: RetryKey, in_flight: Sequence[bytes], finished: Sequence[bytes]) -> tuple[Action, int]:
    """What to do with a request, and the place in `in_flight` or `finished` of the one that it repeats (ask: -1).

    Both lists hold the Idempotency digests of earlier requests with its content, the oldest first.
    """
    for same in (key.same_key, key.repeats):
        for action, earlier in (("wait", in_flight), ("replay", finished)):
            for place in range(len(earlier) - 1, -1, -1):
                if same(earlier[place]):
                    return ("wait" if action == "wait" else "replay"), place
    return "ask", -1
