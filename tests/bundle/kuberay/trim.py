"""Trim KubeRay's definition of RayCluster, and write it beside this file with its version.

    python -m tests.bundle.kuberay.trim CRD.yaml 1.7.0

CRD.yaml is `helm-chart/kuberay-operator/crds/ray.io_rayclusters.yaml` of that release. What Ray's own part says is kept
whole, but for its words; of the pods' templates, which Kubernetes checks itself, the fields that our manifest uses.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

FILE = Path(__file__).with_name("raycluster.yaml")
MANIFEST = ROOT / "deploy" / "kubernetes" / "serving" / "ray-cluster.yaml"
VERSION = "moorage.dev/kuberay-version"
STANDARD = (
    "template",
    "autoscalerOptions",
    "historyServerOptions",
    "headService",
    "gcsFaultToleranceOptions",
    "ingressOptions",
    "tlsOptions",
    "networkPolicy",
)
"""Fields under which Kubernetes' own types stand, which are most of the definition."""

LEFT_OUT = ("x-kubernetes-validations", "x-kubernetes-list", "x-kubernetes-map")


def main() -> None:
    source, version = sys.argv[1:]
    definition = yaml.safe_load(Path(source).read_text())
    manifest = yaml.safe_load(MANIFEST.read_text())
    [kept] = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    spec = kept["schema"]["openAPIV3Schema"]["properties"]["spec"]
    trimmed = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition["metadata"]["name"], "annotations": {VERSION: version}},
        "spec": {
            **{name: definition["spec"][name] for name in ("group", "names", "scope")},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": trim(spec, manifest["spec"], own=True),
                            },
                        }
                    },
                }
            ],
        },
    }
    FILE.write_text(
        f"# Of KubeRay {version} (Apache License 2.0), trimmed by tests/bundle/kuberay/trim.py.\n"
        + yaml.safe_dump(trimmed, sort_keys=True, width=120)
    )


def trim(schema: dict[str, Any], used: Any, *, own: bool) -> dict[str, Any]:
    """Without words; where the field is not Ray's `own`, with the properties that `used` has."""
    left = {name: value for name, value in schema.items() if name not in ("description", "properties", "items")}
    # They may name properties that are left out here, or ask the server for more than a schema.
    left = {name: value for name, value in left.items() if not name.startswith(LEFT_OUT)}
    if "properties" in schema:
        there = used if isinstance(used, dict) else {}
        left["properties"] = {
            name: trim(part, there.get(name), own=own and name not in STANDARD)
            for name, part in schema["properties"].items()
            if own or name in there
        }
    if "items" in schema:
        one = _together(used) if isinstance(used, list) else None
        left["items"] = trim(schema["items"], one, own=own)
    return left


def _together(used: list[Any]) -> Any:
    """All items' fields in one, so that what any of them uses is kept."""
    if not all(isinstance(one, dict) for one in used):
        return None
    found: dict[str, Any] = {}
    for one in used:
        for name, value in one.items():
            before = found.get(name)
            if isinstance(before, dict) and isinstance(value, dict):
                found[name] = _together([before, value])
            elif isinstance(before, list) and isinstance(value, list):
                found[name] = before + value
            else:
                found[name] = value
    return found


if __name__ == "__main__":
    main()
