"""local-docker: the service as a container of the Docker engine that the docker command would use.

The container is named by the job id, and that name is the identity: a container that another tool started from the
same conventions has no labels of ours and is asked, logged and stopped just the same. What runs is asked with one raw
request (`docker.socket`); starting and stopping go through the package (`docker.engine`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError
from moorage.launch.platforms.docker import socket as docker_socket
from moorage.launch.platforms.docker.checks import gpu_check, package_check, version_check
from moorage.launch.platforms.docker.container import OWNER_LABEL, create_body, entry_of, lives_of, names_of
from moorage.launch.platforms.docker.reference import gpu_host_of, load_service, network_name, require_runtime
from moorage.launch.platforms.life import Check, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.catalog.shapes import GpuHostEnv, ServiceReference
    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Report, Submission
    from moorage.launch.platforms.docker.engine import DockerEngine

ASK_TIMEOUT_S = 5.0
LEAST_FREE_BYTES = 5 << 30
"""Below it an engine image cannot be pulled."""


class LocalDocker:
    """See the module. `service`: how containers are run; None reads the reference files when they are needed."""

    name = "local-docker"

    def __init__(self, environ: Mapping[str, str], service: ServiceReference | None = None) -> None:
        self._environ = environ
        self._given_service = service

    def doctor(self) -> list[Check]:
        checks = [package_check("docker", "docker")]
        try:
            network = self._network_name()
            version, info, has_network = self._facts(network)
        except MoorageError as fault:
            return [*checks, Check(name="docker engine", ok=False, message=fault.message, hint=fault.hint)]
        state = "is there" if has_network else "is made by the first start"
        network_check = Check(name="docker network", ok=True, message=f"{network} {state}")
        return [*checks, version_check(version), network_check, gpu_check(info), _check_disk(info)]

    def plan(self, submission: Submission) -> dict[str, Any]:
        return {}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        try:
            engine = self._engine()
            engine.version()
            require_runtime(submission, self._gpu_host(submission), engine)
            engine.ensure_image(submission.image, pull=pull, report=report)
        except PlatformUnreachable as fault:
            doctor = "moor doctor --platform local-docker"
            raise PreflightError(fault.message, code=fault.code, hint=fault.hint, next=[doctor]) from fault
        return {}

    def submit(self, submission: Submission) -> Entry:
        engine = self._engine()
        run = self._service().docker_run_reference
        body = create_body(
            submission,
            run=run,
            network=engine.ensure_network(self._network_name()),
            owner=os.getuid(),
            gpu_host=self._gpu_host(submission),
        )
        engine.run(submission.job_id, body)
        if submission.port is not None:
            return {}
        container = self._by_name([submission.job_id])[submission.job_id]
        entry = entry_of(container, platform=self.name, container_port=run.container_port)
        return {name: entry[name] for name in ("host_port", "host_url") if name in entry}

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        names = [str(entry["job_id"]) for entry in entries]
        if not names:
            return {}
        try:
            containers = self._by_name(names)
        except MoorageError as fault:
            return {name: Life(state="unknown", detail=fault.message) for name in names}
        return lives_of(names, containers, now_s=time.time(), ran_out_of_memory=self._ran_out_of_memory)

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        return self._engine().logs(str(entry["job_id"]), tail=tail, follow=follow)

    def stop(self, entry: Entry) -> None:
        self._engine().stop(str(entry["job_id"]))

    def find(self) -> list[Entry]:
        port = self._service().docker_run_reference.container_port
        containers = self._list(label=f"{OWNER_LABEL}={os.getuid()}")
        return [entry_of(container, platform=self.name, container_port=port) for container in containers]

    def _engine(self) -> DockerEngine:
        from moorage.launch.platforms.docker.engine import DockerEngine

        return DockerEngine(self._environ)

    def _service(self) -> ServiceReference:
        return self._given_service or load_service(self._environ)

    def _network_name(self) -> str:
        return network_name(self._service(), self._environ)

    def _facts(self, network: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
        """(what the engine says of its version, of itself, whether it has the network)"""
        endpoint = docker_socket.resolve_endpoint(self._environ)
        if not endpoint.is_light:
            engine = self._engine()
            return engine.version(), engine.info(), engine.has_network(network)
        version, info, found = (
            docker_socket.get_object(endpoint, path, timeout_s=ASK_TIMEOUT_S)
            for path in ("/version", "/info", f"/networks/{network}")
        )
        return version, info, bool(found)

    def _list(self, *, names: Sequence[str] = (), label: str | None = None) -> list[dict[str, Any]]:
        endpoint = docker_socket.resolve_endpoint(self._environ)
        if not endpoint.is_light:
            return self._engine().list_containers(names=names, label=label)
        return docker_socket.list_containers(endpoint, names=names, label=label, timeout_s=ASK_TIMEOUT_S)

    def _by_name(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {name: container for container in self._list(names=names) for name in names_of(container)}

    def _ran_out_of_memory(self, container_id: str) -> bool:
        """A listing does not say so; one more request for each container that was killed."""
        endpoint = docker_socket.resolve_endpoint(self._environ)
        try:
            if endpoint.is_light:
                found = docker_socket.inspect(endpoint, container_id, timeout_s=ASK_TIMEOUT_S)
            else:
                found = self._engine().inspect(container_id)
        except MoorageError:
            return False
        return bool(found and found["State"].get("OOMKilled"))

    def _gpu_host(self, submission: Submission) -> GpuHostEnv | None:
        """On a Tegra machine only with an engine of its own."""
        service = self._service()
        is_local = docker_socket.resolve_endpoint(self._environ).is_local
        on_tegra = is_local and os.access(service.optional_gpu_host_env.release_file, os.F_OK)
        return gpu_host_of(submission, service, on_tegra=on_tegra)


def _check_disk(info: Mapping[str, Any]) -> Check:
    """Room for images, where the engine's folder is one of this machine."""
    folder = str(info.get("DockerRootDir"))
    try:
        stat = os.statvfs(folder)
    except OSError:
        return Check(name="disk for images", ok=True, message=f"{folder} cannot be seen from here")
    free = stat.f_bavail * stat.f_frsize
    ok = free >= LEAST_FREE_BYTES
    message = f"{free / (1 << 30):.1f} GiB free in {folder}"
    return Check(name="disk for images", ok=ok, message=message, hint="" if ok else "docker system prune frees space")
