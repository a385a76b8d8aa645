"""The backend by its name; what it needs is imported when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from moorage.errors import UsageError
from moorage.serving.settings import Settings

if TYPE_CHECKING:
    from moorage.serving.backends.contract import Backend

__all__ = ["BACKENDS", "BY_COMMAND_LINE", "open_backend"]

BACKENDS = ("memory", "ray_serve", "launch")
BY_COMMAND_LINE = ("launch",)
"""Those that start engines by a command line."""


def open_backend(
    settings: Settings, clock: Callable[[], float], environ: Mapping[str, str], *, hidden: Collection[str] = ()
) -> Backend:
    """Raises what the backend raises when it cannot be had.

    `clock`: Unix seconds. `hidden`: names of variables that nothing which is started may inherit.
    """
    if settings.backend == "memory":
        from moorage.serving.backends.memory import MemoryBackend

        return MemoryBackend(clock)
    if settings.backend == "launch":
        from moorage.serving.backends.launch.opening import open_launch_backend

        return open_launch_backend(settings, clock, environ, hidden=hidden)
    if settings.backend == "ray_serve":
        from moorage.serving.backends.ray_serve.opening import open_ray_serve

        return open_ray_serve(settings, environ, clock, hidden=hidden)
    raise UsageError(f"no backend is called {settings.backend!r}", hint=f"there are {', '.join(BACKENDS)}")
