"""What happened to a model, what it was before, going back to it, and what its replicas wrote."""

from __future__ import annotations

from itertools import islice

from fastapi import FastAPI, Request, Response

from moorage.errors import NotFoundError
from moorage.serving.api.access import OwnBody, OwnModel
from moorage.serving.api.bodies import document_of
from moorage.serving.api.parts import parts_of
from moorage.serving.api.problems import Problem
from moorage.serving.api.queries import Asked, if_match
from moorage.serving.api.replies import json_reply
from moorage.serving.api.routes.models import MODEL
from moorage.serving.api.views import event_view, revision_view

__all__ = ["MOST_LINES", "add_routes"]

MOST_LINES = 10_000
LONGEST_LINE = 4096
"""Characters; longer ones are cut."""


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
    unknown = sorted(set(document) - {"generation"})
    generation = document.get("generation")
    if unknown:
        raise _wrong(f"/{unknown[0]}", "unknown field", "unknown_field")
    if generation is not None and (type(generation) is not int or generation < 1):
        raise _wrong("/generation", "a whole number of at least 1", "wrong_type")
    dry_run = Asked(request).flag("dryRun")
    outcome = parts_of(request).declaring.roll_back(model, generation, if_match(request), dry_run=dry_run)
    headers = {"ETag": outcome.etag} if outcome.etag is not None else {}
    return json_reply(outcome.answer, 200 if dry_run else 202, headers)


def logs(request: Request, model: OwnModel) -> Response:
    """The last lines of every replica of one revision: the newest, unless `generation` says another."""
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
    return json_reply({"app_name": app, "lines": told})


def _wrong(pointer: str, detail: str, code: str) -> Problem:
    fault = {"pointer": pointer, "detail": detail, "code": code}
    return Problem(400, f"{pointer}: {detail}", code=code, errors=[fault])
