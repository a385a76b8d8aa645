"""A service as objects of a cluster: names, what the objects say, and what they never hold."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.kubernetes.manifests import (
    at_rest,
    docker_config,
    literal,
    make_manifests,
    owned_by,
    quantity,
    run_patch,
    with_values,
)
from moorage.launch.platforms.kubernetes.names import (
    LABEL_VALUE,
    NAME,
    entry_of,
    labels_of,
    object_name,
    owner_of,
    pull_secret_name,
    selector_of,
)
from moorage.launch.platforms.kubernetes.options import ACCESSES, read_options, registry_login
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import make_submission

JOB_ID = "c0ffee00-0000-4000-8000-000000000001"
NAMED = f"moorage-{JOB_ID}"
CANARY = "hf_canary0123456789"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
QUANTITY = re.compile(r"\d+(Ki|Mi|Gi)?")


def build(command: str = "umask 0 && serve", **changes: Any) -> list[dict[str, Any]]:
    options = read_options(changes.pop("options", {}), {})
    pull = changes.pop("pull", "missing")
    submission = make_submission("kubernetes", changes.pop("image", "img:1"), command, **({"job_id": JOB_ID} | changes))
    return make_manifests(submission, options, owner="alice", pull=pull, shm_bytes=8 << 30)


def container_of(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = manifests[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def expand(text: str, env: dict[str, str]) -> str:
    """As a cluster replaces `$(NAME)`: an unknown name stays, `$$` is `$`."""

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^()]*)\)", replaced, text)


def test_a_deployment_with_its_service_and_its_secret() -> None:
    workload, service, secret = build(gpus=None, num_gpus=2, secret_env={"HF_TOKEN": CANARY})
    assert [item["metadata"]["name"] for item in (workload, service, secret)] == [NAMED] * 3
    assert {item["metadata"]["namespace"] for item in (workload, service, secret)} == {"default"}
    spec = workload["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (
        "Always",
        False,
        False,
    )
    assert pod["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    server = pod["containers"][0]
    assert server["command"] == ["/bin/sh", "-c", "umask 0 && serve"]
    assert server["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    assert server["imagePullPolicy"] == "IfNotPresent"
    reference = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": NAMED, "key": "HF_TOKEN"}}}
    assert reference in server["env"]
    assert secret["stringData"] == {"HF_TOKEN": "$HF_TOKEN"}
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": 8080}]


def test_a_job_makes_one_pod_once() -> None:
    workload, service = build(options={"as_job": True})
    assert (workload["kind"], workload["apiVersion"]) == ("Job", "batch/v1")
    assert workload["spec"]["backoffLimit"] == 0
    assert workload["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert service["spec"]["selector"] == {"moorage.job_id": JOB_ID}
    assert at_rest(workload)["spec"]["parallelism"] == 0
    assert run_patch(workload) == {"spec": {"parallelism": 1}}


@pytest.mark.parametrize(
    ("access", "kind"),
    [
        ("load-balancer", "LoadBalancer"),
        ("node-port", "NodePort"),
        ("port-forward", "ClusterIP"),
        ("cluster-ip", "ClusterIP"),
    ],
)
def test_the_service_is_of_the_kind_that_the_access_needs(access: str, kind: str) -> None:
    assert access in ACCESSES
    assert build(options={"access": access})[1]["spec"]["type"] == kind


@pytest.mark.parametrize(("pull", "policy"), [("missing", "IfNotPresent"), ("always", "Always"), ("never", "Never")])
def test_when_the_image_is_pulled(pull: str, policy: str) -> None:
    assert container_of(build(pull=pull))["imagePullPolicy"] == policy


def test_no_gpu_is_asked_for_when_none_is_wanted() -> None:
    assert "resources" not in container_of(build(gpus="none", num_gpus=1))


def test_probes_ask_what_the_server_answers_when_it_is_ready() -> None:
    server = container_of(build(readiness_paths=("/ready", "/health"), container_port=9000))
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["httpGet"] == {"path": "/ready", "port": 9000}
    assert server["startupProbe"]["failureThreshold"] == 2**31 - 1


def test_folders_of_nodes_are_mounted_read_only() -> None:
    pod = build(mounts=("/data/models:/models", "/x:/y:ro"))[0]["spec"]["template"]["spec"]
    assert pod["volumes"][1:] == [
        {"name": "mount-0", "hostPath": {"path": "/data/models", "type": "Directory"}},
        {"name": "mount-1", "hostPath": {"path": "/x", "type": "Directory"}},
    ]
    assert [mount.get("readOnly") for mount in pod["containers"][0]["volumeMounts"]] == [None, True, True]


def test_a_claim_holds_the_mounts_and_the_hub_s_cache() -> None:
    pod = build(options={"pvc": "models"}, mounts=("/a/b/:/models:ro", "/:/all"))[0]["spec"]["template"]["spec"]
    assert pod["volumes"][1:] == [{"name": "claim", "persistentVolumeClaim": {"claimName": "models"}}]
    server = pod["containers"][0]
    assert server["volumeMounts"][1:] == [
        {"name": "claim", "mountPath": "/moorage/huggingface", "subPath": "huggingface"},
        {"name": "claim", "mountPath": "/models", "subPath": "a/b", "readOnly": True},
        {"name": "claim", "mountPath": "/all"},
    ]
    assert {"name": "HF_HOME", "value": "/moorage/huggingface"} in server["env"]


@pytest.mark.parametrize("mounts", [("/a:/dev/shm",), ("/a:/b", "/c:/b/")])
def test_two_things_in_one_place_are_refused(mounts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="something is at"):
        build(mounts=mounts)


def test_pull_secrets_are_named_or_made() -> None:
    named = build(options={"image_pull_secret": "ngc"})
    assert named[0]["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "ngc"}]
    assert len(named) == 2
    made = build(options={"image_pull_key_env": "NGC_KEY"})
    assert made[0]["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": f"{NAMED}-pull"}]
    assert (made[2]["type"], made[2]["stringData"]) == (
        "kubernetes.io/dockerconfigjson",
        {".dockerconfigjson": "$NGC_KEY"},
    )


def test_no_object_holds_a_secret_before_it_is_sent() -> None:
    submission = make_submission(
        "kubernetes", "nvcr.io/x:1", "true", secret_env={"HF_TOKEN": CANARY}, options={"image_pull_key_env": "NGC_KEY"}
    )
    plan = Kubernetes({"NGC_KEY": CANARY, "HF_TOKEN": CANARY}).plan(submission)
    assert CANARY not in json.dumps(plan)
    secret = plan["manifests"][2]
    sent = with_values(secret, {"HF_TOKEN": CANARY})
    assert base64.b64decode(sent["data"]["HF_TOKEN"]).decode() == CANARY
    assert "stringData" not in sent


def test_what_belongs_to_the_workload_names_it() -> None:
    workload, service = build()
    made = {**workload, "metadata": {**workload["metadata"], "uid": "u-1"}}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAMED, "uid": "u-1"}
    assert owned_by(service, made)["metadata"]["ownerReferences"] == [owner]
    assert "ownerReferences" not in service["metadata"]
    assert at_rest(workload)["spec"]["paused"] is True
    assert run_patch(workload) == {"spec": {"paused": False}}


def test_a_pull_secret_has_the_registry_s_shape() -> None:
    config = json.loads(docker_config("nvcr.io", "$oauthtoken", "key"))
    assert config["auths"]["nvcr.io"]["auth"] == base64.b64encode(b"$oauthtoken:key").decode()
    assert list(json.loads(docker_config("docker.io", "u", "p"))["auths"]) == ["https://index.docker.io/v1/"]


@pytest.mark.parametrize(
    ("registry", "value", "login"),
    [
        ("nvcr.io", "nvapi-key", ("$oauthtoken", "nvapi-key")),
        ("ghcr.io", "me:pass:word", ("me", "pass:word")),
        ("ghcr.io", "only-a-key", None),
        ("nvcr.io", "", None),
    ],
)
def test_the_key_of_a_registry(registry: str, value: str, login: tuple[str, str] | None) -> None:
    if login is not None:
        assert registry_login("x", registry, "KEY", {"KEY": value}) == login
        return
    with pytest.raises(PreflightError, match="KEY") as caught:
        registry_login("x", registry, "KEY", {"KEY": value})
    assert "only-a-key" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ({}, {}, (None, "default", "load-balancer")),
        ({}, {"TAO_K8S_NAMESPACE": "team", "TAO_K8S_CONTEXT": "prod"}, ("prod", "team", "load-balancer")),
        (
            {"namespace": "mine", "context": "c", "access": "node-port"},
            {"TAO_K8S_NAMESPACE": "team"},
            ("c", "mine", "node-port"),
        ),
    ],
)
def test_flags_win_over_variables(options: dict[str, Any], environ: dict[str, str], expected: tuple[Any, ...]) -> None:
    found = read_options(options, environ)
    assert (found.context, found.namespace, found.access) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"access": "ingress"},
        {"namespace": "Not_A_Name"},
        {"namespace": "../kube-system"},
        {"pvc": "a/b"},
        {"image_pull_secret": "a b"},
        {"image_pull_key_env": "A-B"},
        {"image_pull_secret": "a", "image_pull_key_env": "B"},
    ],
)
def test_options_that_no_cluster_takes(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_options(options, {})


@pytest.mark.parametrize("changes", [{"gpus": "0,1"}, {"runtime": "nvidia"}])
def test_flags_of_other_platforms_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no meaning on kubernetes"):
        Kubernetes({}).plan(make_submission("kubernetes", "img:1", "true", **changes))


def test_an_entry_comes_back_from_its_workload() -> None:
    label = {"job_id": JOB_ID, "platform": "kubernetes", "model_path": "hf_model://a 'b' ü", "host_port": 8081}
    workload = build(label=label)[0]
    place = {"namespace": "default", "context": "ci", "platform_job_id": NAMED}
    assert entry_of(workload, context="ci") == label | place
    workload["metadata"]["annotations"] = {"moorage.entry": "{"}
    assert entry_of(workload, context="ci")["job_id"] == JOB_ID


@given(TEXT)
def test_names_are_names(job_id: str) -> None:
    for name in (object_name(job_id), pull_secret_name(job_id)):
        assert NAME.fullmatch(name), name
        assert len(name) <= 63
    assert object_name(job_id) != object_name(f"{job_id}x")


@given(TEXT)
def test_owners_are_label_values(user: str) -> None:
    assert LABEL_VALUE.fullmatch(owner_of(user))
    assert len(owner_of(user)) <= 63


@given(st.uuids())
def test_labels_of_an_id_are_labels(job_id: Any) -> None:
    assert all(LABEL_VALUE.fullmatch(value) for value in labels_of(str(job_id), "alice").values())


@given(st.integers(0, 1 << 50))
def test_quantities_are_quantities(size_bytes: int) -> None:
    text = quantity(size_bytes)
    assert QUANTITY.fullmatch(text)
    factor = {"Gi": 1 << 30, "Mi": 1 << 20, "Ki": 1 << 10}.get(text[-2:], 1)
    assert int(text.rstrip("KMGi")) * factor == size_bytes


@given(st.text(st.sampled_from("$()AB x"), max_size=30))
def test_text_arrives_unchanged(text: str) -> None:
    assert expand(literal(text), {"A": "1", "B": "2", "": "3"}) == text


def test_a_selector_names_few_and_means_all_for_many() -> None:
    assert selector_of(["a", "b"]) == "moorage.job_id in (a,b)"
    assert selector_of([str(number) for number in range(99)]) == "app.kubernetes.io/managed-by=moorage"
    assert selector_of([]) == selector_of(["no label"]) == "app.kubernetes.io/managed-by=moorage"
