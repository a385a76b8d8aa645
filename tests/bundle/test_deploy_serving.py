"""The manifests of the serving control plane: against KubeRay's schema, against each other and against the commands."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from moorage import __version__
from moorage.serving.backends.ray_serve.opening import open_ray_serve, owner_of
from moorage.serving.config_file import read_config
from moorage.serving.settings import Settings
from tests.bundle.kuberay.trim import FILE, VERSION
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes" / "serving"
MANIFESTS: list[dict[str, Any]] = [
    one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]


def one_of(kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def container(name: str) -> dict[str, Any]:
    [found] = one_of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def closed(schema: Any) -> Any:
    """What a server would silently drop is a fault here: no field but those that are named."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left = {name: closed(part) if name != "properties" else part for name, part in schema.items()}
    if "properties" in schema:
        left["properties"] = {name: closed(part) for name, part in schema["properties"].items()}
        left.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        left = {"type": ["integer", "string"]}
    return left


def schema() -> dict[str, Any]:
    """KubeRay's, of the release that is named in it."""
    definition = yaml.safe_load(FILE.read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", definition["metadata"]["annotations"][VERSION])
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    found: dict[str, Any] = closed(spec)
    return found


def test_kuberay_knows_every_field_of_the_cluster() -> None:
    cluster = one_of("RayCluster", "moorage-ray")
    assert cluster["apiVersion"] == "ray.io/v1"
    jsonschema.Draft202012Validator(schema()).validate(cluster["spec"])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("authOptions", "mode"), "tokens"),
        (("headGroupSpecs",), {}),
        (("workerGroupSpecs", 0, "minReplica"), 1),
        (("workerGroupSpecs", 0, "template", "spec", "containers", 0, "imagePolicy"), "x"),
    ],
)
def test_what_is_wrong_would_be_seen(place: tuple[Any, ...], value: Any) -> None:
    spec = copy.deepcopy(one_of("RayCluster", "moorage-ray")["spec"])
    at = spec
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(spec)


