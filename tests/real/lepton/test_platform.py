"""lepton against a stand-in for its workspace, through the official SDK: the contract, and what only Lepton has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import PreflightError, UsageError
from moorage.launch.entry import Entry
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.lepton.platform import Lepton
from tests.contract.platform_contract import (
    SERVE,
    Make,
    PlatformContract,
    Start,
    await_line,
    eventually,
    ignore_progress,
)
from tests.real.lepton.conftest import KEY, addressed, get, launch, open_workspace, submission_of
from tests.real.parts.lepton_server import LeptonServer, component_of

pytestmark = pytest.mark.slow

PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class TestLepton(PlatformContract):
    """Requests of the contract carry no key, so the door is open here; the key has tests of its own."""

    binds_port = False

    @pytest.fixture(params=[False, True], ids=["deployments", "endpoints"])
    def workspace(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeptonServer]:
        yield from open_workspace(tmp_path / "workspace", new_family=request.param, open_door=True)

    @pytest.fixture
    def platform(self, environ: dict[str, str]) -> Lepton:
        return Lepton(environ)

    @pytest.fixture
    def image(self) -> str:
        return "registry.example/server:1"

    @pytest.fixture
    def make(self, platform: Lepton, image: str) -> Make:
        def make(*command: str, **changes: Any) -> Submission:
            return submission_of(*command, image=image, **changes)

        return make

    @pytest.fixture
    def start(self, platform: Lepton) -> Iterator[Start]:
        started: list[Entry] = []

        def start(submission: Submission) -> Entry:
            known = platform.preflight(submission, pull="never", report=ignore_progress)
            submission = submission._replace(label=submission.label | known)
            started.append(submission.label)
            assert platform.submit(submission) == {}
            return addressed(platform, submission.label)

        yield start
        for entry in started:
            platform.stop(entry)


def test_an_endpoint_answers_to_its_key_alone(workspace: LeptonServer, lepton: Lepton) -> None:
    entry = launch(lepton, submission_of())
    try:
        await_line(lepton, entry, "listening")
        url = lepton.status([entry])[entry["job_id"]].fields["host_url"]
        asked = {headers: get(url, headers) for headers in ("", f"Bearer {KEY}", "Bearer other", KEY)}
        assert asked == {"": 401, f"Bearer {KEY}": 200, "Bearer other": 401, KEY: 401}
    finally:
        lepton.stop(entry)
    assert workspace.ours() == {"endpoints": [], "secrets": []}


def test_what_is_sent_is_what_the_plan_shows(workspace: LeptonServer, lepton: Lepton) -> None:
    options = {"node_group": "pool-b", "replicas": 2, "scale_to_zero": 60.0, "resource_shape": "GPU.8xH100-SXM"}
    submission = submission_of(secret_env={"HF_TOKEN": "canary-0123456789"}, options=options)
    (planned,) = lepton.plan(submission)["manifests"]
    entry = launch(lepton, submission)
    lepton.stop(entry)
    (sent,) = [body for method, path, body in workspace.requests if (method, path) == ("POST", workspace.path)]
    spec = sent["spec"]["components"][0] if workspace.new_family else component_of(sent["spec"])
    assert spec["image"] == planned["spec"]["container"]["image"]
    assert spec["command"] == planned["spec"]["container"]["command"]
    envs = {env["name"]: env for env in spec["envs"]}
    planned_envs = {env["name"]: env for env in planned["spec"]["envs"]}
    del envs["MOORAGE_ENTRY"], planned_envs["MOORAGE_ENTRY"]  # preflight adds to it
    assert envs == planned_envs
    assert (spec["resource_shape"], spec["min_replicas"]) == ("gpu.8xh100-sxm", 2)
    assert sent["spec"]["api_tokens"] == [{"value": KEY}]
    text = json.dumps(sent)
    assert '"allowed_dedicated_node_groups": ["ng-5678"]' in text
    assert '"no_traffic_timeout": 60' in text
    assert "canary" not in text + json.dumps(planned)
    assert KEY not in json.dumps(planned)
    assert ("labels" in sent["metadata"]) == (not workspace.new_family)


def test_a_workspace_without_labels_gets_none(lepton: Lepton, workspace: LeptonServer) -> None:
    workspace.refuse_labels = True
    entry = launch(lepton, submission_of())
    assert entry["job_id"] in [found["job_id"] for found in lepton.find()]
    lepton.stop(entry)
    assert workspace.ours() == {"endpoints": [], "secrets": []}


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        ({"resource_shape": "gpu.nothing"}, "no_such_shape", "gpu.h100-sxm"),
        ({"node_group": "nowhere"}, "no_such_node_group", "pool-a"),
    ],
)
def test_what_the_workspace_lacks_is_told_with_what_it_has(
    lepton: Lepton, workspace: LeptonServer, options: dict[str, str], code: str, hint: str
) -> None:
    with pytest.raises(PreflightError) as caught:
        lepton.preflight(submission_of(options=options), pull="never", report=ignore_progress)
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert {method for method, _, _ in workspace.requests} == {"GET"}


def test_more_gpus_than_the_shape_has_are_refused(lepton: Lepton) -> None:
    with pytest.raises(PreflightError, match="--num-gpus 4") as caught:
        lepton.preflight(submission_of(num_gpus=4, gpus=None), pull="never", report=ignore_progress)
    assert caught.value.code == "shape_too_small"


def test_several_replicas_write_under_their_names(lepton: Lepton, workspace: LeptonServer) -> None:
    entry = launch(lepton, submission_of("echo one; echo two; sleep 1000", options={"replicas": 2}))
    followed: list[str] = []
    lines = lepton.logs(entry, tail=None, follow=True)
    while len(followed) < 4:
        followed.append(next(lines))
    name = entry["platform_job_id"]
    wanted = [f"[{name}-r{index}] {word}" for index in (0, 1) for word in ("one", "two")]
    assert sorted(followed) == wanted
    assert list(lepton.logs(entry, tail=None, follow=False)) == wanted
    assert list(lepton.logs(entry, tail=1, follow=False)) == [wanted[1], wanted[3]]
    lepton.stop(entry)


def test_a_followed_log_begins_with_the_last_lines(lepton: Lepton) -> None:
    entry = launch(lepton, submission_of(f"echo one; echo two; {SERVE}"))
    await_line(lepton, entry, "listening")
    lines = lepton.logs(entry, tail=2, follow=True)
    assert [next(lines), next(lines)] == ["two", "listening"]
    get(f"{addressed(lepton, entry)['host_url']}/NAME", f"Bearer {KEY}")
    assert next(lines) == "asked /NAME"
    lepton.stop(entry)
    assert list(lines) == []


def test_a_log_goes_on_in_the_container_that_is_started_again(workspace: LeptonServer, lepton: Lepton) -> None:
    workspace.restart_s = 0.2
    entry = launch(lepton, submission_of("echo began $$ $(date +%N); sleep 0.2")) | {"ready_at": "2026-01-01"}
    lines = lepton.logs(entry, tail=None, follow=True)
    assert next(lines) != next(lines)
    eventually(lambda: lepton.status([entry])[entry["job_id"]].detail == "exit code 0")
    lepton.stop(entry)


def test_a_slow_end_is_waited_for(lepton: Lepton, workspace: LeptonServer) -> None:
    workspace.delete_s = 1.5
    entry = launch(lepton, submission_of(secret_env={"HF_TOKEN": "x"}))
    lepton.stop(entry)
    assert workspace.ours() == {"endpoints": [], "secrets": []}


def test_another_tool_s_service_is_neither_judged_nor_ended(lepton: Lepton, workspace: LeptonServer) -> None:
    foreign = {"job_id": "7", "platform": "lepton", "platform_job_id": "tao-job-7"}
    assert lepton.status([foreign])["7"].state == "unknown"
    with pytest.raises(UsageError, match="tao-job-7"):
        lepton.stop(foreign)
    assert "DELETE" not in {method for method, _, _ in workspace.requests}


def test_nothing_is_asked_or_imported_where_nothing_is_configured() -> None:
    program = (
        "import sys\nfrom moorage.errors import PreflightError\n"
        "from moorage.launch.platforms.lepton.platform import Lepton\n"
        "lepton = Lepton({})\n"
        "try:\n    lepton.find()\nexcept PreflightError as fault:\n    print(fault.code)\n"
        "print(lepton.status([{'job_id': 'x'}])['x'].state)\n"
        "print(sorted({'leptonai', 'requests', 'pydantic', 'typing'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=PLAIN, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["not_configured", "unknown"]
    assert "leptonai" not in done.stdout
    assert {check.name for check in Lepton({}).doctor() if not check.ok} == {"lepton credentials"}


def test_without_the_package_the_error_names_the_extra(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "leptonai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "leptonai", None)
    with pytest.raises(PreflightError) as caught:
        Lepton(environ).preflight(submission_of(), pull="never", report=ignore_progress)
    assert "moorage[lepton]" in caught.value.hint
    assert Lepton(environ).status([{"job_id": "x"}])["x"].state == "unknown"
