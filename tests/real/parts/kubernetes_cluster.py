"""A whole Kubernetes cluster of one node on a machine of its own: etcd, the control plane, kubelet, kube-proxy, Docker.

The programs are those of `kubernetes_build`; the node's containers are real ones, of a Docker engine in the same
namespaces. All of it ends with the test run, also when that is killed. Its only door is the machine's address, so
that cutting the link cuts the cluster off. GPUs are numbers in the node's status: scheduled, and not there.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.parts.absence import PartMissing
from tests.real.parts.docker_engine import DockerEngine
from tests.real.parts.network import NetHost, net_host

PACKAGES = ("etcd-server", "docker.io", "iptables", "socat", "conntrack", "openssl", "iproute2", "util-linux")
"""What a cluster needs besides Kubernetes' own programs, as Debian packages."""

NEEDED = ("etcd", "dockerd", "iptables", "socat", "conntrack", "openssl", "nsenter", "runc")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODE = "node1"
GPUS = 2
PORT = 6443
ADMIN = "admintoken"
START_S = 120.0
PAUSE_IMAGE = "moorage-test/pause:1"
POD_NETWORK = "172.29.0.1/16"
SERVICE_NETWORK = "192.168.240.0/24"
"""Both are seen only inside the machine."""

PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
"""A shell as first process ignores SIGTERM unless told; kubelet would wait 10 s for each pod."""

RUNC = """#!{python} -I
# A machine without CAP_SYS_RESOURCE cannot give a process a negative oom_score_adj, which pods ask for.
import json, os, sys
words = sys.argv[1:]
if "--bundle" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    if (config["process"].get("oomScoreAdj") or 0) < 0:
        config["process"]["oomScoreAdj"] = 0
        with open(path, "w") as file:
            json.dump(config, file)
os.execv({runc!r}, ["runc", *words])
"""

Json = dict[str, Any]


