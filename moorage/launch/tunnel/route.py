"""A way to a service that is not on this machine's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from moorage.errors import UsageError
from moorage.launch.remote.host import Stream

__all__ = ["Route", "Stream", "open_route"]


class Route(Protocol):
    """One way. `connect` and `close` are called in turn, as often as it breaks, by one thread; `open` by many.

    `connect`, `open` and `check` raise MoorageError with the reason. The code `address_unknown` means that the way is
    good and the service has not told yet where it listens: `check` then looks again. `port_closed` means that the way
    is good and nothing listens at its end.
    """

    @property
    def target(self) -> str | None:
        """Where it leads now, `node:port`; None while that is not known."""
        ...

    def connect(self) -> None:
        """Make the way, also anew after `close`. Takes seconds at most."""
        ...

    def open(self) -> Stream:
        """One connection to the service."""
        ...

    def check(self) -> None:
        """Whether the way still holds: asks the other side."""
        ...

    def close(self) -> None:
        """End the way with all that goes through it. Raises nothing."""
        ...


def open_route(route: Mapping[str, Any], environ: Mapping[str, str]) -> Route:
    """The route that a tunnel's specification describes, not connected yet. Raises UsageError."""
    kind = route.get("kind")
    if kind == "ssh":
        from moorage.launch.tunnel.ssh_route import SshRoute

        return SshRoute(route, environ)
    if kind == "kubernetes":
        from moorage.launch.tunnel.kubernetes_route import KubernetesRoute

        return KubernetesRoute(route, environ)
    raise UsageError(f"unknown kind of tunnel: {kind!r}")
