"""A stand-in for a DGX Cloud Lepton workspace: its REST API in both families, with real services as endpoints.

No Lepton workspace can be had on a test machine. The official SDK is what talks to this one, so paths, bodies and
errors are the SDK's own contract; what the SDK does not show (the status of a replica in the newer family, the words of
events) is written as its comments tell it, and is no evidence about a real workspace.

- `/deployments` (older family) or `/endpoints` (newer), as `features.enable_new_deployment_api` of `/workspace` says;
- each replica is a process: the container's command, run by /bin/sh in namespaces of its own, with the container's
  variables, secrets of the workspace put in, and MOORAGE_HOST and MOORAGE_PORT, since there is no container to hold the
  port 8080; it is started again some time after it ended, as the kubelet does;
- the external endpoint is a proxy that wants the endpoint's key, as Lepton's ingress does; its address is told once the
  replicas run; a log goes on while its replica runs;
- `faults`, `no_room`, `pull_failure`, `refuse_labels`: what can go wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.real.parts.absence import PartMissing
from tests.real.parts.lepton_bodies import (
    WORKSPACE,
    Endpoint,
    Fault,
    component_of,
    events_of,
    issue_of,
    replica_body,
    replicas_of,
    shape,
    workspace_info,
)
from tests.real.parts.lepton_replicas import LOOK_S, UNSHARE, Door, Replica, Spawner

TOKEN = "tok-ci-workspace"
SHAPES = {"cpu.small": 0, "gpu.h100-sxm": 1, "gpu.8xh100-sxm": 8}
NODE_GROUPS = {"ng-1234": "pool-a", "ng-5678": "pool-b"}
RESTART_S = 300.0
"""As long as a kubelet waits at most: within a test, a container that ended stays ended."""


class LeptonServer:
    """One workspace at `url`. Tests set its attributes and look at `requests`."""

    def __init__(
        self, folder: Path, *, new_family: bool, open_door: bool = False, restart_s: float = RESTART_S
    ) -> None:
        self.folder, self.new_family, self.open_door, self.restart_s = folder, new_family, open_door, restart_s
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, Any]] = []
        """Method, path with query, body."""
        self.endpoints: dict[str, Endpoint] = {}
        self.secrets: dict[str, str] = {"someone-elses": "not ours"}
        self.programs = os.environ["PATH"]
        """PATH of containers."""
        self.refuse_labels = False
        self.no_room: dict[str, Any] | None = None
        """What new endpoints are told instead of getting replicas; None: they get them."""
        self.odd = False
        """Tell endpoints in a shape that the SDK cannot read."""
        self.delete_s = 0.0
        """How long an endpoint stays in Deleting."""
        self.start_s = 0.0
        """How long an endpoint is Starting, and has no address."""
        self.lock = threading.RLock()
        self.spawner = Spawner()
        self._http = _Http(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def path(self) -> str:
        return "/endpoints" if self.new_family else "/deployments"

    def environ(self) -> dict[str, str]:
        """What a user of this workspace has set."""
        return {"LEPTON_WORKSPACE_ID": WORKSPACE, "LEPTON_AUTH_TOKEN": TOKEN, "LEPTON_WORKSPACE_URL": self.url}

    def fail(self, method: str, path: str, kind: str, **more: Any) -> Fault:
        """Add a fault; take it away with `mend`."""
        fault = Fault(method, path, kind, **more)
        self.faults.append(fault)
        return fault

    def mend(self) -> None:
        """No more faults; requests that wait go on."""
        faults, self.faults = self.faults, []
        for fault in faults:
            fault.over.set()

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=[LOOK_S], daemon=True).start()

    def cut(self) -> None:
        """Nothing listens any more, and what was connected is not; what runs goes on."""
        self._http.shutdown()
        self._http.server_close()
        for connection in self._http.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Listen again, at the same address."""
        self._http = _Http(self, port=int(self.url.rpartition(":")[2]))
        self.start()

    def close(self) -> None:
        self.mend()
        with suppress(OSError):
            self.cut()
        for endpoint in list(self.endpoints.values()):
            self.end(endpoint)
        self.spawner.close()

    def end(self, endpoint: Endpoint) -> None:
        """Take an endpoint away with all that runs for it."""
        for replica in endpoint.replicas:
            replica.end()
        endpoint.door.close()
        with self.lock:
            self.endpoints.pop(endpoint.name, None)

    def ours(self) -> dict[str, Any]:
        """What is left in the workspace of what tests made: endpoints and secrets."""
        return {"endpoints": sorted(self.endpoints), "secrets": sorted(set(self.secrets) - {"someone-elses"})}

    def create(self, name: str, spec: dict[str, Any], labels: dict[str, str], posted: dict[str, Any]) -> Endpoint:
        """Start the endpoint's replicas. `spec`: one component, or the older family's fields in its shape."""
        keys = [token["value"] for token in posted.get("api_tokens") or []]
        door = Door(keys, open_door=self.open_door)
        endpoint = Endpoint(
            name=name,
            image=spec["image"],
            command=spec["command"],
            envs=spec.get("envs") or [],
            count=spec["min_replicas"],
            keys=keys,
            spec=posted,
            labels=labels,
            replicas=[],
            door=door,
            trouble=dict(self.no_room or {}),
        )
        if not endpoint.trouble:
            environ = {"PATH": self.programs} | {env["name"]: self._value(env) for env in endpoint.envs}
            for index in range(endpoint.count):
                log = self.folder / f"{name}-{index}-{time.monotonic_ns()}.log"
                replica = Replica(f"{name}-r{index}", endpoint.command, environ, log, self.spawner, self.restart_s)
                endpoint.replicas.append(replica)
            door.replicas = endpoint.replicas
        self.endpoints[name] = endpoint
        return endpoint

    def delete(self, endpoint: Endpoint) -> None:
        endpoint.deleting = True
        worker = threading.Timer(self.delete_s, self.end, [endpoint])
        worker.start()
        if not self.delete_s:
            worker.join()

    def _value(self, env: Mapping[str, Any]) -> str:
        reference = (env.get("value_from") or {}).get("secret_name_ref")
        return self.secrets[reference] if reference else str(env.get("value") or "")

    def state_of(self, endpoint: Endpoint) -> tuple[str, str]:
        """(state, phase), as the older family tells them."""
        if endpoint.deleting:
            return "Deleting", "Deleting"
        if endpoint.forced:
            return endpoint.forced
        if endpoint.trouble or time.time() - endpoint.created_s < self.start_s:
            return "Starting", "Starting"
        ready = all(replica.is_running() for replica in endpoint.replicas)
        return ("Ready", "Ready") if ready else ("Not Ready", "Not Ready")


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, lepton: LeptonServer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lepton = lepton
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address


