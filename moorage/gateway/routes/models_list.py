"""`/v1/models`: what the upstreams serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway.http.reply import Reply, json_reply

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["models_reply"]


def models_reply(gateway: Gateway, only: str | None = None) -> Reply:
    """OpenAI's list, each model once. `only`: just this one."""
    if only is None and gateway.serving is not None:
        return json_reply({"object": "list", "data": gateway.serving.directory.listing(int(gateway.clock()))})
    names = [only] if only else gateway.fleet.models()
    created = int(gateway.clock())
    data = [{"id": name, "object": "model", "created": created, "owned_by": "moorage"} for name in names]
    return json_reply({"object": "list", "data": data})
