"""Why a service does not come up, and what is refused, in the cluster's own words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import FailedError, PreflightError
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import Start, answers, await_line, ignore_progress
from tests.real.kubernetes.services import life_of, make
from tests.real.parts.kubernetes_cluster import GPUS, KubernetesCluster
from tests.real.parts.kubernetes_objects import (
    leftovers,
    until,
)

pytestmark = pytest.mark.kubernetes


REGISTRY = """
import http.server, json
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/v2/"
        errors = [] if known else [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]
        body = json.dumps({"errors": errors}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Registry).serve_forever()
"""
"""A registry on the node that has no image."""


def limit(cluster: KubernetesCluster, namespace: str, **hard: str) -> None:
    """Set a quota, and wait until it holds."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    cluster.create(path, {"metadata": {"name": "small"}, "spec": {"hard": hard}})
    until(lambda: "hard" in cluster.get(f"{path}/small").get("status", {}))


@pytest.fixture
def registry(cluster: KubernetesCluster) -> Iterator[None]:
    with cluster.host.popen([sys.executable, "-c", REGISTRY]) as process:
        yield
        process.terminate()


def test_reasons_are_told_in_the_cluster_s_words(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster, namespace: str, registry: None
) -> None:
    limit(cluster, namespace, pods="0")
    wanted = {
        "ErrImageNeverPull": ("failed", make(image="moorage-test/absent:1")),
        "manifest unknown": ("failed", make(image="127.0.0.1:5000/absent:1", options={"as_job": True})),
        "connection refused": (None, make(image="127.0.0.1:5001/absent:1")),
        "InvalidImageName": ("failed", make(image="Not/A/Name")),
        "Insufficient nvidia.com/gpu": ("no_capacity", make(gpus=None, num_gpus=GPUS + 1)),
        "exceeded quota: small": ("failed", make(options={"namespace": namespace})),
        "forbidden: exceeded quota": ("failed", make(options={"namespace": namespace, "as_job": True})),
        "/no/such/folder is not a directory": ("failed", make(mounts=("/no/such/folder:/data:ro",))),
    }
    entries = [start(submission) for _, submission in wanted.values()]

    def told() -> list[tuple[str | None, str]]:
        lives = platform.status(entries)
        return [(lives[entry["job_id"]].outlook, lives[entry["job_id"]].detail or "") for entry in entries]

    def is_told() -> bool:
        pairs = zip(wanted.items(), told(), strict=True)
        return all(outlook == found and words in detail for (words, (outlook, _)), (found, detail) in pairs)

    with contextlib.suppress(AssertionError):
        until(is_told)
    for (words, (outlook, _)), (found, detail) in zip(wanted.items(), told(), strict=True):
        assert (found, words in detail) == (outlook, True), detail


def test_what_is_refused_says_what_is_missing(
    environ: dict[str, str], cluster: KubernetesCluster, tmp_path: Path
) -> None:
    limited = cluster.write_kubeconfig(tmp_path / "limited", token="usertoken")
    stranger = cluster.write_kubeconfig(tmp_path / "stranger", token="wrong")
    expected: list[tuple[dict[str, Any], dict[str, str], str, str]] = [
        ({"namespace": "not-there"}, {}, "namespace_missing", "not-there"),
        ({"context": "other"}, {}, "context_missing", "it has: ci"),
        ({}, {"KUBECONFIG": str(limited)}, "forbidden", "create deployments.apps"),
        ({}, {"KUBECONFIG": str(stranger)}, "login_refused", "Unauthorized"),
        ({}, {"KUBECONFIG": str(tmp_path / "none")}, "not_configured", "KUBECONFIG"),
        ({"pvc": "no-claim"}, {}, "pvc_missing", "no-claim"),
        ({"image_pull_secret": "no-secret"}, {}, "image_pull_secret_missing", "no-secret"),
        ({"image_pull_key_env": "NO_KEY"}, {}, "pull_key_missing", "NO_KEY"),
    ]
    for options, changes, code, words in expected:
        with pytest.raises(PreflightError) as caught:
            Kubernetes(environ | changes).preflight(make(options=options), pull="never", report=ignore_progress)
        assert (caught.value.code, words in caught.value.message + caught.value.hint) == (code, True), caught.value
    limited_checks = Kubernetes(environ | {"KUBECONFIG": str(limited)}).doctor()
    assert [check.name for check in limited_checks if not check.ok] == ["permissions"]


def test_a_refusal_while_it_is_made_leaves_nothing(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster, namespace: str
) -> None:
    limit(cluster, namespace, services="0")
    submission = make(options={"namespace": namespace})
    with pytest.raises(FailedError, match="exceeded quota: small") as caught:
        start(submission)
    assert caught.value.code == "quota_exceeded"
    entry = submission.label | {"namespace": namespace}
    until(lambda: leftovers(cluster, entry) == [])
    assert not answers(entry)


def test_a_server_that_dies_after_it_was_ready_is_started_again(
    platform: Kubernetes, start: Start, cluster: KubernetesCluster
) -> None:
    entry = start(make())
    await_line(platform, entry, "listening")
    until(lambda: life_of(platform, entry).detail is None)
    followed = platform.logs(entry, tail=0, follow=True)
    engine = cluster.engine
    (container,) = engine.docker("ps", "-q", "--filter", f"name=k8s_server_.*{entry['job_id']}").stdout.split()
    engine.docker("kill", container)
    assert next(followed) == "listening"  # of the new one
    followed.close()  # type: ignore[attr-defined]
    until(lambda: life_of(platform, entry).detail is None)
    assert life_of(platform, entry).state == "alive"
