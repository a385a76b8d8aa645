"""Ready, healthy, which servers, metrics, documentation."""

from __future__ import annotations

from typing import Any

from moorage.gateway.openapi.operation import json_of, operation, ref, text_of

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    """What runs the gateway, rather than asks a model."""
    unavailable = json_of("No upstream is healthy.", ref("Health"))
    health = _of("What the upstreams are", "health", json_of("At least one is healthy.", ref("Health")), problem=False)
    health["responses"]["503"] = unavailable
    return {
        "/ready": {
            "get": _of("Whether requests are taken", "ready", json_of("They are.", ref("Ready")), faults=(503,)),
        },
        "/health": {"get": health},
        "/servers": {
            "get": _of("The upstreams", "servers", json_of("In their order.", ref("Servers")), problem=False),
        },
        "/setup": {
            "post": _of(
                "Other upstreams, checked first",
                "setup",
                json_of("New sessions go to these.", ref("SetUp")),
                problem=False,
                body="SetupBody",
                faults=(400,),
            )
        },
        "/metrics": {"get": _of("Counters for Prometheus", "metrics", text_of("Prometheus's text.", "text/plain"))},
        **_control(),
        **_pages(),
    }


def _control() -> dict[str, Any]:
    """What a trainer does while weights change."""
    pause = _of(
        "Begin no model call any more, in any gateway over the store; wait until none is under way",
        "pause",
        json_of("It is paused.", ref("Paused")),
        body="PauseBody",
        body_required=False,
        faults=(400, 422, 503),
    )
    paused = _of("Whether it is paused", "read_pause", json_of("As it is now.", ref("Paused")), faults=(503,))
    resume = _of("Take model calls again", "resume", json_of("They are taken.", ref("Resumed")), faults=(503,))
    name = _of(
        "Stamp calls with this version from now on",
        "set_weights",
        json_of("They are.", ref("WeightsNamed")),
        body="WeightsBody",
        faults=(400, 409, 422, 503),
    )
    read = _of("What calls are stamped with", "read_weights", json_of("null: nobody has said.", ref("Weights")))
    return {
        "/pause": {"get": paused, "post": pause},
        "/resume": {"post": resume},
        "/weights": {"get": read, "post": name},
    }


def _pages() -> dict[str, Any]:
    name = {"name": "file", "in": "path", "required": True, "schema": {"type": "string"}}
    kinds = ("text/css", "text/javascript", "image/png", "application/json")
    return {
        "/docs": {"get": _of("These pages", "docs", text_of("A page.", "text/html"))},
        "/docs/{file}": {
            "get": _of("A file of these pages", "docs_file", text_of("It.", *kinds), parameters=(name,), faults=(404,))
        },
        "/openapi.json": {"get": _of("This document", "openapi", json_of("It.", {"type": "object"}))},
    }


def _of(summary: str, name: str, reply: dict[str, Any], *, problem: bool = True, **rest: Any) -> dict[str, Any]:
    return operation(summary, name=name, tag="operations", problem=problem, reply=reply, **rest)
