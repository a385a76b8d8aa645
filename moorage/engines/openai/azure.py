"""Azure's way with OpenAI's routes: a deployment in the path, a version in the query, the key in its own header."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from moorage.engines.wire.origin import Origin

__all__ = ["DEFAULT_API_VERSION", "is_azure", "key_header", "targets_of"]

HOSTS = ("azure.com", "azure.us", "azure.cn")
DEFAULT_API_VERSION = "2024-10-21"
"""The newest that is no preview, of routes by deployment."""
DEPLOYMENTS = "/openai/deployments/"


def is_azure(host: str) -> bool:
    """By the host of a parsed URL."""
    name = host.lower().rstrip(".")
    return any(name.endswith(f".{known}") for known in HOSTS)


def key_header(host: str, key: str) -> tuple[bytes, bytes]:
    """How the key is shown: `api-key` at Azure, a bearer elsewhere."""
    return (b"api-key", key.encode()) if is_azure(host) else (b"authorization", b"Bearer " + key.encode())


def targets_of(origin: Origin, api_version: str | None, model: str | None) -> Callable[[str], str] | None:
    """From `/v1/…` to what the endpoint calls it; None: the same.

    A base URL with `/openai/deployments/NAME` has the routes right below it; a bare resource gets the deployment that
    `model` names; `/openai/v1` has them as OpenAI does. `api_version`: None means the default where one is needed.
    """
    by_deployment = DEPLOYMENTS in f"{origin.prefix}/"
    bare = is_azure(origin.host) and not origin.prefix and model
    if not by_deployment and not bare:
        return None if api_version is None else (lambda path: f"{path}?api-version={api_version}")
    below = f"{DEPLOYMENTS}{quote(str(model), safe='')}" if bare else ""
    query = f"?api-version={api_version or DEFAULT_API_VERSION}"

    def target(path: str) -> str:
        if path == "/v1/models":
            # A list of what the whole resource may serve; below a deployment there is none.
            return f"/openai/models{query}" if bare else f"/v1/models{query}"
        return f"{below}{path.removeprefix('/v1')}{query}"

    return target
