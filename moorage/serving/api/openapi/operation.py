"""One operation of the document: what it takes, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["header", "json_of", "operation", "path_part", "query", "ref"]

WHEN = {
    400: "The body, the query or a header is not what it may be. `errors` has every fault of a spec, with pointers.",
    401: "No token that is good here was shown.",
    403: "Not for this token; or a path in the spec that its user may not read.",
    404: "There is none, or it is somebody else's.",
    408: "The body did not come.",
    409: "It contradicts what is there.",
    412: "The spec has changed since `If-Match` was read.",
    413: "The body has more than 256 KiB.",
    415: "Neither YAML nor JSON.",
    422: "A number of replicas or GPUs that cannot be had, a quota, or an `Idempotency-Key` that was used already.",
    500: "The store or the backend failed while it was asked.",
    503: "Too many wait already, or the store cannot be reached.",
}
BODY_FAULTS = (400, 408, 413, 415)


def operation(
    summary: str,
    *,
    name: str,
    tag: str,
    replies: Mapping[int, Mapping[str, Any]],
    faults: Iterable[int] = (),
    body: Mapping[str, Any] | None = None,
    body_required: bool = True,
    content_types: Iterable[str] = ("application/yaml", "application/json"),
    parameters: Iterable[Mapping[str, Any]] = (),
    is_open: bool = False,
) -> dict[str, Any]:
    """`replies`: status → reply; `body`: its schema. `is_open`: without a token."""
    statuses = {*faults, *(BODY_FAULTS if body is not None else ()), *(() if is_open else (401, 500))}
    responses = {str(status): dict(reply) for status, reply in replies.items()}
    responses |= {str(status): _problem(status) for status in sorted(statuses) if str(status) not in responses}
    found: dict[str, Any] = {"summary": summary, "operationId": name, "tags": [tag], "responses": responses}
    given = [dict(parameter) for parameter in parameters]
    if given:
        found["parameters"] = given
    if body is not None:
        content = {one: {"schema": dict(body)} for one in content_types}
        found["requestBody"] = {"required": body_required, "content": content}
    if is_open:
        found["security"] = []
    return found


def ref(name: str) -> dict[str, str]:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(description: str, schema: Mapping[str, Any], *, etag: bool = False) -> dict[str, Any]:
    """A JSON reply."""
    reply: dict[str, Any] = {"description": description, "content": {"application/json": {"schema": dict(schema)}}}
    if etag:
        about = "Changes with every accepted change of the spec, and not by its progress."
        reply["headers"] = {"ETag": {"description": about, "schema": {"type": "string"}}}
    return reply


def path_part(name: str, description: str, pattern: str) -> dict[str, Any]:
    """A part of the path."""
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional field of the query."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional header."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _problem(status: int) -> dict[str, Any]:
    return {"description": WHEN[status], "content": {"application/problem+json": {"schema": ref("Problem")}}}
