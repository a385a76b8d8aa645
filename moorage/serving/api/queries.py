"""What stands behind the question mark, and in a few headers: read strictly, what nobody knows left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from moorage.serving.api.problems import Problem

__all__ = ["HEAD", "LARGEST", "Asked", "Precondition", "idempotency_key", "if_match", "is_create_only", "stale"]

WORDS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
LARGEST = 2**62
HEAD = "moorage.head"
"""In the scope of a request that goes the way of GET and was HEAD."""
LONGEST_KEY = 255


class Asked:
    """The fields of a query. Each is read at most once; a known one that is there twice is 400."""

    def __init__(self, request: Request) -> None:
        self._query = request.query_params
        self._may_wait = HEAD not in request.scope

    def text(self, name: str, pattern: str) -> str | None:
        """A value of that form; None: not given."""
        given = self._query.getlist(name)
        if not given:
            return None
        if len(given) > 1:
            raise _bad_query(name, "is given twice")
        if re.fullmatch(pattern, given[0]) is None:
            raise _bad_query(name, f"{given[0][:100]!r} is not what it may be")
        return given[0]

    def flag(self, name: str) -> bool:
        """Not given: no."""
        word = self.text(name, "true|false|1|0")
        return word is not None and WORDS[word]

    def watch(self) -> bool:
        """Whether a stream is wanted; HEAD waits for nothing."""
        return self.flag("watch") and self._may_wait

    def refuse(self, *names: str, because: str) -> None:
        """Fields that are known and would change nothing here: whoever sends one expects that it does."""
        for name in names:
            if name in self._query:
                raise _bad_query(name, because)

    def wait_s(self, most: int) -> int:
        """How long an answer may take; HEAD waits for nothing."""
        return (self.whole("wait_s", 0, most) or 0) * self._may_wait

    def whole(self, name: str, least: int, most: int) -> int | None:
        """None: not given."""
        digits = self.text(name, "-?[0-9]{1,20}")
        if digits is None:
            return None
        if not least <= int(digits) <= most:
            raise _bad_query(name, f"{digits} is not from {least} to {most}")
        return int(digits)

    def limit(self) -> int:
        """Of a page."""
        given = self.whole("limit", 1, 1000)
        return 100 if given is None else given

    def page_token(self) -> str | None:
        """What a page said comes next."""
        given = self.text("page_token", "(?s:.*)")
        if given is None:
            return None
        if re.fullmatch(r"[A-Za-z0-9._~+/=:-]{1,512}", given) is None:
            raise Problem(400, "page_token is not one that was given out", code="bad_page_token")
        return given


@dataclass(frozen=True, slots=True)
class Precondition:
    """Of `If-Match`."""

    etags: frozenset[str] | None
    """With their quotes; None: any that is there."""

    def check(self, etag: str) -> None:
        """Raises Problem 412."""
        if self.etags is not None and etag not in self.etags:
            raise stale(etag)


def stale(etag: str | None = None) -> Problem:
    """412."""
    headers = {"ETag": etag} if etag is not None else {}
    return Problem(
        412,
        "the spec has changed since it was read: nothing was done",
        code="stale",
        hint="read the model again, and send its ETag",
        headers=headers,
    )


def if_match(request: Request) -> Precondition | None:
    """None: no check was asked for. What is no entity tag matches nothing."""
    given = ",".join(request.headers.getlist("if-match")).strip()
    if "if-match" not in request.headers:
        return None
    if given == "*":
        return Precondition(None)
    return Precondition(frozenset(re.findall(r'(?<![^\s,])"[^"]*"(?![^\s,])', given)))


def is_create_only(request: Request) -> bool:
    """`If-None-Match: *`. Raises Problem 400 for what a POST cannot keep to."""
    if "if-match" in request.headers:
        raise _bad_header("If-Match is for PATCH, DELETE and rollback; POST takes If-None-Match: *")
    given = ",".join(request.headers.getlist("if-none-match")).strip()
    if given not in ("", "*"):
        raise _bad_header("of If-None-Match only * is understood here")
    return given == "*"


def idempotency_key(request: Request) -> str | None:
    """None: not given."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(set(given)) > 1 or not 0 < len(given[0]) <= LONGEST_KEY or not all(" " <= one <= "~" for one in given[0]):
        raise _bad_header(f"Idempotency-Key is one text of 1 to {LONGEST_KEY} characters of ASCII")
    return given[0]


def _bad_query(name: str, what: str) -> Problem:
    return Problem(400, f"{name} in the query: {what}", code="bad_query")


def _bad_header(detail: str) -> Problem:
    return Problem(400, detail, code="bad_header")
