"""The list of applications that Ray is given: it replaces the one before, so it must hold everybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorage.errors import FailedError
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.ray_serve.platform import RayPlatform
from moorage.serving.backends.ray_serve.rendering import digest_of, render, rescaled, route_of

__all__ = ["document", "is_ours", "is_settled", "under_construction"]

REDACTED = "<redacted>"
"""What Ray shows in place of environment variables to those it does not trust with them."""
LEAVING = "DELETING"


def document(details: Mapping[str, Any], wanted: Sequence[Wanted], platform: RayPlatform) -> dict[str, Any]:
    """The body of the PUT after which exactly `wanted` of ours runs, and what others declared is as it was.

    `details` is what Ray says now. Applications that were made by `serve.run` are not declared in any list, and Ray
    leaves them alone. Raises FailedError `ray_applications_hidden` when others' cannot be carried over in full.
    """
    applications = details.get("applications") or {}
    body: dict[str, Any] = {
        "proxy_location": details.get("proxy_location") or "HeadOnly",
        "http_options": _http_options(details, platform),
        "applications": [
            *_foreign(applications, platform.owner),
            *(_told(one, applications.get(one.app), platform) for one in wanted),
        ],
    }
    if details.get("target_capacity") is not None:
        body["target_capacity"] = details["target_capacity"]
    return body


def is_settled(details: Mapping[str, Any], wanted: Sequence[Wanted], platform: RayPlatform) -> bool:
    """Whether Ray was told exactly this already."""
    applications = details.get("applications") or {}
    told = {
        name: digest_of(application.get("deployed_app_config") or {})
        for name, application in applications.items()
        if is_ours(name, application, platform.owner) and application.get("status") != LEAVING
    }
    return told == {one.app: digest_of(render(one, platform), one.spec.build()) for one in wanted}


def under_construction(details: Mapping[str, Any], wanted: Sequence[Wanted], platform: RayPlatform) -> list[str]:
    """Applications that Ray is building, and that stay: the next list makes it begin with them once more."""
    asked = {one.app for one in wanted}
    applications = details.get("applications") or {}
    building = {
        name: one
        for name, one in applications.items()
        if one.get("status") == "DEPLOYING" and not one.get("deployments")
    }
    return [name for name, one in building.items() if name in asked or not is_ours(name, one, platform.owner)]


def is_ours(name: str, application: Mapping[str, Any], owner: str) -> bool:
    """Whether this control plane made it."""
    config = application.get("deployed_app_config") or {}
    return (config.get("route_prefix") or application.get("route_prefix")) == route_of(name, owner)


def _told(wanted: Wanted, live: Mapping[str, Any] | None, platform: RayPlatform) -> dict[str, Any]:
    config = (live or {}).get("deployed_app_config")
    if live is None or live.get("status") == LEAVING or not config or not is_ours(wanted.app, live, platform.owner):
        return render(wanted, platform)
    _refuse_hidden(wanted.app, config)
    return rescaled(config, wanted, platform)


def _foreign(applications: Mapping[str, Any], owner: str) -> Iterator[Mapping[str, Any]]:
    for name, application in applications.items():
        # One that is being deleted would be brought back.
        if is_ours(name, application, owner) or application.get("status") == LEAVING:
            continue
        if str(application.get("source", "declarative")).lower() == "imperative":
            continue
        config = application.get("deployed_app_config")
        if not config:
            raise _hidden(name, "has no configuration to carry over")
        _refuse_hidden(name, config)
        yield config


def _refuse_hidden(name: str, config: Mapping[str, Any]) -> None:
    if _holds_redacted(config):
        raise _hidden(name, "is shown without its environment variables")


def _holds_redacted(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_redacted(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_redacted(one) for one in value)
    return isinstance(value, str) and value == REDACTED


def _hidden(name: str, what: str) -> FailedError:
    return FailedError(
        f"Ray's application {name!r} {what}: giving Ray its list of applications anew would change it",
        code="ray_applications_hidden",
        hint="give the control plane a Ray cluster of its own, or deploy that application with serve.run",
    )


def _http_options(details: Mapping[str, Any], platform: RayPlatform) -> dict[str, Any]:
    """Ray heeds them when Serve starts; later ones must be the same."""
    running = details.get("http_options")
    if running:
        return {name: running[name] for name in ("host", "port", "root_path") if name in running}
    return {"host": platform.proxy_host, "port": platform.proxy_port}