class _Handler(BaseHTTPRequestHandler):
    """One request of the SDK."""

    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        lepton = self.server.lepton
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        path = self.path.partition("?")[0]
        lepton.requests.append((self.command, self.path, body))
        fault = self._fault(path)
        self._met = fault
        kind = fault.kind if fault else None
        if fault and kind != "wait-after":
            fault.met.set()
        if fault and kind == "wait":
            fault.over.wait(fault.seconds)
        if kind == "cut":
            self.close_connection = True
        elif fault and kind == "status":
            self._send(fault.status, {"code": "Fault", "message": fault.words})
        elif fault and kind == "text":
            self._send_bytes(200, fault.words.encode(), "text/html")
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"code": "Unauthorized", "message": "bad token"})
        else:
            self._route(path, body)
        if fault:
            fault.done.set()

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle
    _met: Fault | None = None

    def log_message(self, format: str, *args: object) -> None:
        return

    def _fault(self, path: str) -> Fault | None:
        for fault in self.server.lepton.faults:
            if fault.times > 0 and fault.method == self.command and re.fullmatch(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def _route(self, path: str, body: Any) -> None:
        lepton = self.server.lepton
        match (self.command, path):
            case ("GET", "/workspace"):
                self._send(200, workspace_info(new_family=lepton.new_family))
            case ("GET", "/shapes"):
                self._send(200, [shape(name, count) for name, count in SHAPES.items()])
            case ("GET", "/dedicated-node-groups"):
                groups = [{"metadata": {"id": one, "name": name}} for one, name in NODE_GROUPS.items()]
                self._send(200, [group | {"spec": {}, "status": {}} for group in groups])
            case ("GET", lepton.path):
                with lepton.lock:
                    self._send(200, [self._shown(one) for one in lepton.endpoints.values()])
            case ("POST", lepton.path):
                self._create(body)
            case (_, _) if path.startswith("/usersecrets"):
                self._secrets(path, body)
            case (_, _) if path.startswith(f"{lepton.path}/"):
                self._endpoint(path)
            case _:
                self._send(404, {"code": "NotFound", "message": path})

    def _secrets(self, path: str, body: Any) -> None:
        secrets = self.server.lepton.secrets
        name = path.rpartition("/")[2]
        if self.command == "GET":
            self._send(200, [{"name": one} for one in secrets])
        elif self.command == "POST" and any(one["name"] in secrets for one in body):
            self._send(409, {"code": "Conflict", "message": f"secret exists: {json.dumps(body)}"})
        elif self.command == "POST":
            secrets.update({one["name"]: one["value"] for one in body})
            self._send(200, {})
        elif secrets.pop(name, None) is None:
            self._send(404, {"code": "NotFound", "message": name})
        else:
            self._send(200, {})

    def _create(self, body: dict[str, Any]) -> None:
        lepton = self.server.lepton
        spec = body["spec"]["components"][0] if lepton.new_family else component_of(body["spec"])
        name, labels = body["metadata"]["name"], body["metadata"].get("labels") or {}
        references = [(env.get("value_from") or {}).get("secret_name_ref") for env in spec.get("envs") or []]
        missing = [one for one in references if one and one not in lepton.secrets]
        with lepton.lock:
            if labels and lepton.refuse_labels:
                self._send(400, {"code": "InvalidRequest", "message": "metadata.labels is not allowed"})
            elif not re.fullmatch(r"[a-z]([a-z0-9-]{0,34}[a-z0-9])?", name):
                self._send(400, {"code": "InvalidRequest", "message": f"bad name {name}"})
            elif name in lepton.endpoints:
                self._send(409, {"code": "Conflict", "message": f"{name} already exists"})
            elif missing:
                self._send(400, {"code": "InvalidRequest", "message": f"secret {missing[0]} not found"})
            elif spec["resource_shape"] not in SHAPES:
                self._send(400, {"code": "InvalidRequest", "message": f"no shape {spec['resource_shape']}"})
            else:
                self._send(201, self._shown(lepton.create(name, spec, labels, body["spec"])))

    def _endpoint(self, path: str) -> None:
        lepton = self.server.lepton
        name, _, rest = path.removeprefix(f"{lepton.path}/").partition("/")
        endpoint = lepton.endpoints.get(name)
        parts = rest.split("/")
        if endpoint is None:
            self._send(404, {"code": "NotFound", "message": f"{name} not found"})
        elif self.command == "DELETE":
            lepton.delete(endpoint)
            self._send(200, {})
        elif rest == "":
            self._send(200, self._shown(endpoint))
        elif rest == "replicas":
            self._send(200, [replica_body(one, full=lepton.new_family) for one in replicas_of(endpoint)])
        elif rest == "events":
            self._send(200, events_of(endpoint))
        elif rest == "readiness" and not lepton.new_family:
            self._send(200, {one["id"]: [issue_of(one)] for one in replicas_of(endpoint)})
        elif rest == "termination" and not lepton.new_family:
            self._send(200, {one["id"]: one["ends"] for one in replicas_of(endpoint) if one["ends"]})
        elif parts[0] == "replicas" and parts[-1] == "log" and len(parts) == 3:
            self._log(endpoint, parts[1])
        else:
            self._send(404, {"code": "NotFound", "message": path})

    def _log(self, endpoint: Endpoint, name: str) -> None:
        replica = next((one for one in endpoint.replicas if one.name == name), None)
        if replica is None:
            self._send(404, {"code": "NotFound", "message": name})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            for piece in replica.output():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def _shown(self, endpoint: Endpoint) -> dict[str, Any]:
        lepton = self.server.lepton
        if lepton.odd:
            odd = {"state": 7, "endpoint": []}
            return {"metadata": {"name": endpoint.name}, "spec": {"components": [7]}, "status": odd}
        state, phase = lepton.state_of(endpoint)
        running = [one for one in endpoint.replicas if one.is_running()]
        url = endpoint.door.url if state != "Starting" else ""
        spec = endpoint.spec | {"api_tokens": [{"value": "***"} for _ in endpoint.keys]}
        created_ms = round(endpoint.created_s * 1000)
        if lepton.new_family:
            status = {"state": phase.replace(" ", ""), "external_url": url, "ready_replicas": len(running)}
            return {"metadata": {"name": endpoint.name, "created_at": created_ms}, "spec": spec, "status": status}
        status = {
            "state": "Not Ready" if phase in ("Stopping", "Stopped") else state,
            "phase": phase,
            "endpoint": {"internal_endpoint": f"http://{endpoint.name}.local", "external_endpoint": url},
        }
        metadata = {"id": endpoint.name, "name": endpoint.name, "created_at": created_ms, "labels": endpoint.labels}
        return {"metadata": metadata, "spec": spec, "status": status}

    def _send(self, status: int, body: Any) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json")

    def _send_bytes(self, status: int, data: bytes, kind: str) -> None:
        if self._met and self._met.kind == "wait-after":
            self._met.met.set()
            self._met.over.wait(self._met.seconds)
        if self._met and self._met.kind == "cut-after":
            self.close_connection = True
            return
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


@contextmanager
def lepton_server(folder: Path, *, new_family: bool, open_door: bool = False, **more: Any) -> Iterator[LeptonServer]:
    """A workspace until the block ends. `open_door`: endpoints answer without their key too."""
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        raise PartMissing("the programs unshare and setpriv for the Lepton stand-in")
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise PartMissing(f"namespaces for the Lepton stand-in: {tried.stderr.strip()}")
    server = LeptonServer(folder, new_family=new_family, open_door=open_door, **more)
    server.start()
    try:
        yield server
    finally:
        server.close()
