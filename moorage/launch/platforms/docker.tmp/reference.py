"""What the reference files say of containers, put to an engine: its network, and the Tegra way to the GPU.

Shared by every platform that runs containers through a Docker engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.errors import PreflightError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.catalog.shapes import GpuHostEnv, ServiceReference
    from moorage.launch.platforms.base import Submission
    from moorage.launch.platforms.docker_engine import DockerEngine


def load_service(environ: Mapping[str, str]) -> ServiceReference:
    """service.yaml, from the bundle that `environ` chooses."""
    from moorage.catalog.bundle import bundle_root
    from moorage.catalog.catalog import load_catalog

    return load_catalog(bundle_root(environ)).service


def network_name(service: ServiceReference, environ: Mapping[str, str]) -> str:
    """The Docker network that containers join: the one that the user's variable names, else the default."""
    run = service.docker_run_reference
    return environ.get(run.network_env) or run.network_default


def gpu_host_of(submission: Submission, service: ServiceReference, *, on_tegra: bool) -> GpuHostEnv | None:
    """The Tegra way to the GPU, on a Tegra machine or when its runtime was asked for; None: device requests."""
    tegra = service.optional_gpu_host_env
    return tegra if on_tegra or submission.runtime == tegra.runtime else None


def require_runtime(submission: Submission, gpu_host: GpuHostEnv | None, engine: DockerEngine) -> None:
    """A runtime that the engine does not have is known now; whether device requests work, only at the start.

    Raises PreflightError.
    """
    if gpu_host is None or submission.gpus == "none":
        return
    if gpu_host.runtime not in (engine.info().get("Runtimes") or {}):
        from moorage.launch.platforms.docker_faults import NO_GPU_HINT

        raise PreflightError(
            f"the Docker engine has no runtime {gpu_host.runtime}, which GPUs need on this machine",
            code="no_gpu",
            hint=NO_GPU_HINT,
        )
