"""What goes wrong between us and a Lepton workspace: told in its own words, and nothing is left."""

from __future__ import annotations

import time

import pytest

from moorage.errors import ConflictError, MoorageError, PlatformUnreachable, PreflightError
from moorage.launch.platforms.lepton.platform import ASK_S, Lepton
from moorage.launch.platforms.lepton.spec import secret_name
from tests.contract.platform_contract import (
    eventually,
    ignore_progress,
)
from tests.real.lepton.conftest import launch, submission_of
from tests.real.parts.lepton_server import TOKEN, LeptonServer

pytestmark = pytest.mark.slow


def test_a_name_in_use_is_a_conflict_and_is_left_alone(lepton: Lepton, workspace: LeptonServer) -> None:
    submission = submission_of(secret_env={"HF_TOKEN": "canary-0123456789"})
    entry = launch(lepton, submission)
    before = workspace.ours()
    with pytest.raises(ConflictError, match="already"):
        lepton.submit(submission)
    assert workspace.ours() == before
    lepton.stop(entry)


def test_another_endpoint_of_that_name_that_comes_in_between_stays(lepton: Lepton, workspace: LeptonServer) -> None:
    workspace.fail("POST", workspace.path, "status", status=409)
    with pytest.raises(ConflictError):
        launch(lepton, submission_of(secret_env={"HF_TOKEN": "canary-0123456789"}))
    assert workspace.ours() == {"endpoints": [], "secrets": []}


@pytest.mark.parametrize("kind", ["cut", "cut-after", "status"])
@pytest.mark.parametrize("where", ["/usersecrets", "PATH"])
def test_a_failure_on_the_way_leaves_nothing(lepton: Lepton, workspace: LeptonServer, kind: str, where: str) -> None:
    workspace.fail("POST", where.replace("PATH", workspace.path), kind, status=503)
    with pytest.raises(PlatformUnreachable) as caught:
        launch(lepton, submission_of(secret_env={"HF_TOKEN": "canary-0123456789"}))
    assert workspace.ours() == {"endpoints": [], "secrets": []}
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.hint}"


def test_what_is_no_workspace_is_told(lepton: Lepton, workspace: LeptonServer) -> None:
    workspace.fail("GET", "/workspace", "text", words="<html>welcome</html>")
    submission = submission_of()
    with pytest.raises(PreflightError) as caught:
        lepton.preflight(submission, pull="never", report=ignore_progress)
    assert caught.value.code == "lepton_bad_reply"
    assert lepton.status([submission.label])[submission.job_id].state == "unknown"


def test_an_endpoint_that_shows_late_is_not_taken_for_gone(lepton: Lepton, workspace: LeptonServer) -> None:
    submission = submission_of()
    late = workspace.fail("GET", f"{workspace.path}/[^/]+", "status", status=404, times=2)
    entry = launch(lepton, submission)
    assert late.times == 0
    assert lepton.status([entry])[entry["job_id"]].state == "alive"
    lepton.stop(entry)


def test_secrets_of_a_start_that_was_cut_off_are_no_obstacle(lepton: Lepton, workspace: LeptonServer) -> None:
    submission = submission_of(secret_env={"HF_TOKEN": "new"})
    workspace.secrets[secret_name(submission.job_id, "HF_TOKEN")] = "old"
    entry = launch(lepton, submission)
    assert workspace.secrets[secret_name(submission.job_id, "HF_TOKEN")] == "new"
    lepton.stop(entry)
    assert workspace.ours() == {"endpoints": [], "secrets": []}
    assert "someone-elses" in workspace.secrets


