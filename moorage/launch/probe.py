"""Asking a service whether it is ready: one round of short requests, judged by `launch.readiness`.

Proxy settings and redirects are never followed, and the address must be one that an entry may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from moorage.errors import ConflictError
from moorage.launch.platforms import NEAR_PLATFORMS
from moorage.launch.readiness import NO_ADDRESS, Answer, Contract, Verdict, judge

if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog

Fetch = Callable[[str, float], Answer | None]
"""(url, timeout in seconds) → answer; None when nothing answered."""

MAX_BODY_BYTES = 1 << 20
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def base_url(entry: Mapping[str, Any]) -> str:
    """The entry's `host_url`, checked. Raises ConflictError when it is none that we would have written.

    A request goes where the state file says, so a changed file must not be able to send prompts elsewhere: only
    http(s) with a host and nothing more, and only loopback for services of this machine.
    """
    url = entry.get("host_url")
    parts = _split(url) if isinstance(url, str) else None
    bare = parts is not None and not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
    if not bare or parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConflictError(f"the service {entry.get('job_id')} has no usable host_url: {url!r}", code="bad_host_url")
    if (entry.get("platform") in NEAR_PLATFORMS or entry.get("tunnel")) and parts.hostname not in LOOPBACK_HOSTS:
        raise ConflictError(
            f"the service {entry.get('job_id')} is reached on this machine, but its host_url is {url!r}",
            code="bad_host_url",
            hint="the state file was changed: moor recover reads the address from the platform",
            next=["moor recover"],
        )
    return f"{parts.scheme}://{parts.netloc}"


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # an unfinished IPv6 address, and the like
        return None


def contract_of(entry: Mapping[str, Any], catalog: Catalog) -> Contract:
    """How this service tells that it is ready; an arch that the catalog lacks is asked as the TAO servers are."""
    command = catalog.service.container_commands.get(str(entry.get("network_arch")))
    family = command.family if command else "tao"
    readiness = catalog.service.readiness
    name = entry.get("served_model_name")
    return Contract(
        family=family,
        paths=readiness.contracts[family].paths,
        fatal_reasons=frozenset(readiness.fatal_reasons),
        job_id=str(entry["job_id"]),
        served_model_name=name if isinstance(name, str) else None,
    )


def probe(entry: Mapping[str, Any], contract: Contract, *, fetch: Fetch, timeout_s: float) -> Verdict:
    """Ask the readiness paths in turn until one settles it. Raises ConflictError for an unusable address."""
    if not entry.get("host_url") and entry.get("platform") not in NEAR_PLATFORMS:
        return Verdict("waiting", NO_ADDRESS)
    url = base_url(entry)
    for index, path in enumerate(contract.paths):
        verdict = judge(contract, index, fetch(url + path, timeout_s))
        if verdict.reason == "HTTP 401" and entry.get("token_env"):
            return Verdict("waiting", f"it refuses the key in {entry['token_env']}")
        if verdict.state != "next":
            return verdict
    return Verdict("waiting", "no readiness route")


def access_headers(entry: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """What the service wants in every request: its key, if it has one. Raises PreflightError when that is missing."""
    if not entry.get("token_env"):
        return {}
    from moorage.launch.service_key import auth_headers

    return auth_headers(entry, environ)


def fetcher(entry: Mapping[str, Any], environ: Mapping[str, str]) -> Fetch:
    """`fetch_http` with what this service wants in every request."""
    headers = access_headers(entry, environ)
    return lambda url, timeout_s: fetch_http(url, timeout_s, headers)


def fetch_http(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> Answer | None:
    """GET without proxies or redirects; whatever goes wrong on the way is None, since a probe is asked again."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.get(
                url, timeout=timeout_s, headers=dict(headers or {}), allow_redirects=False, stream=True
            ) as reply:
                body = bytearray()
                for chunk in reply.iter_content(1 << 16):
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        break
                return Answer(reply.status_code, bytes(body))
        except (requests.RequestException, OSError, ValueError):
            return None
