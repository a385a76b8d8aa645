"""Asking a cluster. The only file that imports `kubernetes`.

The package reads the kubeconfig (certificates, tokens, programs that log in) and makes the connection; requests are
plain paths and JSON over that connection. The package's typed calls differ between its releases, and some refuse what
an older or newer server answers.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from moorage.errors import MoorageError, NotFoundError, PlatformUnreachable, PreflightError, TryAgainError
from moorage.extras import install_command
from moorage.launch.platforms.kubernetes import faults

Json = dict[str, Any]

CONNECT_S = 5.0
ANSWER_S = 20.0
MERGE_PATCH = "application/merge-patch+json"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""There when this runs in a pod."""
IN_CLUSTER = "in-cluster"
"""The name of the context then."""

CORE = "/api/v1"
APPS = "/apis/apps/v1"
BATCH = "/apis/batch/v1"
GROUPS = {"deployments": APPS, "replicasets": APPS, "jobs": BATCH}
"""Of kinds that are not in the core group."""


class Answer(NamedTuple):
    """What a cluster answered."""

    body: Json
    date: str
    """The server's clock, as an HTTP date; "" when it told none."""


class Cluster:
    """One cluster, as one context of the kubeconfig reaches it. Usable from several threads.

    `timeout_s`: how long one answer may take. Requests raise NotFoundError, PreflightError, ConflictError, UsageError,
    FailedError as `faults` says, and PlatformUnreachable when the cluster does not answer.
    """

    def __init__(self, configuration: Any, context: str, *, timeout_s: float) -> None:
        from kubernetes import client

        self.context = context
        self.host = str(configuration.host)
        self._configuration = configuration
        self._timeout_s = timeout_s
        self._api = client.ApiClient(configuration)
        self._pool = self._api.rest_client.pool_manager
        self._pool.connection_pool_kw["socket_options"] = _keepalive()

    def get(self, path: str, **query: Any) -> Answer:
        return self._json("GET", path, query)

    def create(self, path: str, body: Json) -> Json:
        return self._json("POST", path, {}, body).body

    def patch(self, path: str, body: Json) -> Json:
        """A merge patch."""
        return self._json("PATCH", path, {}, body, kind=MERGE_PATCH).body

    def delete(self, path: str, *, propagation: str) -> bool:
        """False when it was not there. `propagation`: Foreground, Background."""
        try:
            self._json("DELETE", path, {}, {"propagationPolicy": propagation})
        except NotFoundError:
            return False
        return True

    def items(self, namespace: str | None, kind: str, **query: Any) -> list[Json]:
        """Objects of a kind; in every namespace with None."""
        items: list[Json] = self.get(path_of(namespace, kind), **query).body.get("items") or []
        return items

    def stream(self, path: str, *, follow: bool, **query: Any) -> Iterator[bytes]:
        """Pieces of a text as they come. With `follow` there is no limit to how long it is silent."""
        reply = self._send("GET", path, {**query, "follow": str(follow).lower()}, endless=follow)
        try:
            if reply.status >= 300:
                raise self._refusal(reply.status, reply.read(), "GET", path)
            while piece := reply.read1() if hasattr(reply, "read1") else reply.read(1 << 16):
                yield piece
        except _http_faults() as fault:
            raise faults.unreachable(self.host, fault) from fault
        finally:
            _drop(reply)

    def forward(self, namespace: str, pod: str, port: int) -> Any:
        """A connection to a port of a pod: the package's PortForward. Raises TryAgainError."""
        import websocket
        from kubernetes import client
        from kubernetes.stream import portforward

        websocket.setdefaulttimeout(self._timeout_s)  # the package sets none: a cut link would hang for ever
        # The package changes the client for the time of the call, so each call gets its own.
        core = client.CoreV1Api(client.ApiClient(self._configuration))
        try:
            return portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except (client.ApiException, OSError) as fault:
            words = getattr(fault, "reason", None) or fault
            raise TryAgainError(f"no way to port {port} of pod {pod}: {words}", code="port_closed") from fault

    def close(self) -> None:
        with suppress(Exception):
            self._pool.clear()

    def _json(self, method: str, path: str, query: Mapping[str, Any], body: Any = None, kind: str = "") -> Answer:
        reply = self._send(method, path, query, body, kind)
        try:
            content = reply.read()
        except _http_faults() as fault:
            raise faults.unreachable(self.host, fault) from fault
        finally:
            reply.release_conn()
        if reply.status >= 300:
            raise self._refusal(reply.status, content, method, path)
        try:
            found = json.loads(content)
        except ValueError:
            raise faults.unreachable(self.host, ValueError("what answers there is no cluster")) from None
        return Answer(found, str(reply.headers.get("Date") or ""))

    def _send(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, kind: str = "", endless: bool = False
    ) -> Any:
        import urllib3

        given = {name: value for name, value in query.items() if value is not None}
        url = f"{self.host}{path}" + (f"?{urlencode(given)}" if given else "")
        timeout = urllib3.Timeout(connect=min(CONNECT_S, self._timeout_s), read=None if endless else self._timeout_s)
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "*/*" if path.endswith("/log") else "application/json", **self._login()}
        headers |= {"Content-Type": kind or "application/json"} if content is not None else {}
        try:
            return self._pool.request(
                method, url, body=content, headers=headers, timeout=timeout, retries=False, preload_content=False
            )
        except _http_faults() as fault:
            raise faults.unreachable(self.host, fault) from fault

    def _login(self) -> dict[str, str]:
        """Asked for each request: tokens are renewed meanwhile."""
        settings = self._configuration.auth_settings().values()
        return {item["key"]: item["value"] for item in settings if item["in"] == "header" and item["value"]}

    def _refusal(self, status: int, body: bytes, method: str, path: str) -> MoorageError:
        return faults.refusal(status, body, what=f"{method} {path.partition('?')[0]}", context=self.context)


