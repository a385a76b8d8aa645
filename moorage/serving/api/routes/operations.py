"""How the control plane is, for those who watch over it, and where requests go, for the gateway."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import FastAPI, Request, Response

from moorage import __version__
from moorage.errors import MoorageError
from moorage.serving.api.access import Admin, EndpointsReader
from moorage.serving.api.parts import Parts, parts_of
from moorage.serving.api.queries import LARGEST, Asked
from moorage.serving.api.replies import json_reply
from moorage.serving.backends.contract import Seen

__all__ = ["ENDPOINTS", "HEALTH", "LONGEST_WAIT_S", "STATUS", "add_routes"]

HEALTH = "/health"
STATUS = "/api/v2/serve/status"
ENDPOINTS = "/api/v2/serve/endpoints"
LONGEST_WAIT_S = 30


def add_routes(app: FastAPI) -> None:
    app.add_api_route(HEALTH, health, methods=["GET"])
    app.add_api_route(STATUS, status, methods=["GET"])
    app.add_api_route(ENDPOINTS, endpoints, methods=["GET"])


async def health(request: Request) -> Response:
    """Whether requests are answered: the store was there a moment ago. Waits for no thread."""
    parts = parts_of(request)
    fine = parts.changes.is_answering
    data = {"status": "ok" if fine else "store_failed", "version": __version__, "backend": parts.backend.name}
    return json_reply(data, 200 if fine else 503)


def status(request: Request, _: Admin) -> Response:
    """The backend's own view, every application of ours, and how many models are in which state."""
    parts = parts_of(request)
    models = parts.store.live()
    last = parts.backend.last_seen()
    return json_reply(
        {
            "backend": _backend(parts),
            "applications": [_app_view(one) for one in last.apps.values()] if last is not None else [],
            "models": dict(Counter(one.state.value for one in models)),
            "unsettled": [one.model_key for one in models if one.generation != one.observed_generation][:1000],
            "version": __version__,
        }
    )


async def endpoints(request: Request, _: EndpointsReader) -> Response:
    """Where requests for models go. With `version` and `wait_s`: as soon as it is another one, or 304 at the end."""
    asked, parts = Asked(request), parts_of(request)
    known = asked.whole("version", -1, LARGEST)
    wait_s = asked.wait_s(LONGEST_WAIT_S)
    version, content = await parts.feed_readers.run(parts.endpoints.document)
    if known == version and wait_s:
        await parts.changes.beyond(version, wait_s)
        version, content = await parts.feed_readers.run(parts.endpoints.document)
    headers = {"Cache-Control": "no-store"}
    if known == version:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def _backend(parts: Parts) -> dict[str, Any]:
    try:
        return {"name": parts.backend.name, "reachable": True, "summary": parts.backend.summary()}
    except MoorageError as fault:
        return {"name": parts.backend.name, "reachable": False, "code": fault.code, "message": fault.message}


def _app_view(seen: Seen) -> dict[str, Any]:
    return {
        **dict(seen.details),
        "app_name": seen.app,
        "app_status": seen.state.value,
        "reason": seen.reason.value,
        "message": seen.message,
        "replicas_ready": seen.replicas_ready,
    }
