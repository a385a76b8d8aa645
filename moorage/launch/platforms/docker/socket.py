"""The light way to a Docker engine: one raw GET on its socket, for the commands that must start at once.

Listing services asks only what runs, and importing an SDK for that would cost more than the answer. Plain sockets and
plain TCP are spoken here; an engine behind SSH or TLS needs `docker_engine`.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_URL = "unix:///var/run/docker.sock"
DEFAULT_TCP_PORT = 2375
MOST_NAMES = 4
"""The engine compares every name with every container as a pattern; for more names the whole list comes sooner."""
RECEIVE_BYTES = 1 << 18


class Endpoint:
    """Where an engine listens."""

    __slots__ = ("tls_folder", "tls_verify", "url")

    def __init__(self, url: str, *, tls_folder: str | None = None, tls_verify: bool = True) -> None:
        self.url = url
        """As Docker writes it: `unix:///path`, `tcp://host:port`, `ssh://user@host`."""
        self.tls_folder = tls_folder
        """The folder with ca.pem, cert.pem and key.pem; None: no TLS."""
        self.tls_verify = tls_verify

    @property
    def is_light(self) -> bool:
        """Whether this module can talk to it."""
        return self.tls_folder is None and self.url.partition("://")[0] in ("unix", "tcp", "http")

    @property
    def is_local(self) -> bool:
        """Whether the engine is reached through a socket of this machine."""
        return self.url.startswith("unix://")


class Response:
    """One HTTP answer."""

    __slots__ = ("body", "status")

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


def resolve_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """The engine that the docker command would use: DOCKER_HOST, then the chosen context, then the default socket.

    Raises PreflightError when a context is chosen that does not exist.
    """
    host = environ.get("DOCKER_HOST")
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    if host:
        return _host_endpoint(host, folder, environ)
    context = environ.get("DOCKER_CONTEXT") or _current_context(folder)
    if not context or context == "default":
        return Endpoint(DEFAULT_URL)
    return _context_endpoint(folder, context)


def list_containers(
    endpoint: Endpoint, *, names: Sequence[str] = (), label: str | None = None, timeout_s: float
) -> list[dict[str, Any]]:
    """Containers, also stopped ones, in one request: at least those named by `names`, or those with the label.

    Others come along, since Docker matches names loosely: the caller compares them. Raises PlatformUnreachable.
    """
    filters = {"label": [label]} if label else {"name": list(names)} if len(names) <= MOST_NAMES else {}
    path = f"/containers/json?all=1&filters={_quoted(json.dumps(filters))}"
    found = _expect_json(endpoint, path, timeout_s)
    if not isinstance(found, list):
        raise PlatformUnreachable(f"{endpoint.url} does not answer as a Docker engine does")
    return found


def inspect(endpoint: Endpoint, name: str, *, timeout_s: float) -> dict[str, Any] | None:
    """One container in full; None when there is none. Raises PlatformUnreachable."""
    found = _expect_json(endpoint, f"/containers/{_quoted(name)}/json", timeout_s)
    return found if isinstance(found, dict) else None


def get_object(endpoint: Endpoint, path: str, *, timeout_s: float) -> dict[str, Any]:
    """A JSON object, such as `/version` or `/info`; empty when there is none. Raises PlatformUnreachable."""
    found = _expect_json(endpoint, path, timeout_s)
    return found if isinstance(found, dict) else {}


def parse_response(raw: bytes, *, ended: bool) -> Response | None:
    """Read one HTTP/1.1 answer; None when more bytes are needed, which they are not once the peer has `ended`.

    Raises ValueError for what is no HTTP answer, and when it ended too early.
    """
    head, gap, rest = raw.partition(b"\r\n\r\n")
    if not gap:
        if ended:
            raise ValueError("the answer was cut short")
        return None
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    version, _, status = status_line.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("the answer is not HTTP")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in header_lines)}
    body = _body(rest, headers, ended=ended)
    if body is None and ended:
        raise ValueError("the answer was cut short")
    return None if body is None else Response(int(status[:3]), body)


def _body(rest: bytes, headers: Mapping[str, str], *, ended: bool) -> bytes | None:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _unchunk(rest)
    if "content-length" in headers:
        length = int(headers["content-length"])
        return rest[:length] if len(rest) >= length else None
    return rest if ended else None


def _unchunk(rest: bytes) -> bytes | None:
    """Join the chunks; None when the last one (of length zero) has not come yet."""
    parts: list[bytes] = []
    start = 0
    while (end := rest.find(b"\r\n", start)) >= 0:
        size = int(rest[start:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        start = end + 2
        if len(rest) < start + size + 2:
            return None
        parts.append(rest[start : start + size])
        start += size + 2
    return None


def _expect_json(endpoint: Endpoint, path: str, timeout_s: float) -> Any:
    """The value of a 200; None for a 404."""
    try:
        response = _get(endpoint, path, timeout_s)
        value = json.loads(response.body)
    except (OSError, ValueError) as fault:
        raise _unreachable(endpoint, fault) from fault
    if response.status == 200:
        return value
    if response.status == 404:
        return None
    said = value.get("message") if isinstance(value, dict) else None
    raise PlatformUnreachable(f"the Docker engine at {endpoint.url} answered {response.status}: {said}")


def _get(endpoint: Endpoint, path: str, timeout_s: float) -> Response:
    """Send one request and read its answer, all within the timeout. Raises OSError and ValueError."""
    deadline = time.monotonic() + timeout_s
    with _connect(endpoint, timeout_s) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: moorage\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("ascii"))
        raw = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no full answer within {timeout_s:g} s")
            connection.settimeout(left)
            try:
                piece = connection.recv(RECEIVE_BYTES)
            except TimeoutError as fault:
                raise TimeoutError(f"no full answer within {timeout_s:g} s") from fault
            raw += piece
            response = parse_response(bytes(raw), ended=not piece)
            if response is not None:
                return response


def _connect(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    scheme, _, place = endpoint.url.partition("://")
    if scheme != "unix":
        host, _, port = place.rstrip("/").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def _full_url(host: str) -> str:
    """DOCKER_HOST may leave out the scheme (TCP is meant), the port, and the path of the default socket."""
    scheme, gap, place = host.partition("://")
    if not gap:
        scheme, place = "tcp", host
    if scheme == "unix":
        return f"unix://{place}" if place else DEFAULT_URL
    if scheme not in ("tcp", "http"):
        return host
    address = place.rstrip("/")
    has_port = ":" in address.rpartition("]")[2]
    return f"tcp://{address}" if has_port else f"tcp://{address}:{DEFAULT_TCP_PORT}"


def _host_endpoint(host: str, config_folder: str, environ: Mapping[str, str]) -> Endpoint:
    url = _full_url(host)
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    folder = environ.get("DOCKER_CERT_PATH") or (config_folder if verify else None)
    uses_tls = folder is not None and not url.startswith(("unix://", "ssh://"))
    return Endpoint(url, tls_folder=folder if uses_tls else None, tls_verify=verify)


def _current_context(folder: str) -> str | None:
    """The context that `docker context use` chose; a missing or broken file chooses none."""
    try:
        config = _read_json(f"{folder}/config.json")
    except (OSError, ValueError):
        return None
    context = config.get("currentContext") if isinstance(config, dict) else None
    return context if isinstance(context, str) else None


def _context_endpoint(folder: str, context: str) -> Endpoint:
    import hashlib

    digest = hashlib.sha256(context.encode()).hexdigest()
    try:
        docker = _read_json(f"{folder}/contexts/meta/{digest}/meta.json")["Endpoints"]["docker"]
        url = _full_url(docker["Host"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise PreflightError(
            f"the Docker context {context!r} cannot be read",
            code="bad_docker_context",
            hint="docker context ls shows the contexts; docker context use default goes back to this machine's engine",
        ) from fault
    tls = f"{folder}/contexts/tls/{digest}/docker"
    uses_tls = url.startswith("tcp://") and os.access(tls, os.F_OK)
    return Endpoint(url, tls_folder=tls if uses_tls else None, tls_verify=not docker.get("SkipTLSVerify", False))


def _read_json(path: str) -> Any:
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
        return json.load(file)


def _quoted(text: str) -> str:
    """Percent-encode; urllib's own would cost more than the whole request."""
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}" for byte in text.encode())


def _unreachable(endpoint: Endpoint, fault: BaseException) -> MoorageError:
    from moorage.launch.platforms.docker.faults import unreachable

    return unreachable(endpoint.url, fault)
