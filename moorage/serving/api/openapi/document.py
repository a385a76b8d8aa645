"""The whole document."""

from __future__ import annotations

from typing import Any

from moorage import __version__
from moorage.serving.api.openapi import models, operations, people
from moorage.serving.api.openapi.schemas import schemas

__all__ = ["document"]

ABOUT = """Declare a model, have it served, change it without hurting the others.

Faults are `application/problem+json` with a stable `code`. Under `/api/` nothing is answered to whom nobody knows:
every request shows a token, `Authorization: Bearer TOKEN`. A model of somebody else is 404, as one that is not there.
Each GET may be a HEAD; a method that a path does not take is 405."""

TAGS = {
    "models": "What users declare, with their own token.",
    "users": "For administrators.",
    "operations": "For those who run it, and for the gateway.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.0, made anew."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "Moorage serving", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": {**models.paths(), **people.paths(), **operations.paths()},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }
