"""Declared models, and what belongs to one."""

from __future__ import annotations

from typing import Any

from moorage.serving.api.openapi.operation import header, json_of, operation, path_part, query, ref
from moorage.serving.api.routes.history import MOST_LINES
from moorage.serving.api.routes.models import MODEL, MODELS
from moorage.serving.model import State

__all__ = ["paths"]

KEY = path_part("model_key", "The model.", "^svc-[a-z][a-z0-9_-]{0,31}-[0-9]{8}-[0-9]{6}-[a-z0-9]{4,}$")
WORDS = ["true", "false", "1", "0"]
DRY_RUN = query("dryRun", "The same checks, and what would come of it; nothing is stored.", type="string", enum=WORDS)
LIMIT = query("limit", "Of a page.", type="integer", minimum=1, maximum=1000, default=100)
PAGE_TOKEN = query("page_token", "`next_page_token` of the page before.", type="string", minLength=1, maxLength=512)
WATCH = query("watch", "A stream of server-sent events without end, instead.", type="string", enum=WORDS)
AFTER = query("after", "As Last-Event-ID, for those who cannot send headers.", type="integer", minimum=0)
LAST_EVENT_ID = header("Last-Event-ID", "Of a watch: go on from there.", type="string", pattern="^[0-9]{1,18}$")
IF_MATCH = header("If-Match", "The ETag that was read; with another one nothing is done.", type="string")
EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}


def paths() -> dict[str, Any]:
    return {
        MODELS: {"post": _create(), "get": _list()},
        MODEL: {"get": _detail(), "patch": _patch(), "delete": _delete()},
        f"{MODEL}/events": {
            "get": _of_model("What happened, oldest first", "list_events", "EventPage", LIMIT, PAGE_TOKEN)
        },
        f"{MODEL}/revisions": {"get": _of_model("Its specs so far, oldest first", "list_revisions", "RevisionList")},
        f"{MODEL}/rollback": {"post": _rollback()},
        f"{MODEL}/logs": {"get": _logs()},
    }


def _create() -> dict[str, Any]:
    key = header("Idempotency-Key", "The same request again is answered again, and does nothing.", type="string")
    none = header("If-None-Match", "`*`: only when there is no model of that suffix.", type="string", enum=["*"])
    return operation(
        "Declare a model, or give the one of the same suffix another spec",
        name="create_model",
        tag="models",
        body=ref("ServingSpec"),
        replies={
            202: json_of("Stored; the reconciler sees to it.", ref("Accepted"), etag=True),
            200: json_of("Of a dry run: what would be done.", ref("DryRun")),
        },
        faults=(403, 409, 422),
        parameters=(DRY_RUN, key, none),
    )


def _list() -> dict[str, Any]:
    reply = json_of("A page, oldest first.", ref("ModelPage"))
    reply["content"] |= EVENTS
    state = query("state", "Those in this state alone.", type="string", enum=[one.value for one in State])
    return operation(
        "The caller's models",
        name="list_models",
        tag="models",
        replies={200: reply},
        faults=(400, 403, 503),
        parameters=(LIMIT, PAGE_TOKEN, state, WATCH, AFTER, LAST_EVENT_ID),
    )


def _detail() -> dict[str, Any]:
    reply = json_of("All about it.", ref("ModelDetail"), etag=True)
    reply["content"] |= EVENTS
    return operation(
        "One model; deleted ones too",
        name="get_model",
        tag="models",
        replies={200: reply},
        faults=(400, 403, 404, 503),
        parameters=(KEY, WATCH, AFTER, LAST_EVENT_ID),
    )


def _patch() -> dict[str, Any]:
    return operation(
        "Change a model: JSON Merge Patch on its spec",
        name="change_model",
        tag="models",
        body=ref("ServingPatch"),
        content_types=("application/json", "application/merge-patch+json", "application/yaml"),
        replies={200: json_of("Stored, or what would be done.", ref("AcceptedOrDryRun"), etag=True)},
        faults=(403, 404, 409, 412, 422),
        parameters=(KEY, DRY_RUN, IF_MATCH),
    )


def _delete() -> dict[str, Any]:
    return operation(
        "Have a model taken away; again is no fault",
        name="delete_model",
        tag="models",
        replies={200: json_of("It is DELETING, or DELETED.", ref("Accepted"), etag=True)},
        faults=(403, 404, 409, 412),
        parameters=(KEY, IF_MATCH),
    )


def _rollback() -> dict[str, Any]:
    return operation(
        "A new generation with the spec of an older one; without `generation` the last healthy one",
        name="roll_back",
        tag="models",
        body=ref("Rollback"),
        body_required=False,
        replies={
            202: json_of("Stored.", ref("Accepted"), etag=True),
            200: json_of("Of a dry run: what would be done.", ref("DryRun")),
        },
        faults=(403, 404, 409, 412, 422),
        parameters=(KEY, DRY_RUN, IF_MATCH),
    )


def _logs() -> dict[str, Any]:
    lines = query(
        "lines", "Of every replica, the last ones.", type="integer", minimum=1, maximum=MOST_LINES, default=100
    )
    generation = query("generation", "Of this one; without it the newest.", type="integer", minimum=1)
    return _of_model("What its replicas wrote", "read_logs", "Logs", lines, generation)


def _of_model(summary: str, name: str, schema: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return operation(
        summary,
        name=name,
        tag="models",
        replies={200: json_of("It is there.", ref(schema))},
        faults=(400, 403, 404) if parameters else (403, 404),
        parameters=(KEY, *parameters),
    )
