"""What a service is made of in a cluster, and that all of it goes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import SERVE, Start, ask, await_line, digest, drain, ignore_progress
from tests.real.kubernetes.services import IMAGE, life_of, make, submit
from tests.real.parts.kubernetes_cluster import KubernetesCluster
from tests.real.parts.kubernetes_objects import (
    address_of,
    events,
    leftovers,
    make_claim,
    processes,
    tunnels_of,
    until,
)

pytestmark = pytest.mark.kubernetes


CUT_OFF = """
import json, os, signal, sys
from moorage.launch.platforms.kubernetes.client import Cluster
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.kubernetes import Kubernetes

after = int(sys.argv[1])
submission = Submission(**json.load(sys.stdin))
send, sent = Cluster._send, []

def send_and_die(self, method, *words, **options):
    if len(sent) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    reply = send(self, method, *words, **options)
    sent.append(method)
    return reply

Cluster._send = send_and_die
Kubernetes(os.environ).submit(submission)
print("submitted")
"""
"""Kills itself before the request of that number."""


def test_a_service_is_made_as_its_plan_shows(platform: Kubernetes, start: Start, cluster: KubernetesCluster) -> None:
    secret = f"hf_{uuid.uuid4().hex}"
    submission = make(gpus=None, num_gpus=1, secret_env={"HF_TOKEN": secret}, readiness_paths=("/health", "/"))
    plan = platform.plan(submission)["manifests"]
    assert [manifest["kind"] for manifest in plan] == ["Deployment", "Service", "Secret"]
    assert secret not in json.dumps(plan)
    entry = start(submission)
    await_line(platform, entry, "listening")
    until(lambda: life_of(platform, entry).detail is None)
    deployment, service, kept = (cluster.get(address_of(manifest)) for manifest in plan)
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["strategy"]["type"] == "Recreate"
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["containers"][0]["startupProbe"]["httpGet"]["path"] == "/health"
    assert base64.b64decode(kept["data"]["HF_TOKEN"]).decode() == secret
    for owned in (service, kept):
        assert owned["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]
    assert secret not in json.dumps([deployment, service, events(cluster), processes()])
    platform.stop(entry)
    assert leftovers(cluster, entry) == []


def test_a_job_lives_from_submit_to_stop(platform: Kubernetes, start: Start, cluster: KubernetesCluster) -> None:
    entry, crashed = (start(make(command, options={"as_job": True})) for command in (SERVE, "echo last words; exit 17"))
    await_line(platform, entry, "listening")
    assert ask(entry, "PATH") != digest("")
    job = cluster.get(f"/apis/batch/v1/namespaces/default/jobs/{entry['platform_job_id']}")
    assert (job["spec"]["backoffLimit"], job["metadata"]["labels"]["tao-job"]) == (0, entry["job_id"])
    assert drain(platform, crashed) == ["last words"]
    until(lambda: life_of(platform, crashed).state == "exited")
    assert life_of(platform, crashed).detail == "exit code 17"
    found = {item["job_id"]: item for item in platform.find()}
    assert found[entry["job_id"]]["as_job"] is True
    for service in (found[entry["job_id"]], crashed):
        platform.stop(service)
        assert not life_of(platform, service).exists
    assert leftovers(cluster, entry) == []


def test_a_claim_is_mounted_and_keeps_the_models(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster
) -> None:
    folder = cluster.folder / "volume"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models/name").write_text("tiny")
    make_claim(cluster, folder, "models")
    command = 'cat /models/name; echo; touch /models/x 2>/dev/null || echo read-only; echo "$HF_HOME"; '
    command += 'touch "$HF_HOME/kept"; ' + SERVE
    entry = start(make(command, options={"pvc": "models"}, mounts=("/models:/models:ro",)))
    await_line(platform, entry, "listening")
    lines = list(platform.logs(entry, tail=None, follow=False))
    assert lines[:3] == ["tiny", "read-only", "/moorage/huggingface"]
    assert (folder / "huggingface/kept").exists()


def test_a_pull_secret_is_made_of_a_variable(environ: dict[str, str], cluster: KubernetesCluster) -> None:
    key = f"nvapi-{uuid.uuid4().hex}"
    platform = Kubernetes(environ | {"NGC_KEY": key})
    submission = make(image="nvcr.io/nvidia/absent:1", options={"image_pull_key_env": "NGC_KEY"})
    assert key not in json.dumps(platform.plan(submission))
    entry = submit(platform, submission)
    try:
        deployment, _, secret = (cluster.get(address_of(item)) for item in platform.plan(submission)["manifests"])
        named = deployment["spec"]["template"]["spec"]["imagePullSecrets"]
        assert named == [{"name": secret["metadata"]["name"]}]
        config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
        assert config["auths"]["nvcr.io"] | {"auth": ""} == {
            "username": "$oauthtoken",
            "password": key,
            "auth": "",
        }
        assert key not in json.dumps([entry, deployment, platform.find(), events(cluster)])
    finally:
        platform.stop(entry)
    assert leftovers(cluster, entry) == []


def test_a_start_that_is_killed_at_any_step_leaves_nothing_that_stop_does_not_find(
    platform: Kubernetes, environ: dict[str, str], cluster: KubernetesCluster
) -> None:
    begun = []
    for after in range(5):
        submission = make(secret_env={"HF_TOKEN": "hf_canary"})
        known = platform.preflight(submission, pull="never", report=ignore_progress)
        submission = submission._replace(label=submission.label | known)
        done = subprocess.run(
            [sys.executable, "-c", CUT_OFF, str(after)],
            input=json.dumps(submission._asdict()),
            env={**environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == ((-9, "") if after < 4 else (0, "submitted\n")), done.stderr
        begun.append(submission.label)
    made = [len(leftovers(cluster, entry)) for entry in begun]
    assert made[:4] == [0, 1, 2, 3]
    found = {item["job_id"] for item in platform.find()}
    assert found >= {entry["job_id"] for entry in begun[1:]}
    lives = platform.status(begun)
    assert [lives[entry["job_id"]].detail for entry in begun[1:4]] == ["created, not started"] * 3
    for entry in begun:
        platform.stop(entry)
    assert [leftovers(cluster, entry) for entry in begun] == [[]] * 5
    assert tunnels_of(begun) == ""


def test_a_job_of_another_tool_is_asked_and_stopped_too(platform: Kubernetes, cluster: KubernetesCluster) -> None:
    name = f"tao-{uuid.uuid4().hex[:8]}"
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", SERVE]}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    job = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    cluster.create("/apis/batch/v1/namespaces/default/jobs", job)
    service = {"metadata": {"name": name}, "spec": {"selector": {"job-name": name}, "ports": [{"port": 8080}]}}
    cluster.create("/api/v1/namespaces/default/services", service)
    entry = {"job_id": str(uuid.uuid4()), "platform": "kubernetes", "platform_job_id": name}
    await_line(platform, entry, "listening")
    until(lambda: life_of(platform, entry).state == "alive")
    assert entry["job_id"] not in [item["job_id"] for item in platform.find()]
    platform.stop(entry)
    assert not life_of(platform, entry).exists
    assert cluster.ask("GET", f"/api/v1/namespaces/default/services/{name}")[0] == 404