@dataclass(frozen=True)
class KubernetesCluster:
    """One cluster that answers, with a node that is ready."""

    host: NetHost
    engine: DockerEngine
    """The node's: images that pods use must be in it."""
    folder: Path
    """Logs of every part, and `kubeconfig`."""

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator; the context is `ci`, its namespace `default`."""
        return self.folder / "kubeconfig"

    def write_kubeconfig(self, path: Path, *, token: str = ADMIN, context: str = "ci", server: str = "") -> Path:
        """One for another user, or for a server that is somewhere else."""
        server = server or f"https://{self.host.address}:{PORT}"
        cluster = {"server": server, "certificate-authority": str(self.folder / "certs/apiserver.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> tuple[int, Json]:
        """A request of the administrator, without the package: (status, answer)."""
        context = ssl.create_default_context(cafile=str(self.folder / "certs/apiserver.crt"))
        connection = http.client.HTTPSConnection(self.host.address, PORT, timeout=30, context=context)
        try:
            headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, {"text": text}

    def get(self, path: str) -> Json:
        status, answer = self.ask("GET", path)
        assert status == 200, f"GET {path}: {status} {answer}"
        return answer

    def create(self, path: str, body: Json) -> Json:
        status, answer = self.ask("POST", path, body)
        assert status in (200, 201, 202), f"POST {path}: {status} {answer}"
        return answer

    def patch(self, path: str, body: Any, *, kind: str = "application/merge-patch+json") -> Json:
        status, answer = self.ask("PATCH", path, body, kind=kind)
        assert status == 200, f"PATCH {path}: {status} {answer}"
        return answer

    def delete(self, path: str) -> None:
        """Gone is success."""
        status, answer = self.ask("DELETE", path)
        assert status in (200, 202, 404), f"DELETE {path}: {status} {answer}"

    def set_gpus(self, count: int) -> None:
        """Let the node say that it has so many GPUs."""
        change = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(count)}]
        change += [{"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": str(count)}]
        self.patch(f"/api/v1/nodes/{NODE}/status", change, kind="application/json-patch+json")


@contextmanager
def kubernetes_cluster(programs: Path, base: Path) -> Iterator[KubernetesCluster]:
    """Start one, and leave nothing of it. Raises PartMissing.

    `programs`: see `kubernetes_build`; `base`: the tar file of packages that images are made of (`container_image`).
    """
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing:
        raise PartMissing(f"no Kubernetes: {', '.join(missing)} missing: apt-get install {' '.join(PACKAGES)}")
    with net_host() as host:
        starting = _Starting(host, programs, base)
        try:
            yield starting.run()
        finally:
            starting.end()


class _Starting:
    """Starts the parts in their order. Whatever fails says which part, with the end of its log."""

    def __init__(self, host: NetHost, programs: Path, base: Path) -> None:
        self._host, self._programs, self._base = host, programs, base
        self._folder = host.folder / "k"
        self._folder.mkdir()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._engine = DockerEngine(f"unix://{host.folder}/docker.sock", private=True, enter=host.enter)
        self._cluster = KubernetesCluster(host, self._engine, self._folder)

    def run(self) -> KubernetesCluster:
        for place in ("/var/lib", "/var/log", "/usr/libexec"):  # what kubelet writes where no flag leads it away
            self._host.run(["mount", "-t", "tmpfs", "none", place])
        self._start_docker()
        self._start_etcd()
        self._start_apiserver()
        self._await("dockerd", lambda: self._engine.docker("version", check=False).returncode == 0)
        self._make_pause_image()
        self._await("kube-apiserver", lambda: self._cluster.ask("GET", "/readyz")[0] == 200)
        self._start_controllers()
        self._start_node()
        self._await("kubelet", self._node_is_ready)
        self._cluster.set_gpus(GPUS)
        self._await("kube-controller-manager", self._account_is_there)
        return self._cluster

    def end(self) -> None:
        """Containers first, while something is there to end them; the rest goes with the namespaces."""
        for name, process in reversed(self._processes.items()):
            if name != "dockerd":
                process.kill()
        left = self._engine.docker("ps", "-aq", check=False).stdout.split()
        if left:
            self._engine.docker("rm", "-f", *left, check=False)
        for process in self._processes.values():
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start_docker(self) -> None:
        runc = self._host.folder / "runc"
        runc.write_text(RUNC.format(python=sys.executable, runc=shutil.which("runc", path=PATH)))
        runc.chmod(0o755)
        folder = self._host.folder
        words = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--host", self._engine.host]
        words += ["--pidfile", f"{folder}/docker.pid", "--bip", POD_NETWORK]
        words += ["--add-runtime", f"moor={runc}", "--default-runtime", "moor"]
        self._start("dockerd", shutil.which("dockerd", path=PATH) or "dockerd", *words)

    def _start_etcd(self) -> None:
        words = ["--name", "ci", "--data-dir", f"{self._folder}/etcd", "--unsafe-no-fsync"]
        for kind, port in (("client", 2379), ("peer", 2380)):
            words += [f"--listen-{kind}-urls", f"http://127.0.0.1:{port}"]
        words += ["--advertise-client-urls", "http://127.0.0.1:2379"]
        words += ["--initial-advertise-peer-urls", "http://127.0.0.1:2380"]
        self._start("etcd", "etcd", *words, "--initial-cluster", "ci=http://127.0.0.1:2380")

    def _start_apiserver(self) -> None:
        key = f"{self._folder}/sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        users = [f'{ADMIN},admin,uid-admin,"system:masters"', 'usertoken,ci-user,uid-ci,"ci"']
        (self._folder / "tokens.csv").write_text("\n".join(users) + "\n")
        address = self._host.address
        self._start_program(
            "kube-apiserver",
            etcd_servers="http://127.0.0.1:2379",
            bind_address=address,
            advertise_address=address,
            secure_port=PORT,
            insecure_port=0,
            cert_dir=self._folder / "certs",
            kubelet_preferred_address_types="InternalIP",
            service_cluster_ip_range=SERVICE_NETWORK,
            token_auth_file=self._folder / "tokens.csv",
            authorization_mode="RBAC",
            anonymous_auth="false",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_signing_key_file=key,
            service_account_key_file=key,
            disable_admission_plugins="ServiceAccount",
        )

    def _start_controllers(self) -> None:
        config = self._cluster.write_kubeconfig(self._cluster.kubeconfig)
        quick: Json = {"kubeconfig": config, "kube_api_qps": 200, "kube_api_burst": 400}
        local: Json = {"leader_elect": "false", "bind_address": "127.0.0.1", "port": 0}
        self._start_program(
            "kube-controller-manager",
            **quick,
            **local,
            secure_port=10257,
            service_account_private_key_file=self._folder / "sa.key",
            controllers="*,-attachdetach,-cloud-node-lifecycle,-route,-service",
            pvclaimbinder_sync_period="1s",
        )
        self._start_program("kube-scheduler", **quick, **local, secure_port=10259)

    def _start_node(self) -> None:
        config = self._cluster.kubeconfig
        self._start_program(
            "kubelet",
            kubeconfig=config,
            container_runtime="docker",
            docker_endpoint=self._engine.host,
            cgroup_driver="cgroupfs",
            cgroups_per_qos="false",
            enforce_node_allocatable="",
            fail_swap_on="false",
            root_dir=self._folder / "kubelet",
            cert_dir=self._folder / "kubelet-pki",
            volume_plugin_dir=self._folder / "plugins",
            hostname_override=NODE,
            node_ip=self._host.address,
            address=self._host.address,
            read_only_port=0,
            healthz_port=0,
            anonymous_auth="true",
            authorization_mode="AlwaysAllow",
            pod_infra_container_image=PAUSE_IMAGE,
            make_iptables_util_chains="false",
            image_gc_high_threshold=100,
            eviction_hard="",
            serialize_image_pulls="false",
            sync_frequency="3s",  # a pod that is deleted while it is started again waits for the next look
            kube_api_qps=100,
            kube_api_burst=200,
        )
        self._start_program(
            "kube-proxy",
            kubeconfig=config,
            proxy_mode="iptables",
            hostname_override=NODE,
            cluster_cidr=POD_NETWORK.replace("0.1/", "0.0/"),
            conntrack_max_per_core=0,
            conntrack_tcp_timeout_established="0",
            conntrack_tcp_timeout_close_wait="0",
            healthz_bind_address="127.0.0.1:10256",
            metrics_bind_address="127.0.0.1:10249",
            iptables_min_sync_period="100ms",
        )

    def _make_pause_image(self) -> None:
        """A shell and nothing else, out of the packages of the other images."""
        tar = self._folder / "pause.tar"
        with tarfile.open(self._base) as packages, tarfile.open(tar, "w") as image:
            busybox = packages.getmember("./bin/busybox")
            image.addfile(busybox, packages.extractfile(busybox))
            for name in ("sh", "sleep"):
                link = tarfile.TarInfo(f"./bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
                image.addfile(link)
        command = json.dumps(["/bin/sh", "-c", PAUSE])
        self._engine.docker("import", "--change", f"CMD {command}", "-", PAUSE_IMAGE, stdin=tar)

    def _node_is_ready(self) -> bool:
        status, node = self._cluster.ask("GET", f"/api/v1/nodes/{NODE}")
        conditions = node.get("status", {}).get("conditions", []) if status == 200 else []
        is_ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
        return is_ready and not node["spec"].get("taints")

    def _account_is_there(self) -> bool:
        """The controllers have begun to work."""
        return self._cluster.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def _start_program(self, name: str, **flags: Any) -> None:
        words = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        self._start(name, str(self._programs / name), *words)

    def _start(self, name: str, *argv: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = self._host.popen(
                argv, stdout=log, stderr=log, env={"PATH": PATH, "HOME": str(self._folder)}
            )

    def _await(self, name: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass  # it does not listen yet
            ended = [part for part, process in self._processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                part = ended[0] if ended else name
                log = (self._folder / f"{part}.log").read_text(errors="replace")[-2000:]
                raise PartMissing(f"no Kubernetes: {part} {'ended' if ended else 'does not come up'}:\n{log}")
            time.sleep(0.1)
