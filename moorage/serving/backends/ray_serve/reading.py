"""What Ray says of its applications, as the control plane sees them: from values alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from moorage.serving.backends.contract import AppState, Seen
from moorage.serving.backends.ray_serve.listing import is_ours
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.rendering import INGRESS, digest_of
from moorage.serving.model import ModelEndpoint
from moorage.serving.reasons import Reason

__all__ = ["base_url_of", "candidates", "proxy_trouble", "read"]

MODEL = "LLMServer:"
NO_ROOM = re.compile(r"taken more than .* to be scheduled", re.DOTALL)
"""Of the message of a deployment whose replicas wait for a place."""
MESSAGE_CHARACTERS = 2000
NO_HOST = ("", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost")  # noqa: S104 - compared with, never bound
"""Where a proxy listens on all addresses, or on its own machine's: it is reached where the cluster is."""


def read(details: Mapping[str, Any], platform: RayPlatform, host: str, answering: Set[str]) -> dict[str, Seen]:
    """Every application of ours. `host` is where the cluster is reached.

    `answering` names those whose route was seen to answer: Ray's proxy learns of a new application a little later than
    Ray calls it running.
    """
    return {
        name: _seen(name, application, details, platform, host, name in answering)
        for name, application in (details.get("applications") or {}).items()
        if is_ours(name, application, platform.owner)
    }


def candidates(details: Mapping[str, Any], platform: RayPlatform) -> set[str]:
    """Those of ours that have a replica at work, behind a proxy that works: asking them is worth while."""
    if proxy_trouble(details):
        return set()
    applications = details.get("applications") or {}
    ours = {name: one for name, one in applications.items() if is_ours(name, one, platform.owner)}
    return {name for name, one in ours.items() if one.get("status") != "DELETING" and _ready(one)}


def base_url_of(name: str, details: Mapping[str, Any], platform: RayPlatform, host: str) -> str:
    """Where the application speaks OpenAI's API."""
    options = details.get("http_options") or {}
    root = (options.get("root_path") or "").rstrip("/")
    if platform.proxy_url is not None:
        return f"{platform.proxy_url.rstrip('/')}{root}/{platform.owner}/{name}/v1"
    listens = str(options.get("host") or "")
    if listens in NO_HOST:
        listens = host
    shown = f"[{listens}]" if ":" in listens else listens
    return f"http://{shown}:{options.get('port') or platform.proxy_port}{root}/{platform.owner}/{name}/v1"


def proxy_trouble(details: Mapping[str, Any]) -> str:
    """Why no request reaches any application; "" when one does."""
    states = [str(proxy.get("status")) for proxy in (details.get("proxies") or {}).values()]
    if "HEALTHY" in states:
        return ""
    if not states:
        return "Ray Serve has no HTTP proxy yet"
    return f"Ray Serve's HTTP proxy is {', '.join(sorted(set(states)))}: see its log, and whether its port is free"


def _seen(
    name: str,
    application: Mapping[str, Any],
    details: Mapping[str, Any],
    platform: RayPlatform,
    host: str,
    answers: bool,
) -> Seen:
    leaving = application.get("status") == "DELETING"
    trouble = proxy_trouble(details)
    ready = _ready(application) if answers and not trouble and not leaving else 0
    wanted = _wanted(application)
    state, reason = _judge(str(application.get("status")), ready, wanted, _says(application))
    base_url = base_url_of(name, details, platform, host)
    return Seen(
        app=name,
        state=state,
        # One that is being taken away was told nothing that counts: wanted again, it must be told again.
        digest="" if leaving else digest_of(application.get("deployed_app_config") or {}),
        reason=reason,
        message=_message(application, state, ready, wanted, trouble),
        replicas_ready=ready,
        endpoints=(ModelEndpoint(base_url=base_url, model=_model_id(application)),) if ready else (),
        details=_details(application, settled=reason is Reason.SERVING),
    )


def _judge(status: str, ready: int, wanted: int, says: str) -> tuple[AppState, Reason]:
    """What answers counts, not Ray's word alone: it calls an application that serves and grows DEPLOYING too."""
    if status == "DELETING":
        return AppState.REMOVING, Reason.DELETING
    if ready:
        if ready >= wanted:
            return AppState.RUNNING, Reason.SERVING
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            return AppState.RUNNING, Reason.DEGRADED
        return AppState.RUNNING, Reason.NO_CAPACITY if NO_ROOM.search(says) else Reason.STARTING
    if status == "DEPLOY_FAILED":
        return AppState.FAILED, Reason.DEPLOY_FAILED
    if status == "UNHEALTHY":
        return AppState.DEGRADED, Reason.DEGRADED
    return AppState.DEPLOYING, Reason.NO_CAPACITY if NO_ROOM.search(says) else Reason.STARTING


def _ready(application: Mapping[str, Any]) -> int:
    """Replicas of the model at work, if the ingress before them is."""
    deployments = application.get("deployments") or {}
    model = sum(_running(one) for name, one in deployments.items() if name.startswith(MODEL))
    return model if _running(deployments.get(INGRESS) or {}) else 0


def _running(deployment: Mapping[str, Any]) -> int:
    return sum(replica.get("state") == "RUNNING" for replica in deployment.get("replicas") or ())


def _wanted(application: Mapping[str, Any]) -> int:
    deployments = application.get("deployments") or {}
    targets = [one.get("target_num_replicas") or 1 for name, one in deployments.items() if name.startswith(MODEL)]
    return max(targets, default=1)


def _says(application: Mapping[str, Any]) -> str:
    """All messages, the application's first."""
    deployments = (application.get("deployments") or {}).values()
    texts = [application.get("message") or "", *(one.get("message") or "" for one in deployments)]
    kept: list[str] = []
    for text in texts:
        if text.strip() and not any(text.strip() in other for other in kept):
            kept.append(text.strip())
    return "\n".join(kept)


def _message(application: Mapping[str, Any], state: AppState, ready: int, wanted: int, trouble: str) -> str:
    says = _says(application)
    if state is AppState.RUNNING and ready >= wanted:
        return ""
    if trouble and state not in (AppState.FAILED, AppState.REMOVING):
        return trouble
    if not says:
        return f"{ready} of {wanted} replicas answer" if state is not AppState.REMOVING else ""
    return shorten(says)


def shorten(text: str) -> str:
    """The end of a long traceback says most, its first line what it was about."""
    if len(text) <= MESSAGE_CHARACTERS:
        return text
    first = text.split("\n", 1)[0][:300]
    return f"{first}\n…\n{text[-(MESSAGE_CHARACTERS - len(first) - 3) :]}"


def _model_id(application: Mapping[str, Any]) -> str:
    configs = ((application.get("deployed_app_config") or {}).get("args") or {}).get("llm_configs") or [{}]
    return str((configs[0].get("model_loading_config") or {}).get("model_id", ""))


def _details(application: Mapping[str, Any], *, settled: bool) -> dict[str, Any]:
    """Ray calls what it was told once more DEPLOYING for a moment, though nothing of it changes: that is not shown."""
    deployments = {
        name: {
            "status": "HEALTHY" if settled else one.get("status"),
            "replicas": [
                {key: replica.get(key) for key in ("replica_id", "state", "pid", "node_ip")}
                for replica in one.get("replicas") or ()
            ],
        }
        for name, one in (application.get("deployments") or {}).items()
    }
    return {
        "app_status": "RUNNING" if settled else application.get("status"),
        "route_prefix": application.get("route_prefix"),
        "deployments": deployments,
    }
