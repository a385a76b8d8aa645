"""One operation of the document: what it takes, what it answers, and in which shape it tells faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ENGINE_FAULTS", "json_of", "operation", "path_uid", "query", "ref", "stream_of", "text_of"]

ENGINE_FAULTS = (502, 503, 504)
"""What a route answers that asks an engine: nothing usable came, nobody could be asked, nothing came in time."""

WHEN = {
    400: "The body is not JSON; on OpenAI-shaped routes also JSON of the wrong shape or value.",
    404: "Nothing has that id or name.",
    406: "A table alone will do, and this gateway has no pyarrow.",
    409: "It contradicts what is stored.",
    413: "More bytes than `--max-body-bytes`.",
    422: "JSON, or a query, of the wrong shape or value.",
    429: "As many sessions are open as are allowed.",
    500: "The reward function failed: it raised, died, or gave no finite number. Nothing is set.",
    501: "The engine cannot do that.",
    502: "The engine gave nothing that can be used. Nothing is recorded.",
    503: "No engine is healthy, or the store cannot write. Nothing is recorded; `Retry-After` says when to come again.",
    504: "The engine was silent for longer than `--upstream-timeout`. Nothing is recorded.",
}


def operation(
    summary: str,
    *,
    name: str,
    tag: str,
    reply: Mapping[str, Any],
    problem: bool,
    faults: Iterable[int] = (),
    body: str | None = None,
    body_required: bool = True,
    parameters: Iterable[Mapping[str, Any]] = (),
    relays: bool = False,
    error: str = "Error",
) -> dict[str, Any]:
    """`reply`: the 200; `body`: a component's name; `problem`: faults are problem+json, else of the schema `error`.

    `relays`: an engine's own errors come through with their status and body.
    """
    statuses = sorted({*faults, 413} if body else set(faults))
    responses: dict[str, Any] = {"200": dict(reply), **{str(one): _fault(one, problem, error) for one in statuses}}
    if relays:
        for family in ("4XX", "5XX"):
            responses[family] = {"description": "The engine's own error, as it came.", "content": {"*/*": {}}}
    found: dict[str, Any] = {"summary": summary, "operationId": name, "tags": [tag], "responses": responses}
    if body:
        found["requestBody"] = {"required": body_required, "content": {"application/json": {"schema": ref(body)}}}
    given = [dict(parameter) for parameter in parameters]
    return {**found, "parameters": given} if given else found


def ref(name: str) -> dict[str, str]:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON reply."""
    return {"description": description, "content": {"application/json": {"schema": dict(schema)}}}


def stream_of(description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Server-sent events; with `schema` a JSON reply where no stream was asked for."""
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    whole = {"application/json": {"schema": dict(schema)}} if schema is not None else {}
    return {"description": description, "content": {**whole, **events}}


def text_of(description: str, *content_types: str) -> dict[str, Any]:
    """A reply that is no JSON."""
    return {"description": description, "content": {one: {"schema": {"type": "string"}} for one in content_types}}


def path_uid(name: str, description: str) -> dict[str, Any]:
    """A uid in the path."""
    schema = ref("PromptUid" if name == "prompt_uid" else "Uid")
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional field of the query."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _fault(status: int, problem: bool, error: str) -> dict[str, Any]:
    content_type, name = ("application/problem+json", "Problem") if problem else ("application/json", error)
    return {"description": WHEN[status], "content": {content_type: {"schema": ref(name)}}}
