"""How a service is reached, and what becomes of it when the way breaks."""

from __future__ import annotations

import os

import pytest

from moorage.errors import MoorageError
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import Start, ask, await_line, digest
from tests.real.kubernetes.services import life_of, make, without_port
from tests.real.parts.kubernetes_cluster import KubernetesCluster
from tests.real.parts.kubernetes_objects import (
    get,
    pods_of,
    until,
)

pytestmark = pytest.mark.kubernetes


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
    platform: Kubernetes, start: Start, cluster: KubernetesCluster
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    until(lambda: life_of(platform, entry).detail is None)
    killed = entry["tunnel"]["pid"]
    os.kill(killed, 9)
    until(lambda: life_of(platform, entry).fields["tunnel"].get("pid") != killed)
    until(lambda: life_of(platform, entry).fields["tunnel"]["state"] == "up")
    entry |= life_of(platform, entry).fields
    assert ask(entry, "PATH") != digest("")
    (pod,) = pods_of(cluster, entry)
    cluster.delete(f"/api/v1/namespaces/default/pods/{pod}")
    until(lambda: pods_of(cluster, entry) not in ([], [pod]) and life_of(platform, entry).detail is None)
    until(lambda: get(f"{entry['host_url']}/PATH") not in (None, digest("")))
