"""`/v1/models`: what the upstreams serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moorage.engines.fleet.faults import model_not_found
from moorage.gateway.http.reply import Reply, json_reply

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["model_reply", "models_reply"]


def models_reply(gateway: Gateway, only: str | None = None) -> Reply:
    """OpenAI's list, each model once. `only`: just this one."""
    return json_reply({"object": "list", "data": _entries(gateway) if only is None else [_entry(gateway, only)]})


def model_reply(gateway: Gateway, name: str) -> Reply:
    """One entry of the list. Raises what a request for that model would be told: NotFoundError, NotReadyError."""
    for entry in _entries(gateway):
        if entry["id"] == name:
            return json_reply(entry)
    why = None if gateway.serving is None else gateway.serving.directory.why(name)
    raise why or model_not_found(name, gateway.fleet.models())


def _entries(gateway: Gateway) -> list[dict[str, Any]]:
    if gateway.serving is not None:
        return gateway.serving.directory.listing(int(gateway.clock()))
    return [_entry(gateway, name) for name in gateway.fleet.models()]


def _entry(gateway: Gateway, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(gateway.clock()), "owned_by": "moorage"}
