"""What goes wrong at the serving API, told as `application/problem+json` (RFC 9457) with a stable `code`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import Response

from moorage.errors import MoorageError, NotFoundError, TryAgainError
from moorage.serving.backends.contract import BackendUnreachable
from moorage.serving.spec.faults import SpecError, SpecFaults

__all__ = ["TITLES", "Problem", "not_found", "problem_of", "reply_of"]

TITLES = MappingProxyType(
    {
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        408: "Request Timeout",
        409: "Conflict",
        412: "Precondition Failed",
        413: "Content Too Large",
        415: "Unsupported Media Type",
        422: "Unprocessable Content",
        500: "Internal Server Error",
        503: "Service Unavailable",
    }
)
"""What HTTP calls each status: a problem without a `type` of its own has that for a title (RFC 9457)."""

STATUSES = MappingProxyType({"idempotency_key_reused": 422, "quota_exceeded": 422, "generation_moved": 409})
"""Codes of faults whose status here is another one than their class has."""

STORE_FAILED = "the store of the serving API failed while answering; if this was a change, it may or may not be kept"

LONGEST_DETAIL = 2000
"""Characters; a detail names the input, and an input may be long."""


class Problem(Exception):
    """Something to tell the client.

    `errors`: of a bad spec, every fault as `{pointer, detail, code}`. `headers` go with the reply.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str,
        hint: str = "",
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.hint = hint
        self.errors = errors
        self.headers = dict(headers or {})


def not_found(detail: str = "there is nothing here") -> Problem:
    """404: unknown, or somebody else's; which of the two is not told."""
    return Problem(404, detail, code="not_found")


def problem_of(fault: BaseException) -> Problem:
    """Any fault as a problem. What nobody expected keeps its text for the log."""
    if isinstance(fault, Problem):
        return fault
    if isinstance(fault, SpecFaults):
        errors = [one.as_dict() for one in fault.faults]
        return Problem(fault.status, fault.message, code=fault.code, hint=fault.hint, errors=errors)
    if isinstance(fault, SpecError):
        return Problem(fault.status, fault.message, code=fault.code, hint=fault.hint)
    if isinstance(fault, NotFoundError):
        return not_found(fault.message)
    if isinstance(fault, MoorageError):
        return _of_project(fault)
    return Problem(500, "unexpected fault in the serving API; its log says more", code="internal")


def reply_of(problem: Problem) -> Response:
    """As it goes over the wire."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": _clipped(problem.detail),
        "code": problem.code,
    }
    if problem.hint:
        body["hint"] = _clipped(problem.hint)
    if problem.errors:
        body["errors"] = [{**one, "detail": _clipped(str(one["detail"]))} for one in problem.errors]
    content = msgspec.json.encode(_encodable(body))
    return Response(content, problem.status, problem.headers, media_type="application/problem+json")


def _of_project(fault: MoorageError) -> Problem:
    """A backend or a store that failed while answering is 500, whatever its exit status says."""
    if fault.code == "store_failed":
        return _of_store(fault)
    if isinstance(fault, BackendUnreachable):
        fault = TryAgainError(fault.told, code=fault.code)
    status = STATUSES.get(fault.code, fault.http_status)
    headers = {"Retry-After": "5"} if fault.retryable else {}
    return Problem(min(status, 500), fault.message, code=fault.code, hint=fault.hint, headers=headers)


def _of_store(fault: MoorageError) -> Problem:
    """Where the store lies and what it said is for the log: it names paths and hosts."""
    retry_after_s = (fault.data or {}).get("retry_after_s")
    if retry_after_s is None:
        hint = "tell whoever runs this API: its log says what is wrong with the store"
        return Problem(500, STORE_FAILED, code=fault.code, hint=hint)
    hint = "try again after the time that Retry-After says, a POST with the same Idempotency-Key"
    return Problem(500, STORE_FAILED, code=fault.code, hint=hint, headers={"Retry-After": str(retry_after_s)})


def _clipped(text: str) -> str:
    if len(text) <= LONGEST_DETAIL:
        return text
    half = LONGEST_DETAIL // 2
    return f"{text[:half]} … {text[-half:]}"


def _encodable(value: Any) -> Any:
    """With lone surrogates, which JSON of a client may hold and UTF-8 may not, shown escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return value
