"""The backend as the control plane's settings say: an existing cluster, or one of this machine's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from moorage.catalog.engine_python import find_engine_python
from moorage.errors import PreflightError, UsageError
from moorage.serving.backends.ray_serve.backend import RayServeBackend, Reached
from moorage.serving.backends.ray_serve.cluster.command import default_cpus
from moorage.serving.backends.ray_serve.cluster.local import LocalCluster, Shape
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.rest import RayRest

if TYPE_CHECKING:
    from moorage.serving.settings import Settings

__all__ = ["end_local_cluster", "open_ray_serve", "owner_of"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXY_PORT = 8000
"""Ray Serve's own default, on clusters that are not ours to choose ports on."""


def open_ray_serve(
    settings: Settings, environ: Mapping[str, str], clock: Callable[[], float], *, hidden: Collection[str] = ()
) -> RayServeBackend:
    """`clock`: Unix seconds. Nothing is started before the first question; what is then inherits no variable of
    `hidden`.

    Raises PreflightError `engine_missing` when a cluster is to be started and there is no Ray to start it with.
    """
    platform = _platform(settings)
    if settings.config.ray.address is not None:
        return _existing(settings, platform, environ)
    return _local(settings, platform, {name: environ[name] for name in environ if name not in hidden}, clock)


def end_local_cluster(settings: Settings, environ: Mapping[str, str], clock: Callable[[], float]) -> bool:
    """End what `open_ray_serve` started for these settings, and wait until it is gone. False: there was none."""
    if settings.config.ray.address is not None:
        return False
    return LocalCluster(owner_of(settings), environ, clock).end()


def owner_of(settings: Settings) -> str:
    """What marks this control plane's applications among others of one cluster.

    Said by `serving.ray.owner`, else made from where the database is: processes of one database are one control plane.
    """
    if settings.config.ray.owner is not None:
        return settings.config.ray.owner
    parts = urlsplit(settings.db)
    place = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"
    return f"moorage-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _platform(settings: Settings) -> RayPlatform:
    llm, ray = settings.config.llm, settings.config.ray
    if llm.accelerator == "cpu" and llm.accelerator_type is not None:
        raise UsageError(
            "serving.llm.accelerator_type says what GPUs to ask for, and serving.llm.accelerator is cpu",
            code="bad_config",
            hint="leave one of them away",
        )
    outside = ray.address is not None and urlsplit(ray.address).hostname not in LOOPBACK
    return RayPlatform(
        owner=owner_of(settings),
        accelerator_type=llm.accelerator_type,
        accelerator=llm.accelerator,
        engine_kwargs=llm.engine_kwargs,
        # The gateway must reach the proxy of a cluster elsewhere; on this machine nobody else should.
        proxy_host="0.0.0.0" if outside else "127.0.0.1",  # noqa: S104 - a cluster's own network
        proxy_port=ray.proxy_port or PROXY_PORT,
        proxy_url=ray.proxy_url,
    )


def _existing(settings: Settings, platform: RayPlatform, environ: Mapping[str, str]) -> RayServeBackend:
    ray = settings.config.ray
    assert ray.address is not None
    token = None
    if ray.token_env is not None:
        # A file that was made by hand ends in a line break.
        token = environ.get(ray.token_env, "").strip()
        if not token:
            raise PreflightError(
                f"the variable {ray.token_env} is not set: it is to hold the Ray cluster's token",
                code="ray_token_missing",
            )
    rest = RayRest(ray.address, lambda: token)
    return RayServeBackend(platform, lambda: Reached(rest), rest.close)


def _local(
    settings: Settings, platform: RayPlatform, environ: Mapping[str, str], clock: Callable[[], float]
) -> RayServeBackend:
    python = find_engine_python("ray", environ)
    if python is None:
        raise PreflightError(
            "there is no ray environment on this machine to start a cluster with",
            code="engine_missing",
            hint="install it, or set MOORAGE_RAY_PYTHON to a Python that has Ray Serve and vLLM, or give the address"
            " of a cluster in serving.ray.address",
            next=["moor engine ray --install"],
        )
    ray = settings.config.ray
    cpus = ray.num_cpus or default_cpus(platform.accelerator, os.cpu_count() or 1)
    shape = Shape(python=python, num_cpus=cpus, proxy_port=ray.proxy_port)
    cluster = LocalCluster(platform.owner, environ, clock)
    links: dict[str, RayRest] = {}

    def reach() -> Reached:
        found = cluster.ensure(shape)
        if found.address not in links:
            release()
            links[found.address] = RayRest(found.address, cluster.token)
        return Reached(links[found.address], found.proxy_port)

    def release() -> None:
        for address in list(links):
            links.pop(address).close()

    return RayServeBackend(platform, reach, release)
