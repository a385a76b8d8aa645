"""Whole services in the cluster through the command line, with the stand-in for the TAO servers as their image."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer, Moor
from tests.contract.stand_ins import TEXT_ARCH
from tests.real.kubernetes.services import IMAGE
from tests.real.parts.kubernetes_cluster import KubernetesCluster
from tests.real.parts.kubernetes_objects import events, leftovers, processes, until

pytestmark = pytest.mark.kubernetes

CANARY = "hf_canary0123456789"
START_S = 180


class Bench:
    """`moor` with a registry of its own and the cluster."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self.state_file = folder / "state.json"
        self.environ = {**environ, "MOORAGE_STATE_FILE": str(self.state_file), "IMAGE_TAO_DATASERVICES": IMAGE}
        self.moor = Moor(self.environ)
        self.job_ids: list[str] = []

    def words(self, *flags: str, access: str = "port-forward", scenario: str = "ready") -> list[str]:
        self.job_ids.append(str(uuid.uuid4()))
        words = ["start", "--platform", "kubernetes", "--network-arch", TEXT_ARCH, "--access", access]
        words += ["--model-path", f"/scenario/{scenario}", "--gpus", "none", "--pull", "never"]
        return [*words, "--job-id", self.job_ids[-1], "--json", *flags]

    def start(self, *flags: str, **options: str) -> dict[str, Any]:
        done = self.moor(*self.words(*flags, **options), timeout=START_S)
        assert done.rc == 0, (done.out, done.err)
        entry: dict[str, Any] = done.out["data"]
        return entry

    def listed(self) -> dict[str, dict[str, Any]]:
        return {entry["job_id"]: entry for entry in self.moor("list", "--json").out["data"]["services"]}

    def request(self, job_id: str) -> Answer:
        return self.moor("request", "--job-id", job_id, "--prompt", "hello", "--accept-defaults", "--json")


@pytest.fixture
def bench(environ: dict[str, str], tmp_path: Path) -> Iterator[Bench]:
    found = Bench(environ, tmp_path)
    yield found
    found.moor("stop", "--all", "--json")


def test_a_service_from_start_to_stop_with_its_state_lost_between(bench: Bench, cluster: KubernetesCluster) -> None:
    entry = bench.start()
    job_id = entry["job_id"]
    assert (entry["state"], entry["host_url"]) == ("ready", f"http://localhost:{entry['host_port']}")
    named = {name: entry[name] for name in ("platform_job_id", "namespace", "context", "access")}
    assert named == {
        "platform_job_id": f"moorage-{job_id}",
        "namespace": "default",
        "context": "ci",
        "access": "port-forward",
    }
    assert bench.request(job_id).out["data"]["response"]["object"] == "chat.completion"
    assert "stage ready" in bench.moor("logs", job_id, "--json").out["data"]["lines"]
    bench.state_file.unlink()
    recovered = bench.moor("recover", "--platform", "kubernetes", "--json").out["data"]["recovered"]
    assert job_id in [item["job_id"] for item in recovered]
    now = bench.moor("status", job_id, "--json").out["data"]
    assert (now["state"], now["tunnel"]["pid"]) == ("ready", entry["tunnel"]["pid"])
    assert bench.request(job_id).rc == 0
    assert bench.moor("stop", job_id, "--json").out["data"]["stopped"] == [job_id]
    assert leftovers(cluster, entry) == []
    assert job_id not in bench.listed()


def test_three_at_once_by_three_ways(bench: Bench, cluster: KubernetesCluster) -> None:
    words = [bench.words(), bench.words(access="node-port"), bench.words("--as-job")]
    starts = [bench.moor.popen(*line) for line in words]
    for start in starts:
        out, err = start.communicate(timeout=START_S)
        assert start.returncode == 0, (out, err)
    listed = bench.listed()
    assert {job_id: listed[job_id]["state"] for job_id in bench.job_ids} == dict.fromkeys(bench.job_ids, "ready")
    by_node = listed[bench.job_ids[1]]
    assert by_node["host_url"] == f"http://{cluster.host.address}:{by_node['node_port']}"
    for job_id in bench.job_ids:
        assert bench.request(job_id).out["data"]["job_id"] == job_id
    assert set(bench.moor("stop", "--all", "--json").out["data"]["stopped"]) == set(bench.job_ids)
    assert [leftovers(cluster, entry) for entry in listed.values()] == [[]] * 3


def test_starts_that_fail_say_why_and_leave_nothing(bench: Bench, cluster: KubernetesCluster) -> None:
    table = [
        (bench.words(scenario="crash"), {}, 8, "service_died"),
        (bench.words("--num-gpus", "9"), {}, 9, "no_capacity"),
        (bench.words(), {"IMAGE_TAO_DATASERVICES": "moorage-test/absent:1"}, 8, "start_failed"),
        (bench.words("--namespace", "absent"), {}, 5, "namespace_missing"),
        (bench.words("--host-port", "8080", access="cluster-ip"), {}, 2, "usage"),
        (bench.words(), {"KUBECONFIG": "/no/such/file"}, 5, "not_configured"),
    ]
    for words, env, rc, code in table:
        if "--num-gpus" in words:
            del words[words.index("--gpus") : words.index("--gpus") + 2]
        done = bench.moor(*words, env=env, timeout=START_S)
        assert (done.rc, done.out["error"]["code"]) == (rc, code), done
        if code == "service_died":
            assert done.out["data"]["log_tail"]
    assert bench.listed() == {}
    assert [leftovers(cluster, {"job_id": job_id}) for job_id in bench.job_ids] == [[]] * len(table)


def test_a_start_that_is_interrupted_leaves_nothing(bench: Bench, cluster: KubernetesCluster) -> None:
    start = bench.moor.popen(*bench.words(scenario="never"))
    until(lambda: "pods" in leftovers(cluster, {"job_id": bench.job_ids[0]}))
    start.send_signal(signal.SIGINT)
    start.communicate(timeout=START_S)
    assert start.returncode == 130
    assert leftovers(cluster, {"job_id": bench.job_ids[0]}) == []
    assert bench.listed() == {}


def test_a_secret_is_in_nothing_that_is_shown(bench: Bench, cluster: KubernetesCluster) -> None:
    secrets = {"HF_TOKEN": CANARY, "NGC_KEY": f"me:{CANARY}-key"}
    words = bench.words("--image-pull-key-env", "NGC_KEY")
    words[words.index("--model-path") + 1] = "hf_model://org/scenario-ready"
    shown = bench.moor(*words, "--dry-run", env={**secrets, "KUBECONFIG": None})
    assert shown.rc == 0, shown
    kinds = [item["kind"] for item in shown.out["data"]["plan"]["manifests"]]
    assert kinds == ["Deployment", "Service", "Secret", "Secret"]
    started = bench.moor(*words, "--no-wait", env=secrets, timeout=START_S)
    assert started.rc == 0, started
    kept = cluster.get(f"/api/v1/namespaces/default/secrets/moorage-{bench.job_ids[0]}")
    assert kept["type"] == "Opaque"
    deployment = cluster.get(f"/apis/apps/v1/namespaces/default/deployments/moorage-{bench.job_ids[0]}")
    listed = bench.moor("list", "--json", env=secrets)
    logs = bench.moor("logs", bench.job_ids[0], "--json", env=secrets)
    seen = [shown, started, listed, logs, deployment, events(cluster), processes(), bench.state_file.read_text()]
    seen += [path.read_text(errors="replace") for path in bench.state_file.parent.rglob("*.log")]
    assert CANARY not in json.dumps(seen, default=str)
