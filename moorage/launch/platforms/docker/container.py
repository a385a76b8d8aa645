"""A service as a container and back: values in, values out; the Engine API's own shapes, no effects.

Shared by every platform that runs containers through a Docker engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from moorage.errors import UsageError
from moorage.launch.platforms.life import Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from moorage.catalog.shapes import DockerRun, GpuHostEnv
    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Submission

    Json = dict[str, Any]

JOB_LABEL = "moorage.job_id"
OWNER_LABEL = "moorage.owner"
ENTRY_LABEL = "moorage.entry"
TAO_LABEL = "tao-job"
"""The label that the TAO skill's Docker commands use."""

STARTING_S = 120.0
"""How long a container may be created and not yet started before it counts as one whose start was cut off."""

KILLED = 137
"""128 + SIGKILL: the exit code of a container that ran out of memory, among others."""


def create_body(
    submission: Submission, *, run: DockerRun, network: str, owner: int, gpu_host: GpuHostEnv | None
) -> Json:
    """The body of `POST /containers/create`. Secrets are in its `Env` and nowhere else.

    `gpu_host`: not None on a Tegra machine, where a runtime and variables take the place of device requests.
    Raises UsageError for a mount that is none.
    """
    gpu, gpu_env = _gpu_config(submission, gpu_host)
    port = f"{run.container_port}/tcp"
    published = {"HostIp": run.publish_address, "HostPort": "" if submission.port is None else str(submission.port)}
    environment = submission.env | submission.secret_env | gpu_env
    return {
        "Image": submission.image,
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [submission.command],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {
            JOB_LABEL: submission.job_id,
            TAO_LABEL: submission.job_id,
            OWNER_LABEL: str(owner),
            ENTRY_LABEL: json.dumps(submission.label),
        },
        "ExposedPorts": {port: {}},
        "HostConfig": {
            "PortBindings": {port: [published]},
            "NetworkMode": network,
            "ShmSize": size_in_bytes(run.shm_size),
            "Mounts": [_mount(text) for text in submission.mounts],
            "AutoRemove": run.remove_on_exit,
            "RestartPolicy": {"Name": "no"},
            # A shell as first process ignores SIGTERM; with an init in front a stop takes no grace period.
            "Init": True,
            **gpu,
        },
        "NetworkingConfig": {"EndpointsConfig": {network: {}}},
    }


