"""brev against a real machine elsewhere (sshd and Docker in a network of its own) and a stand-in for its command."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import (
    AmbiguousError,
    ConflictError,
    FailedError,
    NotFoundError,
    PlatformUnreachable,
    PreflightError,
    TryAgainError,
    UsageError,
)
from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.launch.platforms.base import Life, Submission
from moorage.launch.platforms.brev.platform import Brev
from moorage.launch.recover import recover
from tests.contract.platform_contract import (
    SERVE,
    PlatformContract,
    answers,
    ask,
    digest,
    ignore_progress,
    make_submission,
)
from tests.contract.stand_ins import until
from tests.real.parts.brev_shim import Shim
from tests.real.parts.container_image import TaoImage
from tests.real.parts.network import net_host
from tests.real.parts.remote_box import RemoteBox
from tests.real.parts.sshd import make_key, sshd

pytestmark = [pytest.mark.remote, pytest.mark.docker]

Machine = dict[str, Any]
Launch = Callable[..., Entry]
"""Starts a service with these platform flags; whatever was started is stopped when the test ends."""

KIND = "cpu.4x16"


class TestBrev(PlatformContract):
    stop_within_s = 40.0

    @pytest.fixture
    def platform(self, shim: Shim, machine: Machine, environ: dict[str, str]) -> Brev:
        shim.add_instance("box", **machine)
        return Brev(environ)

    @pytest.fixture
    def image(self, box_image: TaoImage) -> str:
        return box_image.names["cosmos-rl"]


def submission(image: str, **options: Any) -> Submission:
    return make_submission("brev", image, SERVE, options=options)


@pytest.fixture
def launch(platform: Brev, image: str) -> Iterator[Launch]:
    started: list[Entry] = []

    def launch(**options: Any) -> Entry:
        wanted = submission(image, **options)
        known = platform.preflight(wanted, pull="missing", report=ignore_progress)
        wanted = wanted._replace(label=wanted.label | known)
        started.append(dict(wanted.label))
        started[-1] = wanted.label | platform.submit(wanted)
        await_answer(started[-1])
        return started[-1]

    yield launch
    for entry in started:
        platform.stop(entry)


def await_answer(entry: Entry) -> None:
    assert ask(entry, "NOT_SET") == digest("")


def life_of(platform: Brev, entry: Entry) -> Life:
    return platform.status([entry])[entry["job_id"]]


def tunnel_state(platform: Brev, entry: Entry) -> str:
    return str(life_of(platform, entry).fields["tunnel"]["state"])


class TestCreation:
    def test_an_instance_is_created_kept_and_deleted(
        self, shim: Shim, machine: Machine, platform: Brev, image: str, launch: Launch
    ) -> None:
        shim.change(spares=[machine])
        wanted = submission(image, instance_type=KIND)
        known = platform.preflight(wanted, pull="missing", report=ignore_progress)
        assert known == {"instance_id": f"moorage-{wanted.job_id[:8]}", "created_instance": True}
        assert shim.names() == []  # nothing that costs before it is recorded

        entry = launch(instance_type=KIND)
        assert shim.names() == [entry["instance_id"]]
        assert ["create", entry["instance_id"], "--type", KIND, "--detached"] in shim.calls
        words = platform.stop(entry) or ""
        assert f"brev delete {entry['instance_id']}" in words
        assert shim.names() == [entry["instance_id"]]

        assert platform.stop({**entry, "delete_instance": True}) is None
        assert shim.names() == []
        assert life_of(platform, entry).exists is False
        assert list(platform.logs(entry, tail=None, follow=False)) == []
        assert not {"exec", "port-forward"} & {call[0] for call in shim.calls}

    def test_no_capacity_is_told_in_brev_s_words(self, shim: Shim, platform: Brev, image: str) -> None:
        with pytest.raises(TryAgainError, match=r"no capacity") as caught:
            launch_only(platform, submission(image, instance_type=KIND))
        assert caught.value.code == "no_capacity"
        assert shim.names() == []

    def test_a_type_that_is_none(self, shim: Shim, platform: Brev, image: str) -> None:
        with pytest.raises(UsageError, match=r"not a recognized type"):
            launch_only(platform, submission(image, instance_type="no.such"))

    def test_one_that_fails_is_deleted(self, shim: Shim, machine: Machine, platform: Brev, image: str) -> None:
        shim.change(spares=[machine], fail_at=2)
        wanted = submission(image, instance_type=KIND)
        with pytest.raises(FailedError, match="CREATE_FAILED"):
            launch_only(platform, wanted)
        assert shim.names() == []
        assert not answers(wanted.label)

    def test_an_older_command_gets_the_flags_that_it_knows(
        self, shim: Shim, machine: Machine, platform: Brev, launch: Launch, image: str
    ) -> None:
        ids = {"cloud_cred_id": "cc-1", "workspace_group_id": "wg-1"}
        with pytest.raises(UsageError, match="does not know --cloud-cred-id"):
            platform.preflight(submission(image, instance_type=KIND, **ids), pull="missing", report=ignore_progress)
        shim.change(spares=[machine], old=True)
        entry = launch(instance_type=KIND, **ids)
        words = ["--gpu", KIND, "--cloud-cred-id", "cc-1", "--workspace-group-id", "wg-1", "--detached"]
        assert ["create", entry["instance_id"], *words] in shim.calls

    def test_one_that_others_use_too_is_not_deleted(
        self, shim: Shim, machine: Machine, platform: Brev, launch: Launch
    ) -> None:
        shim.change(spares=[machine])
        first = launch(instance_type=KIND)
        second = launch()
        assert (second["instance_id"], second["created_instance"]) == (first["instance_id"], False)
        with pytest.raises(ConflictError, match=second["job_id"]):
            platform.stop({**first, "delete_instance": True})
        assert life_of(platform, first).state == "exited"
        assert life_of(platform, second).state == "alive"
        assert shim.names() == [first["instance_id"]]

    def test_one_that_was_there_before_is_not_ours_to_delete(
        self, shim: Shim, machine: Machine, platform: Brev, launch: Launch
    ) -> None:
        shim.add_instance("box", **machine)
        entry = launch()
        with pytest.raises(UsageError, match="was there before"):
            platform.stop({**entry, "delete_instance": True})
        assert life_of(platform, entry).state == "alive"


def launch_only(platform: Brev, wanted: Submission) -> None:
    known = platform.preflight(wanted, pull="missing", report=ignore_progress)
    platform.submit(wanted._replace(label=wanted.label | known))


class TestChoice:
    def test_several_that_run(self, shim: Shim, machine: Machine, platform: Brev, image: str) -> None:
        shim.add_instance("one", **machine)
        shim.add_instance("two", **machine)
        with pytest.raises(AmbiguousError, match="one, two"):
            platform.preflight(submission(image), pull="never", report=ignore_progress)

    def test_none(self, platform: Brev, image: str) -> None:
        with pytest.raises(UsageError, match="--instance-type"):
            platform.preflight(submission(image), pull="never", report=ignore_progress)
        with pytest.raises(NotFoundError):
            platform.preflight(submission(image, instance_id="box"), pull="never", report=ignore_progress)

    def test_one_that_is_off_is_started_when_it_is_named(self, shim: Shim, machine: Machine, launch: Launch) -> None:
        shim.add_instance("box", status="STOPPED", **machine)
        entry = launch(instance_id="box")
        assert (entry["instance_id"], entry["created_instance"]) == ("box", False)
        assert ["start", "box", "--detached"] in shim.calls

    def test_all_instances_are_asked_at_once(
        self, shim: Shim, machine: Machine, platform: Brev, launch: Launch
    ) -> None:
        shim.add_instance("one", **machine)
        shim.add_instance("two", **machine)
        entries = [launch(instance_id="one"), launch(instance_id="two")]
        asked = len(shim.calls)
        assert {life.state for life in platform.status(entries).values()} == {"alive"}
        assert len(shim.calls) == asked  # Brev's own command takes its time

    def test_services_of_other_tools_are_found_where_they_are(
        self, shim: Shim, machine: Machine, platform: Brev, launch: Launch
    ) -> None:
        shim.add_instance("box", **machine)
        entry = launch()
        foreign = {"job_id": entry["job_id"], "platform": "brev", "host_port": entry["host_port"]}
        assert life_of(platform, foreign).state == "alive"
        assert list(platform.logs(foreign, tail=1, follow=False))
        platform.stop(foreign)
        assert life_of(platform, foreign).exists is False


class TestReadings:
    def test_a_notice_before_the_list(self, shim: Shim, machine: Machine, launch: Launch) -> None:
        shim.change(notice="A new version of brev is available {0.7}! Run: brev upgrade")
        shim.add_instance("box", **machine)
        launch()

    def test_logged_out(self, shim: Shim, platform: Brev, image: str) -> None:
        shim.change(logged_in=False)
        with pytest.raises(PreflightError) as caught:
            platform.preflight(submission(image), pull="never", report=ignore_progress)
        assert (caught.value.code, caught.value.next) == ("brev_login", ["brev login"])
        (login,) = [check for check in platform.doctor() if not check.ok]
        assert "logged out" in login.message
        with pytest.raises(PreflightError, match="logged out"):
            platform.find()

    def test_never_logged_in(self, shim: Shim, platform: Brev) -> None:
        shim.change(logged_in=False)
        (shim.home / ".brev" / "credentials.json").unlink()
        with pytest.raises(PreflightError) as caught:
            platform.find()
        assert caught.value.code == "not_configured"

    def test_no_command(self, environ: dict[str, str], image: str, tmp_path: Path) -> None:
        bare = Brev({**environ, "PATH": str(tmp_path)})
        with pytest.raises(PreflightError) as caught:
            bare.preflight(submission(image), pull="never", report=ignore_progress)
        assert caught.value.code == "brev_missing"
        with pytest.raises(PreflightError) as caught:
            bare.find()
        assert caught.value.code == "not_configured"
        assert [check.name for check in bare.doctor() if not check.ok] == ["brev login"]

    def test_the_doctor_looks_at_every_instance_that_runs(self, shim: Shim, machine: Machine, platform: Brev) -> None:
        shim.add_instance("box", **machine)
        shim.add_instance("off", status="STOPPED", **machine)
        checks = {check.name: check for check in platform.doctor()}
        assert all(check.ok for check in checks.values()), checks
        assert {"ssh box", "docker on box", "GPUs on box"} <= set(checks)
        assert "off (STOPPED" in checks["brev login"].message

    def test_a_key_that_is_refused(
        self, shim: Shim, machine: Machine, platform: Brev, image: str, tmp_path: Path
    ) -> None:
        shim.add_instance("box", **machine)
        make_key(tmp_path / "other")
        (shim.home / ".brev" / "brev.pem").write_bytes((tmp_path / "other").read_bytes())
        with pytest.raises(PreflightError) as caught:
            platform.preflight(submission(image), pull="never", report=ignore_progress)
        assert caught.value.code == "login_refused"
        assert "ssh box" in [check.name for check in platform.doctor() if not check.ok]

    def test_an_instance_whose_docker_does_not_run(
        self, shim: Shim, platform: Brev, image: str, tmp_path: Path, box: RemoteBox
    ) -> None:
        with net_host() as host, sshd(tmp_path / "sshd", host) as server:
            (shim.home / ".brev" / "brev.pem").write_bytes(server.key.read_bytes())
            shim.add_instance("bare", address=server.address, port=server.port, user="root")
            with pytest.raises(PreflightError) as caught:
                platform.preflight(submission(image), pull="never", report=ignore_progress)
            assert caught.value.code == "docker_unreachable"
            assert "Is the docker daemon running" in caught.value.message
            assert [check.name for check in platform.doctor() if not check.ok] == ["docker on bare"]

    def test_gpus_are_asked_for_by_id(
        self, shim: Shim, machine: Machine, platform: Brev, image: str, box: RemoteBox
    ) -> None:
        shim.add_instance("box", **machine)
        wanted = submission(image)._replace(gpus="0,1", num_gpus=2)
        known = platform.preflight(wanted, pull="never", report=ignore_progress)
        wanted = wanted._replace(label=wanted.label | known)
        platform.submit(wanted)
        asked = box.engine.docker("inspect", "--format", "{{json .HostConfig.DeviceRequests}}", wanted.job_id).stdout
        platform.stop(wanted.label)
        assert '"DeviceIDs":["0","1"]' in asked
        with pytest.raises(PreflightError) as caught:
            platform.preflight(wanted._replace(runtime="nvidia"), pull="never", report=ignore_progress)
        assert caught.value.code == "no_gpu"


class TestBadTimes:
    @pytest.fixture
    def entry(self, shim: Shim, machine: Machine, launch: Launch) -> Entry:
        shim.add_instance("box", **machine)
        return launch()

    def test_the_link_is_cut_and_restored(self, platform: Brev, box: RemoteBox, entry: Entry) -> None:
        with cut(box):
            until(lambda: tunnel_state(platform, entry) == "broken", "the tunnel tells that it is broken")
            life = life_of(platform, entry)
            assert (life.state, life.exists) == ("unknown", True)
            with pytest.raises(PlatformUnreachable):
                platform.stop(entry)
        until(lambda: tunnel_state(platform, entry) == "up", "the tunnel is up again")
        assert life_of(platform, entry).state == "alive"
        await_answer(entry)

    def test_sshd_dies_and_comes_back(self, platform: Brev, box: RemoteBox, entry: Entry) -> None:
        box.server.stop()
        try:
            until(lambda: tunnel_state(platform, entry) == "broken", "the tunnel tells that it is broken")
            assert life_of(platform, entry).state == "unknown"
            with pytest.raises(PlatformUnreachable, match="box"):
                platform.find()
        finally:
            box.server.start()
        until(lambda: tunnel_state(platform, entry) == "up", "the tunnel is up again")
        await_answer(entry)

    @pytest.mark.parametrize(("status", "exists"), [("STOPPED", True), ("FAILURE", True), ("DELETING", False)])
    def test_the_instance_ends_behind_our_back(
        self, shim: Shim, platform: Brev, box: RemoteBox, entry: Entry, status: str, exists: bool
    ) -> None:
        shim.set_status("box", status)
        box.server.stop()
        try:
            life = life_of(platform, entry)
            assert (life.state, life.exists) == ("exited", exists)
            if exists:
                with pytest.raises(PlatformUnreachable, match=status):
                    list(platform.logs(entry, tail=1, follow=False))
            else:
                assert list(platform.logs(entry, tail=1, follow=False)) == []
            words = platform.stop(entry) or ""
            assert ("stays on its disk" in words) is exists
        finally:
            box.server.start()

    def test_brev_does_not_answer_either(self, shim: Shim, platform: Brev, box: RemoteBox, entry: Entry) -> None:
        shim.change(unreachable=True)
        assert life_of(platform, entry).state == "alive"  # SSH does not need Brev
        box.server.stop()
        try:
            life = life_of(platform, entry)
            assert (life.state, "no such host" in (life.detail or "")) == ("unknown", True)
        finally:
            box.server.start()
            shim.change(unreachable=False)

    def test_a_tunnel_that_was_killed_is_begun_anew_when_it_is_found(
        self, platform: Brev, environ: dict[str, str], entry: Entry, tmp_path: Path
    ) -> None:
        os.kill(entry["tunnel"]["pid"], signal.SIGKILL)
        until(lambda: tunnel_state(platform, entry) == "broken", "it is told")
        plane = Plane({**environ, "MOORAGE_STATE_FILE": str(tmp_path / "state.json")}, platforms={"brev": platform})
        (found,) = [one for one in recover(plane, "brev", ignore_progress) if one["job_id"] == entry["job_id"]]
        assert found["tunnel"]["pid"] != entry["tunnel"]["pid"]
        assert (found["instance_id"], found["created_instance"]) == ("box", False)
        await_answer(found)


@contextmanager
def cut(box: RemoteBox) -> Iterator[None]:
    box.host.cut()
    try:
        yield
    finally:
        box.host.restore()
