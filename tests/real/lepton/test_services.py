"""Whole services on lepton through the command line: started, asked, stopped, interrupted, lost and found."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer, Moor
from tests.contract.stand_ins import TEXT_ARCH, StandIns, add_dataservices, every_command_line, until
from tests.real.lepton.conftest import open_workspace
from tests.real.parts.lepton_bodies import Fault
from tests.real.parts.lepton_server import LeptonServer

pytestmark = pytest.mark.slow

CANARY = f"canary{uuid.uuid4().hex}"
ASK = ["--prompt", "hello", "--accept-defaults", "--json"]
NOTHING: dict[str, list[str]] = {"endpoints": [], "secrets": []}


class Commands(StandIns):
    """`moor` for one user of a workspace, with the stand-in for TAO's servers in its containers.

    `here` runs a command in this process, which has imported the SDK already; `moor` is a process of its own.
    """

    def __init__(self, workspace: LeptonServer, folder: Path) -> None:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("LEPTON_", "MOORAGE_"))}
        super().__init__("lepton", folder, given | workspace.environ(), None)
        self.environ["HF_TOKEN"] = CANARY
        self.moor = Moor(self.environ)
        self.workspace = workspace
        programs = folder / "programs"
        programs.mkdir()
        workspace.programs = f"{add_dataservices(programs)}{os.pathsep}{os.environ['PATH']}"

    def wanted(self, *flags: str, model: str = "/scenario/ready") -> list[str]:
        """The words of a `moor start`."""
        shape = [] if "--resource-shape" in flags else ["--resource-shape", "gpu.h100-sxm"]
        words = ["start", "--network-arch", TEXT_ARCH, "--model-path", model, "--platform", "lepton", "--json"]
        return [*words, *shape, *flags]

    def started(self, *flags: str, **options: str) -> dict[str, Any]:
        """Start a service that must come up; its entry."""
        done = self.here(*self.wanted(*flags, **options))
        assert done.rc == 0, done
        entry: dict[str, Any] = done.out["data"]
        return entry

    def listed(self) -> dict[str, dict[str, Any]]:
        """What `moor list` says: id → entry."""
        return {entry["job_id"]: entry for entry in self.here("list", "--json").out["data"]["services"]}


@pytest.fixture(params=[False, True], ids=["deployments", "endpoints"])
def commands(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Commands]:
    """In either family of the API."""
    for workspace in open_workspace(tmp_path / "workspace", new_family=request.param):
        yield Commands(workspace, tmp_path)


@pytest.fixture
def in_one(tmp_path: Path) -> Iterator[Commands]:
    """In the older family: for what is the same in both."""
    for workspace in open_workspace(tmp_path / "workspace", new_family=False):
        yield Commands(workspace, tmp_path)


def test_from_start_to_stop(commands: Commands) -> None:
    workspace, moor = commands.workspace, commands.moor
    entry = moor(*commands.wanted()).out["data"]
    job_id = entry["job_id"]
    endpoint = workspace.endpoints[entry["platform_job_id"]]
    assert entry["platform_job_id"] == f"moorage-{job_id[:23]}"
    assert (entry["state"], entry["token_env"], entry["host_port"]) == ("ready", "MOORAGE_LEPTON_TOKEN", None)
    assert entry["host_url"] == endpoint.door.url
    key_file = Path(f"{commands.state_file}.lepton-token")
    assert endpoint.keys == [key_file.read_text().strip()]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600

    asked = moor("request", *ASK)
    assert (asked.rc, bool(asked.out["data"]["content"])) == (0, True), asked
    assert commands.listed()[job_id]["state"] == "ready"
    assert moor("logs", job_id, "--tail", "2", "--json").out["data"]["lines"]
    assert endpoint.door.refused == 0

    stopped = moor("stop", job_id, "--json")
    assert (stopped.rc, stopped.out["data"]["stopped"]) == (0, [job_id])
    assert (workspace.ours(), commands.read_state()) == (NOTHING, {})


def test_three_at_once(commands: Commands) -> None:
    starts = [commands.moor.popen(*commands.wanted()) for _ in range(3)]
    entries = [json.loads(start.communicate(timeout=120)[0])["data"] for start in starts]
    assert len({entry["host_url"] for entry in entries}) == 3
    assert {entry["state"] for entry in commands.listed().values()} == {"ready"}
    for entry in entries:
        asked = commands.here("request", "--job-id", entry["job_id"], *ASK)
        assert asked.out["data"]["response"]["model"] == "/scenario/ready"
    assert commands.here("request", *ASK).rc == 4
    assert commands.here("stop", "--all", "--json").rc == 0
    assert commands.workspace.ours() == NOTHING


STEPS = [
    ("GET", "/shapes", "wait"),
    ("GET", "PATH/[^/]+", "wait"),
    ("POST", "/usersecrets", "wait"),
    ("POST", "/usersecrets", "wait-after"),
    ("POST", "PATH", "wait"),
    ("POST", "PATH", "wait-after"),
    ("GET", "PATH", "wait"),
]
"""Where a start may be cut off: at each thing that it asks, before it is done and before the answer is heard."""


def start_until(commands: Commands, step: tuple[str, str, str]) -> tuple[subprocess.Popen[str], Fault]:
    method, path, kind = step
    fault = commands.workspace.fail(method, path.replace("PATH", commands.workspace.path), kind, seconds=60, times=1)
    start = commands.moor.popen(*commands.wanted(model="hf_model://org/model"))
    if not fault.met.wait(60):
        start.kill()
        pytest.fail(f"it never came to {step}: {start.communicate()}")
    return start, fault


@pytest.mark.parametrize("step", STEPS, ids=" ".join)
def test_killed_at_each_step(in_one: Commands, step: tuple[str, str, str]) -> None:
    start, fault = start_until(in_one, step)
    start.kill()
    start.communicate()
    in_one.workspace.mend()
    assert fault.done.wait(60)
    for job_id, entry in in_one.listed().items():
        assert entry["state"] in ("failed", "starting", "ready")
        assert in_one.here("stop", job_id, "--json").rc == 0
    assert (in_one.workspace.ours(), in_one.read_state()) == (NOTHING, {})


@pytest.mark.parametrize("step", STEPS, ids=" ".join)
def test_interrupted_at_each_step(in_one: Commands, step: tuple[str, str, str]) -> None:
    start, fault = start_until(in_one, step)
    start.send_signal(signal.SIGTERM)
    in_one.workspace.mend()
    out, err = start.communicate(timeout=60)
    assert fault.done.wait(60)
    assert (start.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted"), err
    assert "Traceback" not in err
    assert (in_one.workspace.ours(), in_one.read_state()) == (NOTHING, {})


def test_unreachable_midway(commands: Commands) -> None:
    entry = commands.started()
    commands.workspace.cut()
    seen = commands.listed()[entry["job_id"]]
    assert (seen["state"], "does not answer" in seen["reason"]) == ("unknown", True)
    stop = commands.here("stop", entry["job_id"], "--json")
    assert (stop.rc, stop.out["error"]["code"]) == (9, "lepton_unreachable")
    assert entry["job_id"] in commands.read_state()
    commands.workspace.restore()
    assert commands.listed()[entry["job_id"]]["state"] == "ready"
    assert commands.here("stop", entry["job_id"], "--json").rc == 0
    assert commands.workspace.ours() == NOTHING


def test_a_hanging_workspace_does_not_hold_up_a_list(in_one: Commands) -> None:
    entry = in_one.started()
    in_one.workspace.fail("GET", ".*", "wait", seconds=60)
    began = time.monotonic()
    assert in_one.listed()[entry["job_id"]]["state"] == "unknown"
    assert time.monotonic() - began < 8


def test_the_state_file_lost_and_recovered(commands: Commands) -> None:
    entry = commands.started("--ttl", "1h")
    commands.state_file.unlink()
    done = commands.here("recover", "--platform", "lepton", "--json")
    (found,) = done.out["data"]["recovered"]
    same = set(entry) - {"reaper", "ready_at", "ready_after_s"}
    assert {name: found.get(name) for name in same} == {name: entry[name] for name in same}
    assert commands.here("request", *ASK).rc == 0
    assert commands.here("stop", entry["job_id"], "--json").rc == 0
    assert commands.workspace.ours() == NOTHING


def test_a_service_that_ended_behind_our_back(commands: Commands) -> None:
    entry = commands.started()
    commands.workspace.end(commands.workspace.endpoints[entry["platform_job_id"]])
    seen = commands.listed()[entry["job_id"]]
    assert (seen["state"], seen["reason"]) == ("exited", "no such endpoint")
    assert commands.here("prune", "--json").out["data"]["pruned"] == [entry["job_id"]]


def test_running_is_not_serving(commands: Commands) -> None:
    done = commands.here(*commands.wanted("--wait", "2", model="/scenario/never-ready"))
    assert (done.rc, done.out["error"]["code"]) == (7, "not_ready")
    (entry,) = commands.listed().values()
    assert (entry["state"], entry["reason"]) == ("starting", "model_loading")
    assert commands.here("stop", "--all", "--json").rc == 0


@pytest.mark.parametrize(
    ("trouble", "rc", "code", "words"),
    [
        ({"reason": "NoCapacity", "message": "no gpu.h100-sxm is free"}, 9, "no_capacity", "no gpu.h100-sxm is free"),
        ({"event": "FailedScheduling", "count": 4}, 9, "no_capacity", "FailedScheduling"),
        ({"reason": "ConfigError", "message": "ErrImagePull x:1"}, 8, "start_failed", "ErrImagePull x:1"),
        ({"event": "ImagePullBackOff"}, 8, "start_failed", "ImagePullBackOff"),
    ],
)
def test_a_start_without_hope_is_undone(
    commands: Commands, trouble: dict[str, Any], rc: int, code: str, words: str
) -> None:
    commands.workspace.no_room = trouble
    done = commands.here(*commands.wanted(model="hf_model://org/model"))
    assert (done.rc, done.out["error"]["code"]) == (rc, code), done
    assert words in done.out["error"]["message"]
    assert (commands.workspace.ours(), commands.read_state()) == (NOTHING, {})


def test_a_container_that_ends_is_told_with_its_last_words(commands: Commands) -> None:
    done = commands.here(*commands.wanted(model="/scenario/crash-at-start/17"))
    assert (done.rc, done.out["error"]["code"]) == (8, "service_died"), done
    assert "exit code 17" in done.out["error"]["message"]
    assert 1 <= len(done.out["data"]["log_tail"]) <= 20
    assert commands.workspace.ours() == NOTHING


@pytest.mark.parametrize(
    ("flags", "changes", "rc", "code"),
    [
        ((), {"LEPTON_AUTH_TOKEN": None}, 5, "not_configured"),
        ((), {"LEPTON_AUTH_TOKEN": "wrong"}, 5, "login_refused"),
        ((), {"LEPTON_WORKSPACE_URL": "http://127.0.0.1:9"}, 5, "lepton_unreachable"),
        ((), {"MOORAGE_LEPTON_TOKEN": "two words"}, 5, "service_key_bad"),
        (("--resource-shape", "gpu.nothing"), {}, 5, "no_such_shape"),
        (("--node-group", "nowhere"), {}, 5, "no_such_node_group"),
        (("--replicas", "0"), {}, 2, "usage"),
        (("--replicas", "many"), {}, 2, "usage"),
        (("--scale-to-zero", "0"), {}, 2, "usage"),
        (("--token-env", "not a name"), {}, 2, "usage"),
        (("--mount", "/tmp:/data"), {}, 2, "usage"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    in_one: Commands, flags: tuple[str, ...], changes: dict[str, str | None], rc: int, code: str
) -> None:
    done = in_one.here(*in_one.wanted(*flags), env=changes)
    assert (done.rc, done.out["error"]["code"]) == (rc, code), done
    assert (in_one.workspace.ours(), in_one.read_state()) == (NOTHING, {})
    assert "POST" not in {method for method, _, _ in in_one.workspace.requests}


def test_without_a_shape_the_flag_is_named(in_one: Commands) -> None:
    words = [word for word in in_one.wanted() if word not in ("--resource-shape", "gpu.h100-sxm")]
    for more in ([], ["--dry-run"]):
        done = in_one.here(*words, *more)
        assert (done.rc, done.out["error"]["code"]) == (2, "resource_shape_missing")
        assert "--resource-shape" in done.out["error"]["message"]


def test_a_dry_run_needs_no_workspace(in_one: Commands) -> None:
    in_one.workspace.cut()
    nobody = {name: None for name in in_one.environ if name.startswith("LEPTON_")}
    done = in_one.here(*in_one.wanted("--dry-run", "--replicas", "2", model="hf_model://org/model"), env=nobody)
    (manifest,) = done.out["data"]["plan"]["manifests"]
    assert manifest["spec"]["resource_requirement"]["max_replicas"] == 2
    assert "secret_name_ref" in json.dumps(manifest)
    assert CANARY not in json.dumps(done.out)
    assert in_one.read_state() == {}


def test_secrets_are_seen_nowhere(commands: Commands) -> None:
    """Neither the hub's token nor the endpoint's key nor the workspace's: in nothing that is shown, kept or posted."""
    key = f"key{uuid.uuid4().hex}"
    env = {"MY_KEY": key}
    heard: list[Answer] = []
    seen = ""
    start = commands.moor.popen(*commands.wanted("--token-env", "MY_KEY", model="hf_model://org/model"), env=env)
    while start.poll() is None:
        seen += every_command_line()
        time.sleep(0.01)
    out, err = start.communicate()
    assert start.returncode == 0, (out, err)
    entry = json.loads(out)["data"]
    heard += [commands.here(*words, env=env) for words in (["list", "--json"], ["logs", "--json"], ["request", *ASK])]
    heard.append(commands.here("recover", "--platform", "lepton", "--json", env=env))
    heard.append(commands.here("request", *ASK))  # without the key
    assert [answer.rc for answer in heard] == [0, 0, 0, 0, 5]
    kept = commands.state_file.read_text()
    heard.append(commands.here("stop", "--all", "--json", env=env))
    shown = repr(heard) + out + err + seen + kept
    assert [word for word in (CANARY, key, commands.environ["LEPTON_AUTH_TOKEN"]) if word in shown] == []
    assert entry["token_env"] == "MY_KEY"
    posted = {path: json.dumps(body) for method, path, body in commands.workspace.requests if method == "POST"}
    assert sorted(path for path, body in posted.items() if CANARY in body) == ["/usersecrets"]
    assert posted[commands.workspace.path].count(key) == 1
    assert commands.workspace.ours() == NOTHING


def test_one_that_was_not_waited_for_gets_its_address_later(commands: Commands) -> None:
    commands.workspace.start_s = 1.0
    entry = commands.started("--no-wait")
    assert entry["host_url"] is None
    waited = commands.here("wait", entry["job_id"], "--json")
    assert waited.out["data"]["host_url"] == commands.workspace.endpoints[entry["platform_job_id"]].door.url
    assert commands.here("request", *ASK).rc == 0
    assert commands.here("stop", "--all", "--json").rc == 0


def test_a_followed_log_ends_with_the_service(commands: Commands) -> None:
    entry = commands.started()
    follow = commands.moor.popen("logs", entry["job_id"], "--follow", "--json")
    assert follow.stdout is not None
    assert "line" in json.loads(follow.stdout.readline())
    assert commands.here("stop", entry["job_id"], "--json").rc == 0
    _, err = follow.communicate(timeout=60)
    assert follow.returncode == 0, err
    until(lambda: commands.workspace.ours() == NOTHING, "all is gone")
