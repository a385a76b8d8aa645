"""local-process keeps the platform contract, and what only it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.local_process import LocalProcess
from moorage.launch.processes import identity_from, identity_of, session_members
from tests.contract.platform_contract import PlatformContract, await_line, make_submission


@pytest.fixture
def environ(tmp_path):
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "HF_TOKEN": "inherited-by-nobody"}


class TestLocalProcess(PlatformContract):
    binds_port = False

    @pytest.fixture
    def platform(self, environ):
        return LocalProcess(environ)

    def test_it_listens_on_loopback_alone(self, platform, make, start):
        entry = start(make())
        await_line(platform, entry, "listening")
        listening = Path("/proc/net/tcp").read_text()
        assert f"0100007F:{entry['host_port']:04X}" in listening
        assert f"00000000:{entry['host_port']:04X}" not in listening

    def test_logs_are_for_the_owner_alone(self, platform, make, start):
        log_file = Path(start(make())["log_file"])
        assert log_file.stat().st_mode & 0o077 == 0
        assert log_file.parent.stat().st_mode & 0o077 == 0

    def test_secrets_of_the_shell_are_not_inherited(self, platform, make, start):
        entry = start(make('echo "token=${HF_TOKEN:-none}"; sleep 1000'))
        await_line(platform, entry, "token=none")

    def test_children_that_outlive_the_command_are_seen_and_ended(self, platform, make, start):
        entry = start(make("sleep 1000 & echo up; exit 3"))
        await_line(platform, entry, "up")
        assert list(platform.logs(entry, tail=None, follow=True)) == ["up"]
        life = platform.status([entry])[entry["job_id"]]
        assert (life.state, life.exists) == ("exited", True)
        assert life.detail == "exit code 3, children still running"
        platform.stop(entry)
        assert session_members(identity_from(entry)) == []

    def test_a_service_is_found_without_any_record_of_its_pid(self, platform, make, start):
        entry = start(make())
        await_line(platform, entry, "listening")
        bare = {key: value for key, value in entry.items() if key not in ("pid", "started")}
        assert platform.status([bare])[entry["job_id"]].state == "alive"
        platform.stop(bare)
        assert platform.status([entry])[entry["job_id"]].state == "exited"


def test_a_missing_engine_says_how_to_get_it(environ, tmp_path):
    platform = LocalProcess({**environ, "XDG_CACHE_HOME": str(tmp_path), "MOORAGE_VLLM_PYTHON": ""})
    submission = make_submission(platform.name, "none", "true", engine="vllm")
    with pytest.raises(PreflightError) as caught:
        platform.preflight(submission, pull="missing", report=lambda *_words, **_numbers: None)
    assert caught.value.code == "engine_missing"
    assert caught.value.next == ["moor engine vllm --install"]


def test_a_missing_program_is_named(environ):
    platform = LocalProcess({**environ, "PATH": "/nowhere"})
    submission = make_submission(
        platform.name, "none", "true", program="cosmos_predict", network_arch="cosmos-predict2.5"
    )
    with pytest.raises(PreflightError, match="cosmos_predict is not on PATH"):
        platform.preflight(submission, pull="missing", report=lambda *_words, **_numbers: None)


def test_a_missing_model_is_the_users_to_mend(environ):
    platform = LocalProcess(environ)
    submission = make_submission(platform.name, "none", "true")
    submission.label["model_path"] = "/no/such/folder"
    with pytest.raises(UsageError, match="/no/such/folder"):
        platform.preflight(submission, pull="missing", report=lambda *_words, **_numbers: None)


def test_a_changed_entry_cannot_name_a_file_to_read_or_remove(environ, tmp_path):
    victim = tmp_path / "logs" / "victim"
    victim.parent.mkdir()
    victim.write_text("precious")
    platform = LocalProcess(environ)
    for path in (str(victim), "/etc/passwd"):
        entry = {"job_id": "../../victim", "log_file": path, "exit_file": path}
        assert list(platform.logs(entry, tail=None, follow=False)) == []
        assert platform.status([entry])["../../victim"].detail == "no such process"
        platform.stop(entry)
    assert victim.read_text() == "precious"


def test_a_changed_entry_cannot_name_a_process_to_end(environ):
    platform = LocalProcess(environ)
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        platform.stop({"job_id": "a", **identity_of(stranger.pid).as_field()})
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_service_leaves_in_its_temporary_folder_goes_with_it(environ):
    platform = LocalProcess(environ)
    submission = make_submission(platform.name, "none", 'touch "$TMPDIR/left"; echo "$TMPDIR"; sleep 1000')
    entry = submission.label | platform.submit(submission)
    folder = Path(next(platform.logs(entry, tail=None, follow=True)))
    assert folder.stat().st_mode & 0o077 == 0
    platform.stop(entry)
    assert not folder.exists()


def test_a_python_without_the_servers_package_is_named(environ):
    platform = LocalProcess({**environ, "MOORAGE_VLLM_PYTHON": sys.executable})
    for changes in ({"engine": "vllm", "python_module": "vllm"}, {"python_module": "nvidia_tao_core"}):
        submission = make_submission(platform.name, "none", "true", **changes)
        with pytest.raises(PreflightError, match=changes["python_module"]):
            platform.preflight(submission, pull="missing", report=lambda *_words, **_numbers: None)
