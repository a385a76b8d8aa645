"""What goes wrong at the HTTP surface, and the two shapes in which it is told.

Model routes, and Atropos's, answer `{"error": {message, type, param, code}}` as OpenAI does, those of Anthropic's
protocol `{"type": "error", "error": {type, message}}`; the others answer `application/problem+json` (RFC 9457) with a
`code`. Faults of the project keep the HTTP status of `moorage.errors`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.http.reply import Reply

__all__ = ["BodyNotJson", "BodyTooLarge", "BodyWrong", "ClientGone", "Fault", "Shape", "UpstreamError", "reply_of"]

Shape = Literal["openai", "anthropic", "problem"]

WRONG_VALUES = frozenset(("bad_cursor", "bad_marks", "bad_retention", "out_of_range"))
"""Codes of the store that mean: JSON of the wrong value."""

TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    422: "Unprocessable body",
    429: "Too many requests",
    500: "Internal error",
    501: "Not supported",
    502: "Bad gateway",
    503: "Not available",
    504: "Gateway timeout",
}


LONGEST_MESSAGE = 2000
"""Characters of a message that is told."""

ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's names of kinds of errors."""


class ClientGone(Exception):
    """The client went away before its reply was complete: there is nobody to tell."""


class Fault(Exception):
    """Something to tell the client. `errors`: for 422, what is wrong and where."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        errors: tuple[dict[str, str], ...] = (),
        retry_after_s: int | None = None,
        extra: dict[str, Any] | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _clipped(message)
        self.code = code
        self.param = param
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.extra = extra or {}
        self.allow = allow
        """For 405: the methods that the route takes."""
        self.challenge: bytes | None = None
        """For 401: what `WWW-Authenticate` says."""


class BodyNotJson(Fault):
    """400, in both shapes."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message, code="body_not_json")


class BodyWrong(Fault):
    """JSON of the wrong shape: 422 as a problem, 400 on model routes."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(
            422,
            detail,
            code="body_wrong",
            param=pointer or None,
            errors=({"pointer": pointer, "detail": _clipped(detail)},),
        )

    @classmethod
    def of(cls, said: str) -> BodyWrong:
        """From msgspec's words, whose path ``$.steps[0].reward`` becomes the pointer ``/steps/0/reward``."""
        found = re.search(r" - at `(?:key in )?\$(.*?)`$", said)
        if not found:
            return cls(said)
        return cls(said[: found.start()], _pointer(found[1]))


class BodyTooLarge(Fault):
    """413: more bytes than `--max-body-bytes`."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(413, f"the body has {size_bytes} bytes; {limit_bytes} are allowed", code="body_too_large")


class UpstreamError(Exception):
    """An engine's own error reply, to be passed on: its status, its body, its `Retry-After`."""

    def __init__(self, status: int, body: bytes, content_type: bytes, retry_after: bytes | None) -> None:
        super().__init__(f"the engine answered {status}")
        self.reply = Reply(status, body, content_type, ((b"retry-after", retry_after),) if retry_after else ())


def reply_of(fault: Exception, shape: Shape) -> Reply:
    """What the client gets. Anything unexpected is a 500 without its text: that goes to the log."""
    if isinstance(fault, UpstreamError):
        return fault.reply if shape != "anthropic" else _retold(fault.reply)
    if isinstance(fault, MoorageError):
        fault = _of_project(fault)
    if not isinstance(fault, Fault):
        fault = Fault(500, "unexpected fault in the gateway; its log says more", code="internal")
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if fault.retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % fault.retry_after_s),)
    if fault.allow is not None:
        headers = (*headers, (b"allow", fault.allow.encode("ascii")))
    if fault.challenge is not None:
        headers = (*headers, (b"www-authenticate", fault.challenge))
    if shape != "problem":
        wrong_body = isinstance(fault, BodyWrong) or fault.code in WRONG_VALUES
        status = 400 if wrong_body else fault.status
        told = _openai(fault, status) if shape == "openai" else _anthropic(status, _placed(fault), fault.code)
        return Reply(status, msgspec.json.encode(told), b"application/json", headers)
    return Reply(fault.status, msgspec.json.encode(_problem(fault)), b"application/problem+json", headers)


def _clipped(message: str) -> str:
    """A message names the input, and an input may have megabytes: enough of both ends to know it again."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2
    return f"{message[:half]} … {message[-half:]}"


def _of_project(fault: MoorageError) -> Fault:
    extra = dict(fault.data or {})
    after = extra.pop("retry_after_s", 1 if fault.retryable else None)
    message = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
    status = 422 if fault.code in WRONG_VALUES else fault.http_status
    errors = ({"pointer": "", "detail": _clipped(fault.message)},) if status == 422 else ()
    return Fault(status, message, code=fault.code, retry_after_s=after, extra=extra, errors=errors)


def _openai(fault: Fault, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {**fault.extra, "message": fault.message, "type": kind, "param": fault.param, "code": fault.code}}


def _anthropic(status: int, message: str, code: str | None) -> dict[str, Any]:
    kind = ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message, "code": code}}


def _placed(fault: Fault) -> str:
    """Its message with the place, for a shape that has no field for it."""
    return f"{fault.param}: {fault.message}" if fault.param else fault.message


def _retold(reply: Reply) -> Reply:
    """An engine's error in OpenAI's shape, told in Anthropic's."""
    try:
        said = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = reply.body.decode(errors="replace")
    error = said.get("error", said) if isinstance(said, dict) else said
    message = error.get("message") if isinstance(error, dict) else error
    body = _anthropic(reply.status, str(message or "the engine gave no reason"), None)
    return Reply(reply.status, msgspec.json.encode(body), b"application/json", reply.headers)


def _problem(fault: Fault) -> dict[str, Any]:
    title = TITLES.get(fault.status, "Error")
    body = {**fault.extra, "type": "about:blank", "title": title, "status": fault.status, "detail": fault.message}
    return {**body, "code": fault.code, **({"errors": list(fault.errors)} if fault.errors else {})}


def _pointer(path: str) -> str:
    parts = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path)
    return "".join("/" + (name or index) for name, index in parts)
