"""A Docker engine through its API: the one file that imports the `docker` package, and only when it is needed.

Every fault of the engine or the way to it comes out as an error of `moorage.errors`. Used by every platform whose
services are containers, on this machine or another.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.errors import ConflictError, MoorageError, PlatformUnreachable, PreflightError, TryAgainError
from moorage.extras import install_command
from moorage.launch.platforms.base import Report
from moorage.launch.platforms.docker.container import ENTRY_LABEL, PullProgress, lines_of, names_of
from moorage.launch.platforms.docker.faults import image_missing, pull_fault, run_fault, unreachable
from moorage.launch.platforms.docker.socket import Endpoint, resolve_endpoint

if TYPE_CHECKING:
    import docker

OLDEST_API = (1, 40)
"""Docker 19.03: the first with device requests, which GPUs need."""

GREETING_TIMEOUT_S = 10
CALL_TIMEOUT_S = 120
"""For one call; starting a container may wait for GPU hooks. Pulls and followed logs have no limit."""
REMOVAL_TIMEOUT_S = 60
STOP_GRACE_S = 10
OTHERS_NETWORK_S = 10.0
UNHEARD_S = 2.0

INIT_PROGRAM = "docker-init"
"""Some engines are installed without it, and then start no container that asks for an init."""

UNPUBLISHED_DRIVERS = ("host", "null")


class DockerEngine:
    """One engine: the one that `environ` chooses as the docker command would, or the one at `base_url`.

    Making one raises PreflightError when the `docker` package is missing; it connects at the first call. Methods raise
    PlatformUnreachable when the engine does not answer, besides what they say themselves.
    """

    def __init__(self, environ: Mapping[str, str], base_url: str | None = None) -> None:
        require_package("docker", "docker")
        self._endpoint = Endpoint(base_url) if base_url else resolve_endpoint(environ)
        if self._endpoint.url.startswith("ssh://"):
            require_package("paramiko", "brev")  # the docker package wants it even where it runs ssh itself
        self._client: docker.APIClient | None = None

    @property
    def url(self) -> str:
        """Where it listens, as Docker writes it."""
        return self._endpoint.url

    def version(self) -> dict[str, Any]:
        """`Version`, `ApiVersion` and more. Raises PreflightError when the engine is too old."""
        with self._asking():
            version: dict[str, Any] = self._connected().version(api_version=False)
        require_api(version)
        return version

    def info(self) -> dict[str, Any]:
        """What `docker info` shows."""
        with self._asking():
            info: dict[str, Any] = self._connected().info()
            return info

    def list_containers(self, *, names: Sequence[str] = (), label: str | None = None) -> list[dict[str, Any]]:
        """As `docker_socket.list_containers`, for engines that only the package reaches."""
        filters: dict[str, Any] = {"name": list(names)} if names else {"label": [label]} if label else {}
        with self._asking():
            found: list[dict[str, Any]] = self._connected().containers(all=True, filters=filters)
            return found

    def inspect(self, name: str) -> dict[str, Any] | None:
        """One container in full; None when there is none."""
        import docker.errors

        with self._asking():
            try:
                found: dict[str, Any] = self._connected().inspect_container(name)
            except docker.errors.NotFound:
                return None
            return found

    def has_image(self, image: str) -> bool:
        """Whether the engine holds the image."""
        import docker.errors

        with self._asking():
            try:
                self._connected().inspect_image(image)  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return False
            return True

    def ensure_image(self, image: str, *, pull: str, report: Report) -> None:
        """Make sure of the image. `pull`: `missing` (only when it is not there), `always` or `never`.

        Raises PreflightError with what to do when it is not there in the end.
        """
        present = self.has_image(image)
        if pull == "always" or (pull == "missing" and not present):
            self._pull(image, report)
        elif not present:
            raise image_missing(image)

    def has_network(self, name: str) -> bool:
        """Whether there is a network called exactly so."""
        return bool(self._networks(name))

    def ensure_network(self, name: str) -> str:
        """The id of the network called `name`, made when absent; any number of callers at once get the same one.

        Raises PreflightError for a network on which no port can be published.
        """
        networks = self._networks(name) or self._make_network(name)
        network = _first(networks)
        if network.get("Internal") or network.get("Driver") in UNPUBLISHED_DRIVERS:
            raise PreflightError(
                f"the Docker network {name} publishes no ports, so nothing could reach the service",
                code="bad_network",
                hint="set DOCKER_NETWORK to a bridge network, or unset it",
            )
        return str(network["Id"])

    def run(self, name: str, body: dict[str, Any]) -> str:
        """Create and start a container from an Engine API body; its id. When it does not start, nothing is left.

        Raises PortTaken, ConflictError when the name is in use, PreflightError (image, GPU, mount), FailedError.
        """
        try:
            container_id = self._create(name, body)
        except (PlatformUnreachable, KeyboardInterrupt):
            self._discard_by_name(name, body)  # the engine may have made it without our hearing of it
            raise
        try:
            with self._asking(f"the container {name} could not be started"):
                self._connected().start(container_id)
        except BaseException as fault:
            self._discard(container_id)
            if INIT_PROGRAM in str(fault) and body["HostConfig"].get("Init"):
                return self.run(name, body | {"HostConfig": body["HostConfig"] | {"Init": False}})
            raise
        return container_id

    def logs(self, name: str, *, tail: int | None, follow: bool) -> Iterator[str]:
        """Lines of both streams in the order written; with `follow` until it ends. Nothing when it does not exist."""
        container_id = self._id_of(name)
        if container_id is None:
            return
        with self._asking(f"the logs of {name} cannot be read"):
            stream = self._connected().logs(
                container_id, stream=True, follow=follow, tail="all" if tail is None else tail
            )
            try:
                yield from lines_of(stream)
            except struct.error:
                return  # the engine ended in the middle of a frame
            finally:
                _close(stream)

    def stop(self, name: str, *, grace_s: int = STOP_GRACE_S) -> None:
        """End the container (SIGTERM, then SIGKILL after the grace), remove it with its anonymous volumes, and return
        when it is gone. None there, or someone else removing it: success.
        """
        import docker.errors

        container_id = self._id_of(name)
        if container_id is None:
            return
        with self._asking(f"the container {name} could not be stopped"):
            try:
                self._connected().stop(container_id, timeout=grace_s)
            except docker.errors.NotFound:
                return
        self._remove(container_id, name)

    def _connected(self) -> docker.APIClient:
        if self._client is None:
            self._client = _connect(self._endpoint)
        return self._client

    def _pull(self, image: str, report: Report) -> None:
        import docker.errors

        progress = PullProgress()
        report("pull", image)
        with self._asking():
            try:
                for event in self._connected().pull(image, stream=True, decode=True):
                    if "error" in event:
                        raise pull_fault(str(event["error"]), image=image)
                    if progress.add(event):
                        report("pull", image, done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)
            except docker.errors.APIError as fault:
                raise pull_fault(str(fault.explanation or fault), image=image) from fault
        if not self.has_image(image):
            raise pull_fault("the engine reported no error, but it is not there", image=image)

    def _networks(self, name: str) -> list[dict[str, Any]]:
        """All that are called exactly so: Docker's own filter also gives names that contain it."""
        with self._asking():
            return [network for network in self._connected().networks(names=[name]) if network["Name"] == name]

    def _make_network(self, name: str) -> list[dict[str, Any]]:
        """Make it, unless somebody else is quicker, and give what is there then.

        Engines of 20.10 check names before they lock, so that two callers can make two networks of one name. They do
        check the names of bridges under the lock: a bridge named after the network lets only one caller through.
        """
        bridge = f"moor-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
        options = {"com.docker.network.bridge.name": bridge}
        try:
            with self._asking(f"the Docker network {name} could not be created"):
                self._connected().create_network(name, driver="bridge", check_duplicate=True, options=options)
        except MoorageError as fault:
            return self._others_network(name, fault)
        networks = self._networks(name)
        if not networks:
            raise TryAgainError(f"the Docker network {name} was removed as soon as it was made", code="network_gone")
        return networks

    def _others_network(self, name: str, fault: MoorageError) -> list[dict[str, Any]]:
        """The network that somebody else made meanwhile; it is listed a moment after it is in our way.

        Raises `fault` when there is none.
        """
        deadline = time.monotonic() + (OTHERS_NETWORK_S if isinstance(fault, ConflictError) else 0)
        while not (networks := self._networks(name)):
            if time.monotonic() >= deadline:
                raise fault
            time.sleep(0.05)
        return networks

    def _create(self, name: str, body: dict[str, Any]) -> str:
        import docker.errors

        with self._asking(f"the container {name} could not be created"):
            try:
                made = self._connected().create_container_from_config(body, name=name)  # type: ignore[no-untyped-call]
            except docker.errors.ImageNotFound as fault:
                raise image_missing(str(body["Image"])) from fault
            return str(made["Id"])

    def _discard(self, container_id: str) -> None:
        """Remove what a failed start left; its own failure must not hide the first one."""
        with contextlib.suppress(MoorageError):
            self._remove(container_id, container_id)

    def _discard_by_name(self, name: str, body: dict[str, Any]) -> None:
        """Remove the container of this very start, if there is one, and none that merely has its name.

        The engine may still be making it, so it is looked for until UNHEARD_S are over.
        """
        deadline = time.monotonic() + UNHEARD_S
        with contextlib.suppress(MoorageError):
            while time.monotonic() < deadline:
                for container in self.list_containers(names=[name]):
                    label = (container.get("Labels") or {}).get(ENTRY_LABEL)
                    if name in names_of(container) and label == body["Labels"].get(ENTRY_LABEL):
                        self._discard(container["Id"])
                        return
                time.sleep(0.1)

    def _remove(self, container_id: str, name: str) -> None:
        import docker.errors

        with self._asking(f"the container {name} could not be removed"):
            try:
                self._connected().remove_container(container_id, v=True, force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as fault:
                if fault.status_code != 409:
                    raise
                self._await_removal(container_id)

    def _await_removal(self, container_id: str) -> None:
        """Somebody else is removing it: wait for them."""
        import docker.errors

        with contextlib.suppress(docker.errors.NotFound):
            self._connected().wait(container_id, timeout=REMOVAL_TIMEOUT_S, condition="removed")

    def _id_of(self, name: str) -> str | None:
        """The full id of the container with exactly this name.

        The API also takes the beginning of an id for a name, so a name alone could hit somebody else's container.
        """
        for container in self.list_containers(names=[name]):
            if name in names_of(container):
                return str(container["Id"])
        return None

    @contextlib.contextmanager
    def _asking(self, what: str = "the Docker engine refused") -> Iterator[None]:
        """Turn the package's errors into ours; `what` failed."""
        import docker.errors
        import requests
        import urllib3

        try:
            yield
        except docker.errors.APIError as fault:
            raise run_fault(str(fault.explanation or fault), what=what) from fault
        except docker.errors.InvalidVersion as fault:
            raise PreflightError(str(fault), code="docker_too_old", hint="update the Docker engine") from fault
        except docker.errors.TLSParameterError as fault:
            raise PreflightError(f"Docker's TLS settings: {fault}", code="docker_tls") from fault
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as fault:
            raise unreachable(self.url, fault) from fault


def require_api(version: Mapping[str, Any]) -> None:
    """Check what an engine says of itself. Raises PreflightError when it is too old."""
    text = str(version.get("ApiVersion", ""))
    number = tuple(int(part) for part in text.split(".") if part.isdigit())
    if number < OLDEST_API:
        raise PreflightError(
            f"the Docker engine speaks API {text or 'unknown'}, Moorage needs {'.'.join(map(str, OLDEST_API))}",
            code="docker_too_old",
            hint="update Docker to 20.10 or later",
        )


def require_package(name: str, extra: str) -> None:
    """Raises PreflightError when the package cannot be imported; `extra` installs it."""
    if sys.modules.get(name) is not None or (name not in sys.modules and find_spec(name) is not None):
        return
    raise PreflightError(
        f"the Python package {name} is not installed for {sys.executable}",
        code=f"{name}_package_missing",
        hint=f"the extra moorage[{extra}] has it; in a checkout: .venv/bin/pip install -e '.[{extra}]'",
        next=[install_command(extra)],
    )


def _connect(endpoint: Endpoint) -> docker.APIClient:
    """A client that speaks the engine's own API version. Raises the package's errors, as any call does."""
    import docker

    client = docker.APIClient(
        base_url=endpoint.url,
        version="auto",
        timeout=GREETING_TIMEOUT_S,
        tls=_tls_config(endpoint) or False,
        use_ssh_client=endpoint.url.startswith("ssh://"),
    )
    client.timeout = CALL_TIMEOUT_S
    return client


def _tls_config(endpoint: Endpoint) -> docker.tls.TLSConfig | None:
    import docker.tls

    if endpoint.tls_folder is None:
        return None
    authority, certificate, key = (Path(endpoint.tls_folder, name) for name in ("ca.pem", "cert.pem", "key.pem"))
    return docker.tls.TLSConfig(
        client_cert=(str(certificate), str(key)) if certificate.exists() and key.exists() else None,
        ca_cert=str(authority) if authority.exists() else None,
        verify=endpoint.tls_verify,
    )


def _first(networks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one that every caller agrees on: the oldest, by id when they are of the same moment."""
    return min(networks, key=lambda network: (str(network.get("Created")), str(network["Id"])))


def _close(stream: Any) -> None:
    """End a followed stream; the package cannot close one that has already ended, nor one over SSH."""
    with contextlib.suppress(Exception):
        stream.close()
