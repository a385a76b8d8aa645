"""How a service is reached, and what becomes of it when the way breaks."""

from __future__ import annotations

import hashlib
import os
import shlex
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorage.errors import ConflictError, MoorageError
from moorage.launch.observe import ask_platforms
from moorage.launch.plane import Plane
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import Start, answers, ask, await_line, digest
from tests.real.kubernetes.services import life_of, make, submit, without_port
from tests.real.parts.kubernetes_cluster import KubernetesCluster
from tests.real.parts.kubernetes_objects import (
    get,
    pods_of,
    until,
)

pytestmark = pytest.mark.kubernetes

DIGESTS = """
import hashlib, http.server, time
class Digests(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        if self.path == "/late":
            time.sleep(9)
        digest = hashlib.sha256()
        for _ in range(int(self.headers["Content-Length"]) >> 20):
            digest.update(self.rfile.read(1 << 20))
        self.send_response(200)
        self.end_headers()
        for _ in range(8):
            self.wfile.write(digest.digest() * 32768)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Digests)
print("listening", flush=True)
server.serve_forever()
"""
"""Answers the digest of what it was sent, 8 MiB of it. `/late` is busy with other things before it reads."""


def test_addresses_are_those_of_the_access(platform: Kubernetes, start: Start, cluster: KubernetesCluster) -> None:
    accesses = ("node-port", "cluster-ip", "load-balancer")
    by_node, inside, balanced = (start(without_port(access)) for access in accesses)
    for entry in (by_node, inside, balanced):
        await_line(platform, entry, "listening")
        until(lambda entry=entry: "not ready" not in (life_of(platform, entry).detail or ""))
    address = life_of(platform, by_node).fields
    assert address["host_url"] == f"http://{cluster.host.address}:{address['node_port']}"
    until(lambda: get(f"{address['host_url']}/") == digest(""))
    inner = life_of(platform, inside).fields["host_url"]
    asked = [
        "python3",
        "-c",
        f"import urllib.request as u; print(u.urlopen('{inner}/', timeout=20).read().decode())",
    ]
    assert cluster.host.run(asked).stdout.strip() == digest("")
    life = life_of(platform, balanced)
    assert life.fields == {"host_url": None}
    assert "the load balancer has no address yet" in (life.detail or "")
    service = f"/api/v1/namespaces/default/services/{balanced['platform_job_id']}/status"
    for ingress, host in (({"ip": "192.0.2.7"}, "192.0.2.7"), ({"hostname": "lb.example"}, "lb.example")):
        cluster.patch(service, {"status": {"loadBalancer": {"ingress": [ingress]}}})
        life = life_of(platform, balanced)
        assert (life.detail, life.fields) == (None, {"host_url": f"http://{host}:8080"})
    found = {item["job_id"]: item for item in platform.find()}
    assert found[balanced["job_id"]]["host_url"] == "http://lb.example:8080"


def test_a_start_that_is_refused_leaves_the_tunnel_of_the_service_that_has_its_name(
    platform: Kubernetes, start: Start
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    again = make(job_id=entry["job_id"])
    again.label["job_id"] = entry["job_id"]
    with pytest.raises(ConflictError) as caught:
        submit(platform, again)
    assert caught.value.code == "name_taken"
    assert life_of(platform, entry).fields["tunnel"]["pid"] == entry["tunnel"]["pid"]
    assert not answers(again.label)
    assert ask(entry, "PATH") != digest("")


def test_much_goes_through_a_tunnel_at_once(platform: Kubernetes, start: Start) -> None:
    entry = start(make(f"python3 -u -c {shlex.quote(DIGESTS)}"))
    await_line(platform, entry, "listening")
    until(
        lambda: life_of(platform, entry).fields["tunnel"]["state"] == "up" and get(f"{entry['host_url']}/") is not None
    )
    sent = os.urandom(8 << 20)
    wanted = hashlib.sha256(sent).digest() * (8 * 32768)

    def send(path: str) -> bool:
        with urllib.request.urlopen(f"{entry['host_url']}/{path}", data=sent, timeout=90) as reply:
            return bool(reply.read() == wanted)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, ["late", *[""] * 7])) == [True] * 8
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(lambda _: get(f"{entry['host_url']}/"), range(80))) == [""] * 80


def test_a_link_that_is_cut_leaves_all_unknown_until_it_is_back(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    assert ask(entry, "PATH") != digest("")
    cluster.host.cut()
    try:
        life = life_of(platform, entry)
        assert (life.state, life.exists) == ("unknown", True)
        assert "does not answer" in (life.detail or "")
        with pytest.raises(MoorageError, match="does not answer"):
            platform.stop(entry)
        until(lambda: life_of(platform, entry).fields["tunnel"]["state"] == "broken")
    finally:
        cluster.host.restore()
    until(lambda: life_of(platform, entry).state == "alive")
    until(lambda: life_of(platform, entry).fields["tunnel"]["state"] == "up")
    assert ask(entry, "PATH") != digest("")


def test_a_tunnel_that_was_killed_comes_back_and_follows_a_new_pod(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster, environ: dict[str, str], tmp_path: Path
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    until(lambda: life_of(platform, entry).detail is None)
    plane = Plane({**environ, "MOORAGE_STATE_FILE": str(tmp_path / "state.json")}, platforms={"kubernetes": platform})
    with plane.registry.transaction() as state:
        state.add(dict(entry))
    killed = entry["tunnel"]["pid"]
    os.kill(killed, 9)
    until(lambda: ask_platforms(plane, [entry])[entry["job_id"]].fields["tunnel"]["pid"] != killed)
    until(lambda: life_of(platform, entry).fields["tunnel"]["state"] == "up")
    entry |= life_of(platform, entry).fields
    assert ask(entry, "PATH") != digest("")
    (pod,) = pods_of(cluster, entry)
    cluster.delete(f"/api/v1/namespaces/default/pods/{pod}")
    until(lambda: pods_of(cluster, entry) not in ([], [pod]) and life_of(platform, entry).detail is None)
    until(lambda: get(f"{entry['host_url']}/PATH") not in (None, digest("")))
