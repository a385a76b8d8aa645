"""local-docker: the service as a container of the Docker engine that the docker command would use.

The container is named by the job id, and that name is the identity: a container that another tool started from the
same conventions has no labels of ours and is asked, logged and stopped just the same. What runs is asked with one raw
request (`docker_socket`); starting and stopping go through the package (`docker_engine`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError
from moorage.launch.entry import Entry
from moorage.launch.platforms import docker_socket
from moorage.launch.platforms.base import Check, Life, Report, Submission
from moorage.launch.platforms.docker_container import (
    OWNER_LABEL,
    create_body,
    entry_of,
    exit_code_of,
    gpu_support,
    life_of,
    names_of,
)
from moorage.launch.platforms.docker_faults import NO_GPU_HINT

if TYPE_CHECKING:
    from moorage.catalog.shapes import DockerRun, GpuHostEnv, ServiceReference
    from moorage.launch.platforms.docker_engine import DockerEngine

ASK_TIMEOUT_S = 5.0
KILLED = 137
"""128 + SIGKILL: the exit code of a container that ran out of memory, among others."""
LEAST_FREE_BYTES = 5 << 30
"""Below it an engine image cannot be pulled."""


class LocalDocker:
    """See the module. `service`: how containers are run; None reads the reference files when they are needed."""

    name = "local-docker"

    def __init__(self, environ: Mapping[str, str], service: ServiceReference | None = None) -> None:
        self._environ = environ
        self._given_service = service

    def doctor(self) -> list[Check]:
        checks = [self._check_package()]
        try:
            version, info = self._ask("/version"), self._ask("/info")
        except MoorageError as fault:
            return [*checks, Check(name="docker engine", ok=False, message=fault.message, hint=fault.hint)]
        return [*checks, _check_version(version), self._check_network(), _check_gpu(info), _check_disk(info)]

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> None:
        try:
            engine = self._engine()
            engine.version()
            self._check_runtime(submission, engine)
            engine.ensure_image(submission.image, pull=pull, report=report)
        except PlatformUnreachable as fault:
            raise PreflightError(fault.message, code=fault.code, hint=fault.hint, next=["moor doctor"]) from fault

    def submit(self, submission: Submission) -> Entry:
        engine = self._engine()
        run = self._service().docker_run_reference
        network = engine.ensure_network(self._network_name(run))
        gpu_host = self._gpu_host(submission)
        body = create_body(submission, run=run, network=network, owner=os.getuid(), gpu_host=gpu_host)
        container_id = engine.run(submission.job_id, body)
        if submission.port is not None:
            return {}
        found = self._list(names=[submission.job_id])
        fields = [entry_of(item, platform=self.name, container_port=run.container_port) for item in found]
        return fields[0]

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        names = [str(entry["job_id"]) for entry in entries]
        if not names:
            return {}
        try:
            containers = self._by_name(names)
        except MoorageError as fault:
            return {name: Life(state="unknown", detail=fault.message) for name in names}
        now_s = time.time()
        return {name: self._life(containers.get(name), now_s) for name in names}
