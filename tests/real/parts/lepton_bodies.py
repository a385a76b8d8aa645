"""What the Lepton stand-in remembers, and the bodies of its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.real.parts.lepton_replicas import Door, Replica

WORKSPACE = "ci"


@dataclass
class Fault:
    """What happens to the next requests that match."""

    method: str
    path: str
    """A regular expression for the whole path."""
    kind: str
    """`status`: answer it; `cut`: close without an answer; `cut-after`: do it, then close; `wait`: do it after a while;
    `wait-after`: do it, and answer after a while; `text`: answer 200 with no JSON."""
    status: int = 500
    words: str = "made to fail"
    seconds: float = 30.0
    times: int = 1_000_000
    met: threading.Event = field(default_factory=threading.Event)
    """Set when a request has met it, and with `wait-after` when it was done."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set to end the waits."""
    done: threading.Event = field(default_factory=threading.Event)
    """Set when a request that met it was dealt with."""


@dataclass
class Endpoint:
    """One endpoint: what was posted, and what runs for it."""

    name: str
    image: str
    command: list[str]
    envs: list[dict[str, Any]]
    count: int
    keys: list[str]
    spec: dict[str, Any]
    """As it was posted."""
    labels: dict[str, str]
    replicas: list[Replica]
    door: Door
    created_s: float = field(default_factory=time.time)
    deleting: bool = False
    forced: tuple[str, str] | None = None
    """State and phase, whatever the replicas do."""
    trouble: dict[str, Any] = field(default_factory=dict)
    """`reason`, `message`, `event`, `count` while no replica can be started."""


def workspace_info(*, new_family: bool) -> dict[str, Any]:
    """With every field that the SDK insists on."""
    none = {"cpu": 0, "memory": 0, "accelerator_num": 0}
    counts = ("num_deployments", "num_jobs", "num_pods", "num_secrets", "num_image_pull_secrets")
    return {
        "build_time": "2026-01-01",
        "git_commit": "stand-in",
        "workspace_name": WORKSPACE,
        "workspace_tier": "Enterprise",
        "workspace_state": "normal",
        "supported_shapes": {},
        "workspace_disk_usage_bytes": 0,
        "workloads": dict.fromkeys(counts, 0),
        "resource_quota": {"limit": none, "used": none},
        "features": {"enable_new_deployment_api": new_family},
    }


def shape(name: str, accelerators: int) -> dict[str, Any]:
    return {"metadata": {"id": name}, "spec": {"name": name, "accelerator_num": accelerators}}


def component_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The older family's fields in the newer one's shape."""
    wanted = spec["resource_requirement"]
    container = spec["container"]
    return {
        "image": container["image"],
        "command": container["command"],
        "envs": spec.get("envs"),
        "resource_shape": wanted["resource_shape"],
        "min_replicas": wanted["min_replicas"],
    }


def replicas_of(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What is known of each replica; of the first one, where none could be started."""
    if endpoint.trouble:
        return [{"id": f"{endpoint.name}-r0", "ends": [], "running": False, "trouble": endpoint.trouble}]
    return [
        {"id": one.name, "ends": one.ends(), "running": one.is_running(), "trouble": {}} for one in endpoint.replicas
    ]


def issue_of(replica: Mapping[str, Any]) -> dict[str, Any]:
    trouble = replica["trouble"]
    return {
        "reason": trouble.get("reason") or ("Ready" if replica["running"] else "InProgress"),
        "message": trouble.get("message") or "",
        "creationTimestamp": trouble.get("since") or "2026-01-01T00:00:00Z",
    }


def replica_body(replica: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    """`full`: with why it is not ready and how it ended, which only the newer family tells here."""
    status: dict[str, Any] = {"node": {"name": "node0", "id": "node0"}}
    if full:
        status |= {"readiness_issue": issue_of(replica), "terminations": replica["ends"]}
    return {"id": replica["id"], "metadata": {"id": replica["id"], "name": replica["id"]}, "status": status}


def events_of(endpoint: Endpoint) -> list[dict[str, Any]]:
    trouble = endpoint.trouble
    regarding = {"kind": "Pod", "name": f"{endpoint.name}-r0"}
    common = {"regarding": regarding, "last_observed_time": "2026-01-01T00:00:00Z"}
    if trouble.get("event"):
        return [common | {"type": "Warning", "reason": trouble["event"], "count": trouble.get("count", 1)}]
    return [common | {"type": "Normal", "reason": "Started", "count": 1}]
