"""The backend `ray_serve`: one application of Ray Serve LLM for each build of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from moorage.errors import NotFoundError
from moorage.serving.backends.contract import BackendUnreachable, Seen, Wanted
from moorage.serving.backends.ray_serve.listing import document, is_ours, is_settled, under_construction
from moorage.serving.backends.ray_serve.logs import read_logs
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.reading import base_url_of, candidates, proxy_trouble, read
from moorage.serving.backends.ray_serve.rendering import digest_of, render
from moorage.serving.backends.ray_serve.rest import RayRest

__all__ = ["RayServeBackend", "Reached"]

PATIENCE_S = 30.0
"""How long after a list the next one waits for what Ray is building. On a quiet machine a build takes ten seconds."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A cluster that can be asked."""

    rest: RayRest
    proxy_port: int | None = None
    """Where Serve's proxy is to listen if it is not up yet; None: as the platform says."""

    @property
    def host(self) -> str:
        return urlsplit(self.rest.address).hostname or "127.0.0.1"


class RayServeBackend:
    """A Backend. `reach` gives the cluster, anew at every call, and raises BackendUnreachable while there is none:
    one of this machine's own may be starting. `release` lets go of what `reach` keeps open."""

    name = "ray_serve"
    has_lora = False
    """Ray Serve LLM loads adapters from object stores only."""
    has_autoscaling = True

    def __init__(
        self,
        platform: RayPlatform,
        reach: Callable[[], Reached],
        release: Callable[[], None] = lambda: None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`steady`: seconds that never jump."""
        self._platform = platform
        self._reach = reach
        self._release = release
        self._steady = steady
        self._told_at: float | None = None
        self._answering: frozenset[str] = frozenset()
        """Applications whose route was seen to answer."""

    def digest(self, wanted: Wanted) -> str:
        return digest_of(render(wanted, self._platform), wanted.spec.build())

    def observe(self) -> Mapping[str, Seen]:
        reached = self._reach()
        rest, host, platform = reached.rest, reached.host, self._platform
        details = rest.details()
        self._answering = frozenset(
            name
            for name in candidates(details, platform)
            if name in self._answering or rest.answers(base_url_of(name, details, platform, host))
        )
        return read(details, platform, host, self._answering)

    def apply(self, wanted: Sequence[Wanted]) -> None:
        reached = self._reach()
        platform = self._platform
        if reached.proxy_port is not None:
            platform = replace(platform, proxy_port=reached.proxy_port)
        details = reached.rest.details()
        if is_settled(details, wanted, platform):
            return
        self._let_build(under_construction(details, wanted, platform))
        # What others declared is taken over as it is at this moment: Ray has no way to change only a part of its list.
        reached.rest.declare(document(details, wanted, platform))
        self._told_at = self._steady()

    def _let_build(self, building: Sequence[str]) -> None:
        """Every list makes Ray begin anew with what it is building: whoever changes something all the time would keep
        others' models from ever being built."""
        if building and self._told_at is not None and self._steady() - self._told_at < PATIENCE_S:
            raise BackendUnreachable(
                f"Ray is building {', '.join(building[:3])}: it is told of other changes when that is done",
                told="the backend is building other models first",
                hint="wait",
            )

    def logs(self, app: str, lines: int) -> Iterator[str]:
        """Raises NotFoundError for an application that is not there, or not ours."""
        rest = self._reach().rest
        application = rest.details()["applications"].get(app)
        if application is None or not is_ours(app, application, self._platform.owner):
            raise NotFoundError(f"Ray has no application {app} of ours", code="no_application")
        yield from read_logs(rest, application, lines)

    def summary(self) -> dict[str, Any]:
        rest = self._reach().rest
        details = rest.details()
        applications = details["applications"]
        return {
            "address": rest.address,
            "ray_version": rest.version(),
            "owner": self._platform.owner,
            "proxy": proxy_trouble(details) or "HEALTHY",
            "http_options": {key: (details.get("http_options") or {}).get(key) for key in ("host", "port")},
            "nodes": [_node(node) for node in rest.nodes()],
            "applications": {
                name: {
                    "status": application.get("status"),
                    "ours": is_ours(name, application, self._platform.owner),
                    "message": str(application.get("message") or "")[-500:],
                }
                for name, application in sorted(applications.items())
            },
        }

    def close(self) -> None:
        """The cluster goes on."""
        self._release()


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: node.get(key) for key in ("node_id", "node_ip", "is_head_node", "state", "resources_total")}