def open_cluster(environ: Mapping[str, str], context: str | None, *, timeout_s: float = ANSWER_S) -> Cluster:
    """The cluster of a context, or of the current one; nothing is asked yet. Raises PreflightError."""
    try:
        import yaml
        from kubernetes import client, config
    except ImportError as fault:
        raise PreflightError(
            "the Python package kubernetes is not installed",
            code="kubernetes_package_missing",
            hint="the extra moorage[kubernetes] has it",
            next=[install_command("kubernetes")],
        ) from fault
    configuration = client.Configuration()
    place = kubeconfig_of(environ)
    reader: Any = config  # without types in the package
    try:
        if place is None:
            reader.load_incluster_config(client_configuration=configuration)
            return Cluster(configuration, IN_CLUSTER, timeout_s=timeout_s)
        contexts, current = reader.list_kube_config_contexts(config_file=place)
        name = context or (current or {}).get("name")
        known = [str(item["name"]) for item in contexts or []]
        if name not in known:
            raise faults.no_context(str(name or ""), known, place)
        reader.load_kube_config(config_file=place, context=name, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as fault:
        raise faults.not_configured(f"{place or 'the account of this pod'}: {fault}") from fault
    return Cluster(configuration, str(name), timeout_s=timeout_s)


def kubeconfig_of(environ: Mapping[str, str]) -> str | None:
    """Its path, or several with colons between; None in a pod that has none. Raises PreflightError `not_configured`."""
    given = environ.get("KUBECONFIG", "")
    places = [place for place in given.split(os.pathsep) if place]
    if not places:
        places = [str(Path(environ.get("HOME", "/"), ".kube", "config"))]
    found = [place for place in places if Path(place).is_file()]
    if found:
        return os.pathsep.join(found)
    if environ.get("KUBERNETES_SERVICE_HOST") and not given and ACCOUNT.is_dir():
        return None
    raise faults.not_configured(f"{places[0]} is not there")


def path_of(namespace: str | None, kind: str, name: str = "", part: str = "") -> str:
    """The path of a kind's objects, of one of them, or of a part of it (`log`, `status`)."""
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    rest = "".join(f"/{quote(word, safe='')}" for word in (name, part) if word)
    return f"{GROUPS.get(kind, CORE)}{place}/{kind}{rest}"


def is_gone(fault: MoorageError) -> bool:
    """Whether a request failed for want of its object, and not of the cluster."""
    return isinstance(fault, NotFoundError) or (
        not isinstance(fault, PlatformUnreachable) and fault.code == "namespace_missing"
    )


def _keepalive() -> list[tuple[int, int, int]]:
    """A followed log is silent for long; a link that was cut must show all the same."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def _http_faults() -> tuple[type[BaseException], ...]:
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)


def _drop(reply: Any) -> None:
    """Close the connection too: the rest of a log is not wanted."""
    with suppress(Exception):
        reply.close()
    with suppress(Exception):
        reply.release_conn()
