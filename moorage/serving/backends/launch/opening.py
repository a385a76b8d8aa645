"""The launch backend of a control plane, from its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping

from moorage.catalog.bundle import bundle_root
from moorage.launch.plane import Plane
from moorage.launch.platforms import require_platform
from moorage.launch.platforms.base import Report
from moorage.launch.stop import stop_all
from moorage.serving.backends.launch.backend import LaunchBackend
from moorage.serving.backends.launch.looking import labels_of
from moorage.serving.backends.launch.starting import Terms
from moorage.serving.settings import Settings
from moorage.serving.spec.kwargs import load_kwargs

__all__ = ["end_launched", "open_launch_backend", "scope_of"]


def open_launch_backend(
    settings: Settings, clock: Callable[[], float], environ: Mapping[str, str], *, hidden: Collection[str] = ()
) -> LaunchBackend:
    """`clock` is not looked at: pauses must not depend on a clock that may be set. `hidden`: names of variables that no
    service may inherit, the control plane's own tokens.

    Raises UsageError for a platform that there is not.
    """
    del clock
    llm = settings.config.llm
    return LaunchBackend(
        Plane({name: value for name, value in environ.items() if name not in hidden}),
        Terms(
            platform=require_platform(settings.config.launch.platform),
            accelerator=llm.accelerator,
            engine_kwargs=llm.engine_kwargs,
            gpu_ids=settings.config.launch.gpus,
            options=settings.config.launch.options,
            only_true=load_kwargs(bundle_root(environ)).only_true,
        ),
        scope=scope_of(settings.db),
        drain_s=settings.config.drain_s,
    )


def end_launched(settings: Settings, environ: Mapping[str, str], report: Report) -> list[str]:
    """End every replica of this control plane, which must not run itself any more; their job ids.

    Also those that the registry lost. Raises what a stop raises, after all were tried.
    """
    plane = Plane(environ)
    scope, platform = scope_of(settings.db), require_platform(settings.config.launch.platform)
    found = {entry["job_id"]: entry for entry in plane.platform(platform).find()}
    found.update(plane.registry.read().services)
    ours = [entry for entry in found.values() if labels_of(entry).get("scope") == scope]
    return stop_all(plane, ours, report)


def scope_of(db: str) -> str:
    """What services of one control plane are labelled with: its store tells it from others, and never in clear."""
    return hashlib.sha256(db.encode()).hexdigest()[:16]