def test_a_value_that_the_workspace_repeats_is_not_shown(lepton: Lepton, workspace: LeptonServer) -> None:
    workspace.fail("POST", "/usersecrets", "status", status=400, words="bad value 'canary-0123456789'")
    with pytest.raises(PreflightError, match=r"bad value '\*\*\*'") as caught:
        launch(lepton, submission_of(secret_env={"HF_TOKEN": "canary-0123456789"}))
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, PreflightError, "login_refused"),
        (403, PreflightError, "forbidden"),
        (404, PreflightError, "lepton_refused"),
        (429, PreflightError, "lepton_busy"),
        (500, PreflightError, "lepton_trouble"),
    ],
)
def test_a_refused_workspace_is_told_by_preflight_and_unknown_to_status(
    lepton: Lepton, workspace: LeptonServer, status: int, kind: type[MoorageError], code: str
) -> None:
    workspace.fail("GET", "/workspace", "status", status=status)
    submission = submission_of()
    with pytest.raises(kind) as caught:
        lepton.preflight(submission, pull="never", report=ignore_progress)
    assert caught.value.code == code
    assert TOKEN not in f"{caught.value!r}{caught.value.__cause__!r}"
    life = lepton.status([submission.label])[submission.job_id]
    assert (life.state, life.exists, bool(life.detail)) == ("unknown", True, True)
    assert [check.name for check in lepton.doctor() if not check.ok] == ["lepton workspace"]


def test_a_workspace_that_goes_away_leaves_its_services_unknown(lepton: Lepton, workspace: LeptonServer) -> None:
    entry = launch(lepton, submission_of())
    workspace.cut()
    assert lepton.status([entry])[entry["job_id"]].state == "unknown"
    for ask in (lambda: lepton.stop(entry), lepton.find, lambda: list(lepton.logs(entry, tail=None, follow=False))):
        with pytest.raises(PlatformUnreachable, match="does not answer"):
            ask()
    workspace.restore()
    eventually(lambda: lepton.status([entry])[entry["job_id"]].state == "alive")
    lepton.stop(entry)


@pytest.mark.parametrize("workspace", [False], indirect=True, ids=["deployments"])
@pytest.mark.parametrize("path", ["/workspace", "PATH", "PATH/[^/]+/events"])
def test_a_workspace_that_hangs_is_not_waited_for(lepton: Lepton, workspace: LeptonServer, path: str) -> None:
    workspace.start_s = 600
    entry = launch(lepton, submission_of())
    workspace.fail("GET", path.replace("PATH", workspace.path), "wait", seconds=60)
    began = time.monotonic()
    fresh = Lepton(workspace.environ())
    state = fresh.status([entry])[entry["job_id"]].state
    took_s = time.monotonic() - began
    workspace.mend()
    lepton.stop(entry)
    assert state == ("alive" if "events" in path else "unknown")
    assert took_s < ASK_S + 2.0


def test_a_body_that_the_sdk_cannot_read_is_not_a_service_that_is_gone(
    lepton: Lepton, workspace: LeptonServer, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = launch(lepton, submission_of())
    workspace.odd = True
    life = lepton.status([entry])[entry["job_id"]]
    assert (life.state, life.exists) == ("unknown", True)
    assert lepton.find() == []
    workspace.odd = False
    assert capfd.readouterr() == ("", "")
    lepton.stop(entry)


@pytest.mark.parametrize(
    ("trouble", "outlook", "words"),
    [
        ({"reason": "NoCapacity", "message": "no gpu.h100-sxm is free"}, "no_capacity", "no gpu.h100-sxm is free"),
        ({"event": "FailedScheduling", "count": 5}, "no_capacity", "FailedScheduling"),
        ({"reason": "Queueing", "message": "insufficient quota"}, "no_capacity", "insufficient quota"),
        ({"reason": "Queueing", "message": "2 before it", "since": "2999-01-01T00:00:00Z"}, None, "2 before it"),
        ({"reason": "ConfigError", "message": "ErrImagePull: x:1"}, "failed", "ErrImagePull: x:1"),
        ({"event": "ImagePullBackOff"}, "failed", "ImagePullBackOff"),
    ],
)
def test_why_it_does_not_come_up(
    lepton: Lepton, workspace: LeptonServer, trouble: dict[str, object], outlook: str | None, words: str
) -> None:
    workspace.no_room = trouble
    entry = launch(lepton, submission_of())
    life = lepton.status([entry])[entry["job_id"]]
    lepton.stop(entry)
    assert (life.state, life.outlook) == ("alive", outlook)
    assert words in (life.detail or "")
