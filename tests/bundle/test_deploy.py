"""What is shipped for deployment: image, systemd unit, manifests, alerts; against each other and against the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage import errors
from tests.conftest import ROOT
from tests.real.parts.absence import require_real

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "moorage-gateway.service"
KUBERNETES = [
    one for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]
GIVEN = {"PATH", "HOME"}


def help_of_gateway() -> str:
    """What `moor gateway --help` says."""
    words = [sys.executable, "-m", "moorage.cli.main", "gateway", "--help"]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def flags_in(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


# The image's recipe ----------------------------------------------------------------------------------------------


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, what follows), continued lines joined, comments left out."""
    text = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


RECIPE = instructions(DEPLOY / "Containerfile")


def test_the_recipe_has_only_known_instructions_in_two_stages() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert {word for word, _ in RECIPE} == known | {"ENTRYPOINT", "CMD"}
    stages = [rest for word, rest in RECIPE if word == "FROM"]
    assert stages == [f"{stages[1]} AS build", stages[1]]
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", stages[1])


def test_what_the_recipe_copies_is_there_and_is_what_the_package_needs() -> None:
    copied = [name for word, rest in RECIPE if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    packed = re.findall(r'^"([^"]+)" = "moorage/bundle/', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {*packed, "pyproject.toml", "README.md", "LICENSE", "moorage"} == set(copied)
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().split()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(copied)


def test_the_image_runs_as_nobody_in_particular() -> None:
    last = [word for word, _ in RECIPE]
    assert last.index("USER") < last.index("ENTRYPOINT")
    [user] = [rest for word, rest in RECIPE if word == "USER"]
    uid, gid = map(int, user.split(":"))
    made = " ".join(rest for word, rest in RECIPE if word == "RUN")
    assert uid > 1000
    assert f"--uid {uid} --gid {gid}" in made
    pod = deployment()["spec"]["template"]["spec"]["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (uid, gid, gid)


def test_the_entry_point_is_a_command_that_there_is() -> None:
    told = help_of_gateway()
    entry, words, health = (json.loads(_one(word)) for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK"))
    assert entry[:2] == ["moor", "gateway"]
    assert [flag for flag in flags_in(entry + words) if flag not in told] == []
    port = entry[entry.index("--port") + 1]
    assert ("EXPOSE", port) in RECIPE
    assert health[:2] == ["python", "-c"]
    assert f"127.0.0.1:{port}/ready" in health[2]
    compile(health[2], "health", "exec")


def _one(word: str) -> str:
    [rest] = [rest for name, rest in RECIPE if name == word]
    return rest[rest.index("[") :]


@pytest.mark.slow
def test_what_the_recipe_runs_makes_a_gateway(tmp_path: Path) -> None:
    """The build stage's commands in a fresh environment, from what it copies.

    What the package needs is lent to it by this one, or, with MOORAGE_FROM_PYPI=1, fetched as in the image.
    """
    place, copied = tmp_path / "opt", tmp_path / "src"
    copied.mkdir()
    build = RECIPE[: [word for word, _ in RECIPE].index("FROM", 1)]
    for word, rest in build:
        if word == "COPY":
            _copy(rest.split()[:-1], copied)
    environ = {name: os.environ[name] for name in os.environ if name in GIVEN or name.startswith(("PIP_", "SSL_"))}
    environ["PIP_NO_COMPILE"] = "1"  # half of the time
    for command in [rest for word, rest in build if word == "RUN"]:
        written = command.replace("/usr/local/lib/moorage", str(place)).replace(
            "python -m venv", f"{sys.executable} -m venv"
        )
        done = subprocess.run(
            ["/bin/sh", "-ec", written.replace("--no-cache-dir ", "")],
            cwd=copied,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if " -m venv " in command and not os.environ.get("MOORAGE_FROM_PYPI"):
            [site] = place.glob("lib/python*/site-packages")
            (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    script = "import moorage.gateway.server, moorage; print(moorage.__file__)"
    done = subprocess.run([place / "bin/python", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(place)), done.stderr


def _copy(names: list[str], to: Path) -> None:
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)


# systemd ---------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        require_real("systemd-analyze is not installed: apt-get install -y systemd")
    program = tmp_path / "moor"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/lib/moorage/bin/moor", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    said = subprocess.run(words, capture_output=True, text=True).stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(exposure) < 2


def test_the_unit_says_what_the_command_takes() -> None:
    setting = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    words = shlex.split(setting["ExecStart"])
    assert words[1] == "gateway"
    assert [flag for flag in flags_in(words) if flag not in help_of_gateway()] == []
    assert int(setting["TimeoutStopSec"]) > 45  # --drain-s and what is tidied up after it
    told = {errors.UsageError, errors.PreflightError, errors.ConflictError}
    assert set(setting["RestartPreventExitStatus"].split()) == {str(one.exit_status) for one in told}


# Kubernetes: a real API server takes the manifests in tests/real/kubernetes/test_gateway_manifests.py -------------


def deployment() -> dict[str, Any]:
    [found] = [one for one in KUBERNETES if one["kind"] == "Deployment"]
    return dict(found)


def container() -> dict[str, Any]:
    [found] = deployment()["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_manifests_belong_together() -> None:
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    by_kind = {one["kind"]: one["spec"] for one in KUBERNETES if "spec" in one}
    chosen = [
        by_kind["Deployment"]["selector"]["matchLabels"],
        by_kind["Service"]["selector"],
        by_kind["PodDisruptionBudget"]["selector"]["matchLabels"],
        by_kind["NetworkPolicy"]["podSelector"]["matchLabels"],
    ]
    assert all(one.items() <= labels.items() for one in chosen)
    assert by_kind["PodDisruptionBudget"]["minAvailable"] < by_kind["Deployment"]["replicas"]
    maps = {one["metadata"]["name"]: one["data"] for one in KUBERNETES if one["kind"] == "ConfigMap"}
    volumes = {one["name"]: one for one in deployment()["spec"]["template"]["spec"]["volumes"]}
    assert volumes["servers"]["configMap"]["name"] in maps
    assert {one["configMapRef"]["name"] for one in container()["envFrom"]} <= set(maps)
    given = {name for one in container()["envFrom"] for name in maps[one["configMapRef"]["name"]]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container()["args"]))) <= given


def test_secrets_are_names_and_never_values() -> None:
    assert not [one for one in KUBERNETES if one["kind"] == "Secret"]
    assert all(set(one) == {"name", "valueFrom"} for one in container()["env"])
    assert all("secretKeyRef" in one["valueFrom"] for one in container()["env"])
    [database] = [one["data"]["MOORAGE_DB"] for one in KUBERNETES if "MOORAGE_DB" in one.get("data", {})]
    assert re.fullmatch(r"postgresql://\w+@[\w.-]+:\d+/\w+", database)


def test_the_pod_says_what_the_gateway_takes(tmp_path: Path) -> None:
    told = help_of_gateway()
    assert [flag for flag in flags_in(container()["args"]) if flag not in told] == []
    [servers] = [one["data"]["servers.json"] for one in KUBERNETES if "servers.json" in one.get("data", {})]
    from moorage.engines.fleet.servers_file import read_servers

    file = tmp_path / "servers.json"
    file.write_text(servers)
    [endpoint] = read_servers(file)
    assert endpoint.api_key_env in {one["name"] for one in container()["env"]}


def test_the_pod_drains_before_it_is_killed() -> None:
    pod, args = deployment()["spec"]["template"]["spec"], container()["args"]
    drain_s = int(args[args.index("--drain-s") + 1])
    [waits] = re.findall(r"sleep\((\d+)\)", " ".join(container()["lifecycle"]["preStop"]["exec"]["command"]))
    assert pod["terminationGracePeriodSeconds"] >= drain_s + int(waits) + 10
    readiness = container()["readinessProbe"]
    assert int(waits) >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_pod_may_do_nothing_but_its_work() -> None:
    """What Kubernetes' `restricted` profile asks for."""
    pod, one = deployment()["spec"]["template"]["spec"], container()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} == {"configMap", "emptyDir"}


# Prometheus: the rules themselves are tested with promtool in tests/real/test_prometheus.py -----------------------


def test_alerts_ask_for_metrics_that_there_are() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"\bmoorage_\w+", rule["expr"])}
    source = "".join(file.read_text() for file in (ROOT / "moorage" / "gateway" / "metrics").glob("*.py"))
    named = set(re.findall(r'"(moorage_\w+)"', source))
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} <= named
    for rule in rules:
        assert {"summary", "description"} == set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "critical")
