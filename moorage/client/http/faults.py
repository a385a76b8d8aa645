"""A gateway's error replies as errors of this package, with the gateway's own code."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.client.http.again import FAILED
from moorage.client.http.place import KEY_HINT
from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    NotFoundError,
    PreflightError,
    TryAgainError,
    UsageError,
)

__all__ = ["fault_of", "no_connection", "silent", "undecodable"]

KINDS: tuple[tuple[frozenset[int], type[MoorageError]], ...] = (
    (frozenset((400, 405, 413, 415, 422, 431)), UsageError),
    (frozenset((401, 403, 406)), PreflightError),
    (frozenset((404,)), NotFoundError),
    (frozenset((409, 412)), ConflictError),
    (frozenset((408, 425, 429, 503, 504)), TryAgainError),
)


def fault_of(
    status: int, content: bytes, where: str, *, key_hint: str = KEY_HINT, retry_after_s: float | None = None
) -> MoorageError:
    """What a reply that is no success says. `data` has its `status`, and for 422 the `errors` with JSON pointers.
    `retry_after_s`: what the reply says of when to come again."""
    message, code, more = _said(content)
    otherwise = TryAgainError if status == FAILED and retry_after_s is not None else FailedError
    kind = next((kind for statuses, kind in KINDS if status in statuses), otherwise)
    hint = str(more.pop("hint", ""))
    if status == 401 or (status == 403 and not hint and "errors" not in more):
        hint = key_hint
    if not message:
        message = f"it answers {status}"
    if code is None and not hint:
        hint = "another program, or another version, may listen there"
    return kind(f"{where}: {message}", code=code or f"http_{status}", hint=hint, data={"status": status, **more})


def no_connection(where: str, fault: BaseException, *, server: str = "gateway") -> TryAgainError:
    """Nobody answers there, or the connection broke."""
    reason = str(fault) or type(fault).__name__
    return TryAgainError(
        f"no {server} answers at {where}: {reason[:200]}",
        code="no_connection",
        hint="is it running, and is the address right?",
    )


def silent(where: str, timeout_s: float | None) -> TryAgainError:
    """Not a byte for too long."""
    said = "in time" if timeout_s is None else f"for {timeout_s:g} s"
    return TryAgainError(f"{where} did not answer {said}", code="gateway_silent", hint="raise timeout_s")


def undecodable(where: str, fault: BaseException) -> FailedError:
    """A reply that is not encoded as its header says."""
    return FailedError(
        f"what {where} answers cannot be read: {fault}",
        code="bad_reply",
        hint="another program, or another version, may listen there",
    )


def _said(content: bytes) -> tuple[str, str | None, dict[str, Any]]:
    """(message, code, more) of a problem, of an OpenAI error, of an Anthropic one; an engine's too."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return content.decode("utf-8", "replace").strip()[:500], None, {}
    if not isinstance(body, dict):
        return str(body)[:500], None, {}
    inner = body.get("error", body)
    if isinstance(inner, str):
        return inner, None, {}
    if not isinstance(inner, dict):
        return "", None, {}
    message = inner.get("message") or inner.get("detail") or ""
    code = inner.get("code")
    more = {name: inner[name] for name in ("errors", "param", "hint") if inner.get(name)}
    return str(message), code if isinstance(code, str) and code else None, more