def test_ray_is_the_one_that_is_tried_here() -> None:
    pinned = yaml.safe_load((ROOT / "versions.yaml").read_text())["engines"]["ray"]["ray"]
    spec = one_of("RayCluster", "moorage-ray")["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    images = {one["image"] for group in groups for one in group["template"]["spec"]["containers"]}
    assert spec["rayVersion"] == pinned
    [image] = images
    assert f":{pinned}-" in image


@pytest.mark.parametrize(("name", "verb"), [("moorage-serving", ["serve", "api"]), ("moorage-inference", ["gateway"])])
def test_a_pod_says_what_its_command_takes(name: str, verb: list[str]) -> None:
    pod = container(name)
    assert pod["command"] == ["moor", *verb]
    words = [sys.executable, "-m", "moorage.cli.main", *verb, "--help"]
    told = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert [flag for flag in pod["args"] if flag.startswith("--") and flag not in told] == []
    given = {one["name"] for one in pod["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(pod["args"]))) <= given
    assert {pod["args"][place + 1] for place, word in enumerate(pod["args"]) if word.endswith("-token-env")} <= given


def test_the_configuration_is_one_that_the_api_takes(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(one_of("ConfigMap", "moorage-serving")["data"]["serving.yaml"])
    config = read_config(file)
    settings = Settings(backend="ray_serve", db="postgresql://db/serving", config=config)
    cluster = one_of("RayCluster", "moorage-ray")
    assert config.ray.address == f"http://{cluster['metadata']['name']}-head-svc:8265", "as KubeRay calls its Service"
    assert config.ray.token_env in {one["name"] for one in container("moorage-serving")["env"]}
    ports = {one["name"]: one["containerPort"] for one in _head(cluster)["ports"]}
    assert (ports["dashboard"], ports["serve"]) == (8265, config.ray.proxy_port)
    assert owner_of(settings) == "moorage"
    open_ray_serve(settings, {config.ray.token_env: "token"}, lambda: 0.0).close()


def _head(cluster: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return found


def test_models_are_at_the_same_place_for_those_who_look_and_those_who_load() -> None:
    cluster = one_of("RayCluster", "moorage-ray")["spec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    pods.append(one_of("Deployment", "moorage-serving")["spec"]["template"]["spec"])
    for pod in pods:
        [mounted] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "models"]
        assert mounted == {"name": "models", "mountPath": "/private", "readOnly": True}
        [volume] = [one for one in pod["volumes"] if one["name"] == "models"]
        assert volume["persistentVolumeClaim"] == {"claimName": "moorage-models", "readOnly": True}


def test_secrets_are_names_and_never_values() -> None:
    assert not [one for one in MANIFESTS if one["kind"] == "Secret"]
    for name in ("moorage-serving", "moorage-inference"):
        assert all("valueFrom" in one and set(one) == {"name", "valueFrom"} for one in container(name)["env"])
    told = [value for value in one_of("ConfigMap", "moorage-serving")["data"].values() if "://" in value]
    assert not [url for value in told for url in re.findall(r"\w+://[^\s]*:[^\s]*@", value)]
    used = {
        one["valueFrom"]["secretKeyRef"]["name"]
        for name in ("moorage-serving", "moorage-inference")
        for one in container(name)["env"]
        if "secretKeyRef" in one["valueFrom"]
    }
    assert used == {"moorage-serving", "moorage-ray"}
    assert one_of("RayCluster", "moorage-ray")["spec"]["authOptions"] == {"mode": "token", "secretName": "moorage-ray"}


def test_the_pods_may_do_nothing_but_their_work() -> None:
    """What Kubernetes' `restricted` profile asks for."""
    for name in ("moorage-serving", "moorage-inference"):
        pod, one = one_of("Deployment", name)["spec"]["template"]["spec"], container(name)
        assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_manifests_belong_together() -> None:
    for name in ("moorage-serving", "moorage-inference"):
        deployment, service = one_of("Deployment", name)["spec"], one_of("Service", name)["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        assert service["selector"].items() <= labels.items()
        policy = one_of("NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        [port] = service["ports"]
        assert port["port"] == container(name)["ports"][0]["containerPort"]
    gateway = container("moorage-inference")["args"]
    assert gateway[gateway.index("--serving") + 1] == "http://moorage-serving:8080"
    api = container("moorage-serving")["args"]
    assert api[api.index("--inference-port") + 1] == gateway[gateway.index("--port") + 1]
    ray = one_of("NetworkPolicy", "moorage-ray")["spec"]
    assert ray["podSelector"]["matchLabels"] == {
        "ray.io/cluster": one_of("RayCluster", "moorage-ray")["metadata"]["name"]
    }


@pytest.mark.parametrize(
    ("name", "extras"), [("moorage-serving", {"serve", "postgres"}), ("moorage-inference", {"gateway", "postgres"})]
)
def test_the_image_has_what_its_pods_run(name: str, extras: set[str]) -> None:
    recipe = (ROOT / "deploy" / "Containerfile").read_text()
    [installed] = re.findall(r"pip install .*'\.\[([a-z,]+)\]'", recipe)
    assert extras <= set(installed.split(","))
    pod, deployed = container(name), one_of("Deployment", name)["spec"]["template"]["spec"]
    assert pod["image"] == f"moorage:{__version__}"
    assert [pod["command"][0], pod["lifecycle"]["preStop"]["exec"]["command"][0]] == ["moor", "python"]
    assert f"{recipe_of(recipe, 'moor')} serve api --help" in recipe
    assert f"--uid {deployed['securityContext']['runAsUser']} " in recipe
    settings = one_of("ConfigMap", "moorage-serving")["data"]
    variable = pod["args"][pod["args"].index("--db") + 1].strip("$()")
    assert settings[variable].startswith("postgresql://"), "which the extra postgres is for"
    [home] = re.findall(r"HOME=(\S+)", recipe)
    assert home in {one["mountPath"] for one in pod["volumeMounts"] if not one.get("readOnly")}


def recipe_of(recipe: str, program: str) -> str:
    """Where the image has it, which is on its PATH."""
    [path] = re.findall(r"ENV PATH=([^:\s]+):", recipe)
    return f"{path}/{program}"
