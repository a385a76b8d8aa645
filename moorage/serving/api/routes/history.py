"""What happened to a model, what it was before, going back to it, and what its replicas wrote."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request, Response

from moorage.errors import NotFoundError
from moorage.serving.api.access import OwnBody, OwnModel
from moorage.serving.api.bodies import document_of
from moorage.serving.api.parts import parts_of
from moorage.serving.api.problems import Problem
from moorage.serving.api.queries import Asked, if_match
from moorage.serving.api.replies import json_reply
from moorage.serving.api.routes.models import MODEL
from moorage.serving.api.views import event_view, revision_view, rfc3339
from moorage.serving.replica_lines import LONGEST_LINE, last_of_each
from moorage.serving.spec.argument_types import shown
from moorage.serving.spec.faults import Fault, SpecFaults, pointer

__all__ = ["MOST_LINES", "add_routes"]

MOST_LINES = 10_000


def add_routes(app: FastAPI) -> None:
    app.add_api_route(f"{MODEL}/events", events, methods=["GET"])
    app.add_api_route(f"{MODEL}/revisions", revisions, methods=["GET"])
    app.add_api_route(f"{MODEL}/rollback", rollback, methods=["POST"])
    app.add_api_route(f"{MODEL}/logs", logs, methods=["GET"])


def events(request: Request, model: OwnModel) -> Response:
    """Oldest first, a page at a time."""
    asked = Asked(request)
    limit, token = asked.limit(), asked.page_token()
    if token is not None and (not token.isdecimal() or len(token) > 18):
        raise Problem(400, "page_token is not one that was given out", code="bad_page_token")
    found = parts_of(request).store.events(model.model_key, limit + 1, int(token or 0))
    more = str(found[limit - 1].sequence) if len(found) > limit else None
    return json_reply({"items": [event_view(one) for one in found[:limit]], "next_page_token": more})


def revisions(request: Request, model: OwnModel) -> Response:
    """Oldest first."""
    found = parts_of(request).store.revisions(model.model_key)
    return json_reply({"items": [revision_view(one, model) for one in found]})


def rollback(request: Request, model: OwnModel, content: OwnBody) -> Response:
    """A new generation with the spec of an older one."""
    document = document_of(request, content, may_be_empty=True)
    generation = _generation(document)
    dry_run = Asked(request).flag("dryRun")
    outcome = parts_of(request).declaring.roll_back(model, generation, if_match(request), dry_run=dry_run)
    headers = {"ETag": outcome.etag} if outcome.etag is not None else {}
    return json_reply(outcome.answer, 200 if dry_run else 202, headers)


def logs(request: Request, model: OwnModel) -> Response:
    """The last lines of every replica of one revision: the newest, unless `generation` says another.

    Of a build that failed and was taken away what it wrote last is kept, as long as none of the model fails after it.
    """
    asked, parts = Asked(request), parts_of(request)
    lines = asked.whole("lines", 1, MOST_LINES) or 100
    generation = asked.whole("generation", 1, 2**62)
    spec = model.spec
    if generation is not None and generation != model.generation:
        found = [one.spec for one in parts.store.revisions(model.model_key) if one.generation == generation]
        if not found:
            raise NotFoundError(f"the model has no generation {generation}")
        spec = found[0]
    app = f"{model.model_key}-{spec.build()}"
    try:
        told = [line[:LONGEST_LINE] for line in islice(parts.backend.logs(app, lines), 64 * MOST_LINES)]
    except NotFoundError:
        told = []
    failed = parts.store.failure_log(model.model_key) if not told else None
    if failed is None or failed.app != app:
        return json_reply({"app_name": app, "lines": told, "failed_at": None})
    told = last_of_each(failed.lines, lines)
    return json_reply({"app_name": app, "lines": told, "failed_at": rfc3339(failed.failed_at)})


def _generation(document: Mapping[str, Any]) -> int | None:
    """The only field there is; None: it is not given. Raises SpecFaults."""
    unknown = [name for name in document if name != "generation"]
    faults = [_fault(name, f"there is no field {shown(name)}", "unknown_field") for name in unknown]
    generation = document.get("generation")
    if generation is not None and (type(generation) is not int or generation < 1):
        faults.append(_fault("generation", "generation must be a whole number of at least 1", "wrong_type"))
    if faults:
        raise SpecFaults(faults)
    return generation


def _fault(name: str, detail: str, code: str) -> Fault:
    return Fault(pointer=pointer((name,)), detail=detail, code=code)
