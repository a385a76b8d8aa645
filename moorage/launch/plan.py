"""What a start will do: everything decided before anything happens, so that it can be shown (`--dry-run`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorage.catalog.command import container_env, inner_command, secret_env_names
from moorage.catalog.image import resolve_image
from moorage.catalog.model_path import ModelPath, folder_warning, parse_model_path, served_model_name
from moorage.catalog.mounts import Mount, parse_mount, unmounted_warning
from moorage.errors import UsageError
from moorage.launch.entry import Entry, now_utc
from moorage.launch.plane import Plane
from moorage.launch.platforms import LOCAL_PORT_PLATFORMS, require_platform
from moorage.launch.platforms.base import Submission
from moorage.launch.ports import check_port, choose_port, port_is_free


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What the user asked for; None means not given."""

    network_arch: str
    model_path: str
    platform: str = "local-process"
    num_gpus: int | None = None
    gpus: str | None = None
    runtime: str | None = None
    model_key: str | None = None
    mounts: tuple[str, ...] = ()
    host_port: int | None = None
    job_id: str | None = None
    pull: str = "missing"
    wait_s: float | None = None
    """None: the catalog's default."""
    no_wait: bool = False
    ttl_s: float | None = None
    idle_timeout_s: float | None = None
    extra_arguments: tuple[str, ...] = ()
    """Given after `--`: appended to the inner command."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The platform's own flags that were given, by name with underscores."""
    served_name: str | None = None
    """What requests call the model, of an engine; None: as the model's path says."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the server besides the arch's own. No secrets."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Kept in the entry and with the service: whose it is, for whoever starts services for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """All of a start but the port."""

    request: StartRequest
    job_id: str
    network_arch: str
    model_path: ModelPath
    image: str
    command: str
    env: dict[str, str]
    secret_env: dict[str, str] = field(repr=False)
    mounts: tuple[Mount, ...]
    container_port: int
    readiness_paths: tuple[str, ...]
    num_gpus: int
    gpus: str | None
    served_model_name: str | None
    program: str
    python_module: str | None
    engine: str | None
    secret_names: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_data(self, port: int | None) -> dict[str, Any]:
        """`data.plan` of a dry run. Secrets by name only."""
        return {
            "job_id": self.job_id,
            "platform": self.request.platform,
            "network_arch": self.network_arch,
            "image": self.image,
            "command": self.command,
            "env": self.env,
            "secret_env": sorted(self.secret_env),
            "port": port,
        }

    @property
    def has_local_port(self) -> bool:
        """Whether the service is reached by a port of this machine that we choose."""
        request = self.request
        return request.platform in LOCAL_PORT_PLATFORMS or request.options.get("access") == "port-forward"

    def entry(self, port: int | None) -> Entry:
        """The registry entry as it is known before launch."""
        platform = self.request.platform
        docker = platform in ("local-docker", "brev")
        entry: Entry = {
            "job_id": self.job_id,
            "platform": platform,
            "network_arch": self.network_arch,
            "host_url": f"http://localhost:{port}" if port else None,
            **({"docker_url": f"http://{self.job_id}:{self.container_port}"} if docker else {}),
            "host_port": port,
            "started_at": now_utc(),
            "state": "starting",
            "image": None if platform == "local-process" else self.image,
            "model_path": self.model_path.text,
            "num_gpus": self.num_gpus,
            "served_model_name": self.served_model_name,
            **({"labels": dict(self.request.labels)} if self.request.labels else {}),
        }
        limits = {"ttl_s": self.request.ttl_s, "idle_timeout_s": self.request.idle_timeout_s}
        return entry | {name: value for name, value in limits.items() if value is not None}

    def submission(self, entry: Entry) -> Submission:
        """What the platform gets."""
        label = {name: value for name, value in entry.items() if name not in ("state", "starter", "reaper")}
        return Submission(
            job_id=self.job_id,
            network_arch=self.network_arch,
            image=self.image,
            command=self.command,
            env=self.env,
            secret_env=self.secret_env,
            port=entry["host_port"],
            num_gpus=self.num_gpus,
            gpus=self.gpus,
            runtime=self.request.runtime,
            mounts=self.request.mounts,
            program=self.program,
            python_module=self.python_module,
            engine=self.engine,
            secret_names=self.secret_names,
            container_port=self.container_port,
            readiness_paths=self.readiness_paths,
            options=dict(self.request.options),
            label=label,
        )


def make_plan(plane: Plane, request: StartRequest) -> StartPlan:
    """Decide everything but the port. Raises UsageError or PreflightError for what the user must change."""
    catalog, platform = plane.catalog, require_platform(request.platform)
    arch = catalog.require_arch(request.network_arch)
    command = catalog.service.container_commands[arch]
    model_path = parse_model_path(request.model_path)
    num_gpus, gpus = choose_gpus(request.num_gpus, request.gpus)
    mounts = tuple(parse_mount(text) for text in request.mounts)
    _refuse_container_flags(request, platform)
    job_id = _job_id(request.job_id)
    env = container_env(catalog, arch, job_id=job_id, platform=platform)
    names = secret_env_names(catalog, arch, model_path, plane.environ)
    return StartPlan(
        request=request,
        job_id=job_id,
        network_arch=arch,
        model_path=model_path,
        image=resolve_image(catalog, arch, plane.environ).image,
        command=inner_command(
            catalog,
            arch,
            job_id=job_id,
            model_path=model_path,
            platform=platform,
            num_gpus=num_gpus,
            model_key=request.model_key,
            extra_arguments=request.extra_arguments,
            served_name=request.served_name,
        ),
        env=env | ({"MOORAGE_TENSOR_PARALLEL": "1"} if gpus == "none" else {}) | dict(request.env),
        secret_env={name: plane.environ[name] for name in names},
        mounts=mounts,
        container_port=catalog.service.docker_run_reference.container_port,
        readiness_paths=tuple(catalog.service.readiness.contracts[command.family].paths),
        num_gpus=num_gpus,
        gpus=gpus,
        served_model_name=(request.served_name or served_model_name(model_path))
        if command.family == "engine"
        else None,
        program=command.program,
        python_module=command.python_module,
        engine=command.engine,
        secret_names=tuple(catalog.secret_names),
        warnings=_warnings(plane, arch, model_path, mounts, platform),
    )


def _refuse_container_flags(request: StartRequest, platform: str) -> None:
    if request.runtime and platform not in ("local-docker", "brev"):
        raise UsageError(f"--runtime has no meaning on {platform}", hint="it chooses a container runtime of Docker")
    if platform != "local-process":
        return
    if request.mounts:
        raise UsageError("--mount has no meaning on local-process", hint="give the path itself as --model-path")


def choose_gpus(num_gpus: int | None, gpus: str | None) -> tuple[int, str | None]:
    """(how many, which): ids set the number; without any, one GPU. Raises UsageError when they disagree."""
    if num_gpus is not None and num_gpus < 1:
        raise UsageError(f"--num-gpus {num_gpus}: at least 1", hint="for an engine without a GPU add --gpus none")
    if gpus is None or gpus == "none":
        return num_gpus or 1, gpus
    ids = [part.strip() for part in gpus.split(",")]
    if not all(ids) or len(set(ids)) != len(ids) or not all(part.replace("-", "").isalnum() for part in ids):
        raise UsageError(f"--gpus {gpus!r} is neither 'none' nor a list of GPU ids", hint="for example --gpus 0,1")
    if num_gpus is not None and num_gpus != len(ids):
        raise UsageError(f"--num-gpus {num_gpus} and --gpus {gpus} disagree", hint="leave --num-gpus away")
    return len(ids), ",".join(ids)


def choose_host_port(plane: Plane, plan: StartPlan, entries: list[Entry], tried: set[int]) -> int | None:
    """The port on this machine; None where the platform moves it itself. Raises ConflictError."""
    wanted = plan.request.host_port
    if not plan.has_local_port:
        if wanted is not None:
            raise UsageError(
                f"--host-port has no meaning here: {plan.request.platform} gives the address",
                hint="with --access port-forward it is the port on this machine"
                if plan.request.platform == "kubernetes"
                else "leave it away",
            )
        return None
    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise UsageError(f"--host-port {wanted}: a port is 1 to 65535")
        check_port(wanted, entries, is_free=port_is_free)
        return wanted
    docker = plane.catalog.service.docker_run_reference
    return choose_port(entries, first=docker.port_first, last=docker.port_last, is_free=port_is_free, tried=tried)


def dry_run(plane: Plane, request: StartRequest) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the plan as data, warnings). Reads the registry, and changes, locks and asks nothing."""
    plan = make_plan(plane, request)
    state = plane.registry.read(quarantine=False)
    port = choose_host_port(plane, plan, list(state.services.values()), set())
    more = plane.platform(request.platform).plan(plan.submission(plan.entry(port)))
    return plan.as_data(port) | more, plan.warnings


def _job_id(text: str | None) -> str:
    if text is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(f"--job-id {text!r} is not a UUID", hint=f"for example {uuid.uuid4()}") from None


def _warnings(plane: Plane, arch: str, model: ModelPath, mounts: tuple[Mount, ...], platform: str) -> tuple[str, ...]:
    sidecar = plane.catalog.sidecars.get(arch)
    said = [folder_warning(sidecar.spec_params.inference.model_path, model)] if sidecar else []
    if platform == "local-docker" and model.form == "absolute":
        said.append(unmounted_warning(model, mounts, Path(model.text).exists()))
    command = plane.catalog.service.container_commands[arch]
    if platform == "local-process" and not any("{host}" in word for word in command.words):
        said.append(f"the server of {arch} has no flag for its address: it listens on all of them, without a key")
    return tuple(text for text in said if text)
