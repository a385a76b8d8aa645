"""Declared models: create, list, look at, change, delete."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response

from moorage.serving.api.access import Declarer, OwnBody, OwnModel, UserOrAdmin
from moorage.serving.api.bodies import document_of, read_body
from moorage.serving.api.declaring import Outcome
from moorage.serving.api.parts import Parts, parts_of
from moorage.serving.api.problems import Problem
from moorage.serving.api.queries import Asked, idempotency_key, if_match, is_create_only
from moorage.serving.api.replies import json_reply
from moorage.serving.api.routes.watching import watch_models
from moorage.serving.api.views import event_view, model_view
from moorage.serving.model import Event, Model, State
from moorage.serving.spec.written import spec_yaml
from moorage.serving.store.contract import Kept

__all__ = ["MODEL", "MODELS", "add_routes"]

MODELS = "/api/v2/serve/models"
MODEL = MODELS + "/{model_key}"
EVENTS_SHOWN = 1000
"""Of a model's detail: the first, and the newest."""


def add_routes(app: FastAPI) -> None:
    app.add_api_route(MODELS, create, methods=["POST"])
    app.add_api_route(MODELS, list_models, methods=["GET"])
    app.add_api_route(MODEL, detail, methods=["GET"])
    app.add_api_route(MODEL, change, methods=["PATCH"])
    app.add_api_route(MODEL, delete, methods=["DELETE"])


async def declarers_body(request: Request, _: Declarer) -> bytes:
    """Read when it is known who sends it."""
    return await read_body(request)


DeclarersBody = Annotated[bytes, Depends(declarers_body)]


def create(request: Request, caller: Declarer, content: DeclarersBody) -> Response:
    """Declare a model, or give one of the same suffix another spec."""
    assert caller.user_id is not None
    declaring, dry_run = parts_of(request).declaring, Asked(request).flag("dryRun")
    create_only = is_create_only(request)
    key = idempotency_key(request)
    kept = None if key is None else Kept(key=key, body_sha256=_digest(content))
    outcome = declaring.kept(caller.user_id, kept)
    if dry_run:
        document = document_of(request, content)
        return _told(declaring.would_declare(caller.user_id, document, create_only=create_only))
    if outcome is None:
        document = document_of(request, content)
        outcome = declaring.declare(caller.user_id, document, create_only=create_only, kept=kept)
    return _told(outcome, 202)


def list_models(request: Request, caller: UserOrAdmin) -> Response:
    """The caller's own, oldest first; or a stream of them."""
    asked, parts = Asked(request), parts_of(request)
    state = asked.text("state", "|".join(one.value for one in State))
    if asked.watch():
        asked.refuse("state", "limit", "page_token", because="a watch tells of all models, without pages")
        return watch_models(parts, caller, None, _last_event_id(request, asked))
    limit, token = asked.limit(), asked.page_token()
    base_url = parts.settings.openai_base_url
    if caller.user_id is None:  # an administrator owns none
        return json_reply({"items": [], "openai_base_url": base_url, "next_page_token": None})
    page = parts.store.page(caller.user_id, limit, token, state=State(state) if state else None)
    items = [model_view(model, base_url) for model in page.items]
    return json_reply({"items": items, "openai_base_url": base_url, "next_page_token": page.next_token})


def detail(request: Request, caller: UserOrAdmin, model: OwnModel) -> Response:
    """One model, its spec as it came to be, what happened to it, and how its application is."""
    asked, parts = Asked(request), parts_of(request)
    if asked.watch():
        return watch_models(parts, caller, model.model_key, _last_event_id(request, asked))
    data = {
        "model": model_view(model, parts.settings.openai_base_url),
        "resolved_spec_yaml": spec_yaml(model.spec),
        "events": [event_view(one) for one in _events(parts, model)],
        "serve_status": _serve_status(parts, model),
    }
    return json_reply(data, headers={"ETag": model.etag})


def change(request: Request, model: OwnModel, content: OwnBody) -> Response:
    """A merge patch on the spec."""
    document = document_of(request, content, patch=True)
    dry_run = Asked(request).flag("dryRun")
    return _told(parts_of(request).declaring.patch(model, document, if_match(request), dry_run=dry_run))


def delete(request: Request, model: OwnModel) -> Response:
    """Have it taken away; again is no fault."""
    return _told(parts_of(request).declaring.delete(model, if_match(request)))


def _told(outcome: Outcome, status: int = 200) -> Response:
    headers = {"ETag": outcome.etag} if outcome.etag is not None else {}
    if outcome.was_kept:
        headers["Idempotent-Replayed"] = "true"
    return json_reply(outcome.answer, status, headers)


def _digest(content: bytes) -> str:
    return hashlib.sha256(b"POST\n" + MODELS.encode() + b"\n" + content).hexdigest()


def _last_event_id(request: Request, asked: Asked) -> int | None:
    """Of the header, or for those who cannot set one of the query; None: from the start."""
    given = asked.whole("after", 0, 2**62)
    shown = request.headers.get("last-event-id")
    if shown is None or shown == "":
        return given
    if not shown.isascii() or not shown.isdecimal() or len(shown) > 18:
        raise Problem(400, "Last-Event-ID is not one that a watch gave", code="bad_header")
    return int(shown)


def _events(parts: Parts, model: Model) -> list[Event]:
    """All, or the first and the newest."""
    found = list(parts.store.events(model.model_key, EVENTS_SHOWN))
    first, count = found[:1], len(found)
    while count == EVENTS_SHOWN:
        more = parts.store.events(model.model_key, EVENTS_SHOWN, found[-1].sequence)
        count = len(more)
        found = first + [*found[1:], *more][-(EVENTS_SHOWN - 1) :]
    return found


def _serve_status(parts: Parts, model: Model) -> dict[str, Any]:
    """How the newest revision's application is, as the backend told last; else as far as the store knows."""
    name = f"{model.model_key}-{model.spec.build()}"
    status: dict[str, Any] = {"app_name": name, "app_status": model.state.value, "backend": parts.backend.name}
    last = parts.backend.last_seen()
    seen = last.apps.get(name) if last is not None else None
    if seen is None:
        return status
    return {
        **dict(seen.details),
        **status,
        "app_status": seen.state.value,
        "reason": seen.reason.value,
        "message": seen.message,
        "replicas_ready": seen.replicas_ready,
    }
