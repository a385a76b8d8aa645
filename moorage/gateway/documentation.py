"""The API's own documentation: an OpenAPI document, and the page that shows it."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage import __version__
from moorage.gateway.openapi import dialects, models, operations, pool, rewards, sessions, trajectories
from moorage.gateway.openapi.older import as_openapi_3_0
from moorage.gateway.openapi.schemas import schemas
from moorage.swagger import pages

__all__ = ["document", "file", "page"]

TITLE = "Moorage gateway"
DOCUMENT_FILE = "openapi.json"
"""The document once more, for the pages: Swagger UI 4 reads OpenAPI 3.0."""

ABOUT = """One address in front of engines that records every token as it was sampled.

Model routes and Atropos's routes tell faults as OpenAI does, the others as `application/problem+json`; a method that a
path does not take is 405, a path that there is not 404. A write that was answered 2xx is durable.

Where keys are asked for, every route but `/health`, `/ready` and the documents answers 401 without a good one, 403 with
one that is for something else, and 429 after many wrong ones."""

KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send a key."},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients do."},
}

TAGS = {
    "models": "By model name over all endpoints; nothing is recorded.",
    "sessions": "Atropos's routes.",
    "trajectories": "Claw-R1's routes.",
    "pool": "What trainers lease.",
    "operations": "What runs the gateway.",
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, made anew."""
    parts = (models, dialects, sessions, trajectories, rewards, pool, operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": {path: item for part in parts for path, item in part.paths().items()},
        "components": {"schemas": {**schemas(), **dialects.schemas()}, "securitySchemes": KEYS},
        "security": [{"bearer": []}, {"header": []}, {}],
    }


def page() -> bytes:
    """The HTML of `/docs`."""
    return pages.page(TITLE, f"docs/{DOCUMENT_FILE}")


def file(name: str) -> tuple[bytes, bytes] | None:
    """Content and content type of a file of the pages; None for any other name."""
    if name == DOCUMENT_FILE:
        return msgspec.json.encode(as_openapi_3_0(document())), b"application/json"
    found = pages.file(name)
    return None if found is None else (found[0], found[1].encode())
