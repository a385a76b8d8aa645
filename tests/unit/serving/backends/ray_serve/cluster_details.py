"""What Ray 2.60 says of its applications, as one cluster said it, cut down to what is read."""

from __future__ import annotations

from typing import Any

from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.rendering import INGRESS, model_deployment, render
from moorage.serving.spec.spec import ServingSpec

CPU = RayPlatform(owner="ours", accelerator="cpu", engine_kwargs={"max_model_len": 2048}, proxy_port=8123)
GPU = RayPlatform(owner="ours", accelerator_type="H20", proxy_port=8123)
NODE = "4d65664797a03232e5f78cd6e6634fcafbaf7eefcadc394b8e3cdaf7"


def wanted(suffix: str = "qwen-0.5b", key: str = "svc-alice-20260106-123000-abcdef", **spec: Any) -> Wanted:
    made = ServingSpec(model_id=suffix, model_source="/private/hf/qwen", **spec)
    return Wanted(app=f"{key}-{made.build()}", model_key=key, model_id=f"alice-202601061230-{suffix}", spec=made)


def replica(number: int, state: str = "RUNNING") -> dict[str, Any]:
    told = {"replica_id": f"r{number}", "state": state, "node_id": NODE, "node_ip": "192.0.2.2"}
    if state != "STARTING":
        told |= {"pid": 1000 + number, "worker_id": f"w{number}", "log_file_path": f"/serve/replica_{number}.log"}
    return told


def application(
    one: Wanted,
    platform: RayPlatform = CPU,
    *,
    status: str = "RUNNING",
    states: tuple[str, ...] = ("RUNNING",),
    front: tuple[str, ...] = ("RUNNING",),
    message: str = "",
    deployment_message: str = "",
    **more: Any,
) -> dict[str, Any]:
    """As Ray shows it; `states` are those of its replicas."""
    config = render(one, platform)
    parts = {
        model_deployment(one.model_id): (states, one.spec.num_replicas, deployment_message),
        INGRESS: (front, 1, ""),
    }
    return {
        "name": one.app,
        "route_prefix": config["route_prefix"],
        "status": status,
        "message": message,
        "source": "declarative",
        "deployed_app_config": config,
        "deployments": {
            name: {
                "status": "HEALTHY" if status == "RUNNING" else "UPDATING",
                "message": said,
                "target_num_replicas": target,
                "replicas": [replica(number, state) for number, state in enumerate(shown)],
                "recent_dead_replicas": [],
            }
            for name, (shown, target, said) in parts.items()
        },
        **more,
    }


def foreign(name: str, **more: Any) -> dict[str, Any]:
    config = {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "theirs:app",
        "runtime_env": {"env_vars": {"KEY": "value"}},
        "deployments": [{"name": "D", "user_config": {"a": [1, None]}}],
    }
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "status": "RUNNING",
        "message": "",
        "source": "declarative",
        "deployed_app_config": config,
        "deployments": {},
        **more,
    }


def details(*applications: dict[str, Any], proxy: str | None = "HEALTHY", **more: Any) -> dict[str, Any]:
    """The reply to `GET /api/serve/applications/`; `proxy` None: Serve does not run."""
    if proxy is None:
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8123, "root_path": "", "request_timeout_s": None},
        "proxies": {NODE: {"node_id": NODE, "status": proxy}},
        "applications": {one["name"]: one for one in applications},
        "target_capacity": None,
        **more,
    }
