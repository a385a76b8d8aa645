"""Endpoints from `--upstream`, and from the registry of launched services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.server_types import ServerType
from moorage.engines.wire.origin import Origin
from moorage.errors import UsageError

__all__ = ["from_entries", "from_urls"]

ENGINES: dict[str, ServerType] = {"vllm": "vllm", "sglang": "sglang"}
"""Archs whose services speak as an engine does; the others' own protocol is not a model server's."""
DEAD_STATES = ("exited", "failed", "stopped")


def from_urls(urls: str) -> list[Endpoint]:
    """Of `URL[,URL]`, each once and taken for vLLM. Raises UsageError `bad_upstream_url`."""
    parts = [part.strip() for part in urls.split(",") if part.strip()]
    if not parts:
        raise UsageError("--upstream is empty", code="bad_upstream_url", hint="for example http://127.0.0.1:8000/v1")
    endpoints = [Endpoint(origin=Origin.parse(part), base_url=part) for part in parts]
    return list({endpoint.url: endpoint for endpoint in endpoints}.values())


def from_entries(
    entries: Iterable[Mapping[str, Any]], *, key_of: Callable[[Mapping[str, Any]], str | None] | None = None
) -> list[Endpoint]:
    """Of the registry's entries: live engines with an address. Entries are read defensively: others write them too.

    `key_of` finds the key of a service that wants one; without it the variable that the entry names is read.
    """
    endpoints: dict[str, Endpoint] = {}
    for entry in entries:
        kind, host_url = ENGINES.get(str(entry.get("network_arch"))), entry.get("host_url")
        if kind is None or not isinstance(host_url, str) or entry.get("state") in DEAD_STATES:
            continue
        try:
            origin = Origin.parse(host_url)
        except UsageError:
            continue
        name, key_env = entry.get("served_model_name"), entry.get("token_env")
        endpoints[origin.url] = Endpoint(
            origin=origin,
            base_url=host_url,
            server_type=kind,
            model_name=name if isinstance(name, str) else None,
            api_key=None if key_of is None else key_of(entry),
            api_key_env=key_env if key_of is None and isinstance(key_env, str) and key_env else None,
        )
    return list(endpoints.values())
