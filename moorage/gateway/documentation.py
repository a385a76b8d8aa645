"""The API's own documentation: an OpenAPI document, and Swagger UI's pages with nothing from another host."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import msgspec

from moorage import __version__
from moorage.gateway.openapi import dialects, models, operations, pool, rewards, sessions, trajectories
from moorage.gateway.openapi.older import as_openapi_3_0
from moorage.gateway.openapi.schemas import schemas

__all__ = ["document", "file", "page"]

OWN_FILES = {"initializer.js": b"text/javascript; charset=utf-8"}
SWAGGER_FILES = {
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
    "favicon-16x16.png": b"image/png",
    "favicon-32x32.png": b"image/png",
}
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
        "info": {"title": "Moorage gateway", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": {path: item for part in parts for path, item in part.paths().items()},
        "components": {"schemas": {**schemas(), **dialects.schemas()}, "securitySchemes": KEYS},
        "security": [{"bearer": []}, {"header": []}, {}],
    }


def page() -> bytes:
    """The HTML of `/docs`."""
    return _own("page.html")


def file(name: str) -> tuple[bytes, bytes] | None:
    """Content and content type of a file of the pages; None for any other name."""
    if name == DOCUMENT_FILE:
        return msgspec.json.encode(as_openapi_3_0(document())), b"application/json"
    if name in OWN_FILES:
        return _own(name), OWN_FILES[name]
    if name in SWAGGER_FILES:
        return _swagger(name), SWAGGER_FILES[name]
    return None


@functools.cache
def _own(name: str) -> bytes:
    return (resources.files("moorage.gateway.openapi") / name).read_bytes()


@functools.cache
def _swagger(name: str) -> bytes:
    from swagger_ui_bundle import swagger_ui_path

    content: bytes = (swagger_ui_path / name).read_bytes()
    return content