def size_in_bytes(text: str) -> int:
    """Docker's sizes: `8g`, `512m`, `64kb`, a bare number of bytes. Raises UsageError."""
    match = re.fullmatch(r"(\d+)([bkmgt]?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"not a size: {text!r}", hint="for example 8g or 512m")
    return int(match[1]) << 10 * "bkmgt".index(match[2] or "b")


def names_of(container: Mapping[str, Any]) -> list[str]:
    """A listed container's names, without Docker's leading slash."""
    return [name.removeprefix("/") for name in container.get("Names") or []]


def lives_of(
    names: Sequence[str],
    containers: Mapping[str, Mapping[str, Any]],
    *,
    now_s: float,
    ran_out_of_memory: Callable[[str], bool],
) -> dict[str, Life]:
    """Name → life, from listed containers by name.

    A listing does not say why one was killed: `ran_out_of_memory` is asked for it, with the container's id.
    """
    lives = {name: life_of(containers.get(name), now_s=now_s) for name in names}
    for name, container in containers.items():
        if name in lives and exit_code_of(container) == KILLED and ran_out_of_memory(str(container["Id"])):
            lives[name] = Life(state=lives[name].state, detail=f"OOMKilled ({lives[name].detail})")
    return lives


def life_of(container: Mapping[str, Any] | None, *, now_s: float) -> Life:
    """Whether a listed container lives; `now_s` is seconds since the epoch."""
    if container is None:
        return Life(state="exited", detail="no such container", exists=False)
    state = str(container.get("State"))
    if state == "running":
        return Life(state="alive")
    if state in ("paused", "restarting"):
        return Life(state="alive", detail=state)
    if state == "created":
        young = now_s - float(container.get("Created") or 0) < STARTING_S
        return Life(state="alive" if young else "exited", detail="created, not started")
    code = exit_code_of(container)
    return Life(state="exited", detail=state if code is None else f"exit code {code}")


def exit_code_of(container: Mapping[str, Any]) -> int | None:
    """From a listed container's `Status`, such as `Exited (137) 2 minutes ago`; None when it has not ended."""
    match = re.match(r"Exited \((\d+)\)", str(container.get("Status") or ""))
    return int(match[1]) if match else None


def entry_of(container: Mapping[str, Any], *, platform: str, container_port: int) -> Entry:
    """Rebuild an entry from a listed container: its label, corrected by what is so now.

    The container's name is the service's identity and a published port is the one that answers, so both win over the
    label.
    """
    labels = container.get("Labels") or {}
    name = next((name for name in names_of(container) if "/" not in name), str(labels.get(JOB_LABEL)))
    entry = _label_entry(labels.get(ENTRY_LABEL))
    if entry is None:
        from datetime import UTC, datetime

        moment = datetime.fromtimestamp(float(container.get("Created") or 0), UTC)
        entry = {"started_at": moment.isoformat(), "image": container.get("Image")}
    entry |= {"job_id": name, "platform": platform, "docker_url": f"http://{name}:{container_port}"}
    for binding in container.get("Ports") or []:
        if binding.get("PrivatePort") == container_port and binding.get("PublicPort"):
            entry["host_port"] = binding["PublicPort"]
            entry["host_url"] = f"http://localhost:{binding['PublicPort']}"
    return entry


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines out of pieces cut anywhere; bytes that are no UTF-8 are replaced."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)
    if rest:
        yield _text(rest)


class PullProgress:
    """Adds up a pull's events over its layers."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, event: Mapping[str, Any]) -> bool:
        """Count one event; True when the sums changed."""
        layer = event.get("id")
        if not isinstance(layer, str):
            return False
        before = self._layers.get(layer)
        after = self._after(event, before)
        if after is None or after == before:
            return False
        self._layers[layer] = after
        return True

    @property
    def done_bytes(self) -> int:
        return sum(done for done, _ in self._layers.values())

    @property
    def total_bytes(self) -> int:
        """Of the layers whose size is known so far."""
        return sum(total for _, total in self._layers.values())

    @staticmethod
    def _after(event: Mapping[str, Any], before: tuple[int, int] | None) -> tuple[int, int] | None:
        detail = event.get("progressDetail") or {}
        match event.get("status"):
            case "Downloading" if detail.get("total"):
                return int(detail.get("current") or 0), int(detail["total"])
            case "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete" if before:
                return before[1], before[1]
            case _:
                return None


def gpu_support(info: Mapping[str, Any]) -> str | None:
    """How an engine says that it can give NVIDIA GPUs, from `/info`; None when it says nothing.

    None proves nothing: a hook on the engine's PATH, which no answer shows, is enough for device requests.
    """
    if "nvidia" in (info.get("Runtimes") or {}):
        return "runtime nvidia"
    devices = info.get("DiscoveredDevices") or []
    return "CDI" if any("nvidia.com/gpu" in str(device.get("ID")) for device in devices) else None


def _gpu_config(submission: Submission, gpu_host: GpuHostEnv | None) -> tuple[Json, dict[str, str]]:
    """Host configuration and variables that give the container its GPUs.

    GPUs are asked for by id, also when only a number is given: the engine takes the first ones for a number too, and
    ids show which they are.
    """
    if submission.gpus == "none":
        return {}, {}
    if gpu_host is not None:
        ids = submission.gpus or "all"
        return {"Runtime": gpu_host.runtime}, {
            name: value.replace("{gpu_ids}", ids) for name, value in gpu_host.variables.items()
        }
    chosen = submission.gpus.split(",") if submission.gpus else [str(index) for index in range(submission.num_gpus)]
    request = {"DeviceIDs": [gpu.strip() for gpu in chosen], "Capabilities": [["gpu"]]}
    return {"DeviceRequests": [request]}, {}


def _mount(text: str) -> Json:
    """`Mounts` and not `Binds`, with which the engine would make a missing source as an empty folder of root's."""
    from moorage.catalog.mounts import parse_mount

    mount = parse_mount(text)
    return {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}


def _label_entry(text: object) -> Entry | None:
    try:
        entry = json.loads(str(text))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
