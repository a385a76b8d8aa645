"""What Ray is told of a model: one application of Ray Serve LLM, from values alone.

Everything that a replica is started from is in `args`, and what may change in place is in `deployments`: Ray builds an
application anew when its `args` differ, and only scales it when its `deployments` do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from moorage.catalog.engine_python import QUIET, VLLM_ON_A_CPU
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.parallel import shared_gpus
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.spec.spec import ServingSpec

__all__ = ["IMPORT_PATH", "INGRESS", "digest_of", "model_deployment", "render", "rescaled", "route_of"]

IMPORT_PATH = "ray.serve.llm:build_openai_app"
INGRESS = "OpenAiIngress"
"""The deployment that speaks OpenAI's API in front of the model's."""
MOST_INGRESS_REPLICAS = 8
START = "initial_replicas"

UNBOUND = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Replicas share the machine's cores: each would else bind its threads to the same first ones."""


def render(wanted: Wanted, platform: RayPlatform) -> dict[str, Any]:
    """The application as `PUT /api/serve/applications/` takes it."""
    return {
        "name": wanted.app,
        "route_prefix": route_of(wanted.app, platform.owner),
        "import_path": IMPORT_PATH,
        "args": {
            "llm_configs": [_llm_config(wanted, platform)],
            "ingress_deployment_config": {
                "num_replicas": 1,
                # It computes little beside a GPU's engine; on a platform of CPUs it takes no place of a worker's.
                "ray_actor_options": {"num_cpus": 0 if platform.accelerator == "cpu" else 1},
            },
        },
        "deployments": _deployments(wanted, platform),
    }


def rescaled(live: Mapping[str, Any], wanted: Wanted, platform: RayPlatform) -> dict[str, Any]:
    """An application that Ray has, with what may change in place as it is wanted now.

    The rest stays as it was told when it was made, also when the platform's defaults are others by now: they go into
    what is built from then on, and do not restart what serves. What the load has called for stays too.
    """
    bounds = _bounds(_deployments(wanted, platform))
    return {**live} if _bounds(live.get("deployments")) == bounds else {**live, "deployments": bounds}


def digest_of(application: Mapping[str, Any], build: str | None = None) -> str:
    """Of what may change in place, and of the build: that is in the application's name, unless it is given."""
    name, bounds = str(application.get("name")), _bounds(application.get("deployments"))
    told = [name, build or name.rpartition("-")[2], application.get("route_prefix"), bounds]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def route_of(app: str, owner: str) -> str:
    """Where Ray's proxy answers for it; it also says whose application it is."""
    return f"/{owner}/{app}"


def model_deployment(model_id: str) -> str:
    """The name that Ray Serve LLM gives to the deployment of a model's replicas."""
    return f"LLMServer:{model_id.replace('/', '--').replace('.', '_')}"


def _llm_config(wanted: Wanted, platform: RayPlatform) -> dict[str, Any]:
    spec = wanted.spec
    kwargs = _engine_kwargs(spec, platform)
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": wanted.model_id, "model_source": spec.model_source},
        "runtime_env": {"env_vars": _environment(spec, platform)},
        "deployment_config": {"num_replicas": 1, "max_constructor_retry_count": 1},
        "engine_kwargs": kwargs,
    }
    # A replica that cannot start is tried once: how often a model is tried again is the control plane's to say.
    if kwargs.get("disable_log_stats"):
        config["log_engine_metrics"] = False  # Ray refuses the two together
    if platform.accelerator == "cpu":
        config["accelerator_config"] = {"kind": "cpu"}
        config["placement_group_config"] = {"bundle_per_worker": {"CPU": 1}}
    elif platform.accelerator_type is not None:
        config["accelerator_type"] = platform.accelerator_type
    return config


def _engine_kwargs(spec: ServingSpec, platform: RayPlatform) -> dict[str, Any]:
    """The user's over the platform's."""
    return shared_gpus({**platform.engine_kwargs, **spec.engine_kwargs}, spec.gpus_per_replica)


def _environment(spec: ServingSpec, platform: RayPlatform) -> dict[str, str]:
    """No secret: Ray shows it to everybody who may ask it. A hub's token belongs into the cluster's environment."""
    on_a_cpu = {**VLLM_ON_A_CPU, **UNBOUND} if platform.accelerator == "cpu" else {}
    # A folder is all there is to load: nothing asks a hub for more.
    offline = {"HF_HUB_OFFLINE": "1"} if spec.model_source.startswith("/") else {}
    return {**QUIET, **on_a_cpu, **offline}


def _deployments(wanted: Wanted, platform: RayPlatform) -> list[dict[str, Any]]:
    """Replicas, always as bounds of autoscaling: whether such bounds are given is part of what Ray builds from, and a
    model that begins to follow its load would else be built anew, in place."""
    replicas = wanted.spec.replicas
    scaling = {
        "min_replicas": replicas.least,
        START: replicas.start,
        "max_replicas": replicas.most,
        "target_ongoing_requests": platform.target_ongoing_requests,
    }
    front = 1 if platform.accelerator == "cpu" else min(replicas.most, MOST_INGRESS_REPLICAS)
    return [
        {"name": model_deployment(wanted.model_id), "autoscaling_config": scaling},
        {"name": INGRESS, "num_replicas": front},
    ]


def _bounds(deployments: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Deployments without where they start: whenever anything of one changes Ray goes back to that number, however many
    replicas are at work."""
    found = []
    for one in deployments or ():
        scaling = {name: value for name, value in (one.get("autoscaling_config") or {}).items() if name != START}
        found.append({**one, "autoscaling_config": scaling} if scaling else {**one})
    return found
