"""What runs the control plane, and what the gateway asks it."""

from __future__ import annotations

from typing import Any

from moorage.serving.api.openapi.operation import json_of, operation, path_part, query, ref
from moorage.serving.api.routes.operations import ENDPOINTS, HEALTH, LONGEST_WAIT_S, STATUS

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    unwell = json_of("The store does not answer.", ref("Health"))
    version = query("version", "The version that is known.", type="integer", minimum=-1)
    wait_s = query("wait_s", "How long a later one may take.", type="integer", minimum=0, maximum=LONGEST_WAIT_S)
    return {
        HEALTH: {
            "get": _open(
                "Whether requests are answered", "health", {200: json_of("They are.", ref("Health")), 503: unwell}
            )
        },
        STATUS: {
            "get": operation(
                "The backend and every application",
                name="serve_status",
                tag="operations",
                replies={200: json_of("As it is now.", ref("Status"))},
                faults=(403,),
            )
        },
        ENDPOINTS: {
            "get": operation(
                "Where requests for models go: for the gateway",
                name="endpoints",
                tag="operations",
                replies={
                    200: json_of("Another version than the one that is known.", ref("Endpoints")),
                    304: {"description": "It is that version still."},
                },
                faults=(400, 403, 503),
                parameters=(version, wait_s),
            )
        },
        "/docs": {"get": _open("This documentation", "docs", {200: _as("text/html")})},
        "/docs/{file}": {"get": _docs_file()},
        "/openapi.json": {"get": _open("This document", "openapi", {200: json_of("OpenAPI 3.0.", {"type": "object"})})},
    }


def _open(summary: str, name: str, replies: dict[int, dict[str, Any]]) -> dict[str, Any]:
    return operation(summary, name=name, tag="operations", replies=replies, is_open=True)


def _docs_file() -> dict[str, Any]:
    return operation(
        "What the pages of the documentation load",
        name="docs_file",
        tag="operations",
        replies={200: _as("text/javascript", "text/css", "image/png")},
        faults=(404,),
        parameters=(path_part("file", "Its name.", "^[a-z0-9.-]+$"),),
        is_open=True,
    )


def _as(*content_types: str) -> dict[str, Any]:
    content = {one: {"schema": {"type": "string"}} for one in content_types}
    return {"description": "The file.", "content": content}
