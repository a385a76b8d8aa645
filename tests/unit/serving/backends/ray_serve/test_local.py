"""A cluster of the machine's own: started once, found again, started anew when gone, ended to the last process.

A shell stands in for Ray's Python; a real one is started in tests/real/ray.
"""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.launch.processes import identity_of, session_members
from moorage.serving.backends.contract import BackendUnreachable
from moorage.serving.backends.ray_serve.cluster.command import (
    CLUSTER_VARIABLE,
    Ports,
    default_cpus,
    start_command,
    start_environment,
)
from moorage.serving.backends.ray_serve.cluster.local import LocalCluster, Shape
from moorage.serving.backends.ray_serve.cluster.record import read_record, write_record
from tests.contract.gateway_process import wait_until

STAYS = "#!/bin/sh\nsleep 1000 &\ntrap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n"
DEAF = "#!/bin/sh\ntrap '' TERM\n(trap '' TERM; sleep 1000) &\nwhile :; do sleep 0.05; done\n"
DIES = "#!/bin/sh\necho the reason why\nexit 3\n"


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "TMPDIR": str(folder / "tmp"),
            "MOORAGE_ADMIN_TOKEN": "admin-secret",
        }
        (folder / "tmp").mkdir()
        self.cluster = self.another()

    def another(self, owner: str = "ours") -> LocalCluster:
        return LocalCluster(owner, self.environ, lambda: self.now)

    def python(self, text: str) -> Shape:
        script = self.folder / "python"
        script.write_text(text)
        script.chmod(0o755)
        return Shape(python=script, num_cpus=16, proxy_port=None)

    @property
    def file(self) -> Path:
        return self.folder / "state" / "moorage" / "ray" / "ours.json"

    def begin(self, text: str = STAYS) -> Shape:
        shape = self.python(text)
        with pytest.raises(BackendUnreachable, match="just started"):
            self.cluster.ensure(shape)
        return shape


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.cluster.end()


def members(pid: int) -> list[int]:
    identity = identity_of(pid)
    return session_members(identity) if identity else []


def test_it_is_started_once_and_found_by_whoever_comes(site: Site) -> None:
    shape = site.begin()
    record = site.cluster.ensure(shape)
    assert site.another().ensure(shape) == record == site.another().running()
    assert site.another("others").running() is None
    assert record.address == f"http://127.0.0.1:{record.dashboard_port}"
    assert len({record.dashboard_port, record.proxy_port}) == 2
    assert site.cluster.token() == Path(record.token_file).read_text().strip()


def test_what_is_secret_is_the_users_own(site: Site) -> None:
    shape = site.begin()
    record = site.cluster.ensure(shape)
    for file in (record.token_file, record.log_file, site.file):
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(record.temp_dir).stat().st_mode) == 0o700
    assert record.pid is not None
    environ = Path(f"/proc/{record.pid}/environ").read_text()
    assert "admin-secret" not in environ and str(site.cluster.token()) not in environ
    assert str(site.cluster.token()) not in Path(f"/proc/{record.pid}/cmdline").read_text()


@pytest.mark.parametrize("text", [STAYS, DEAF])
def test_its_end_is_the_end_of_all_of_it(site: Site, text: str) -> None:
    record = site.cluster.ensure(site.begin(text))
    assert record.pid is not None
    wait_until(lambda: len(members(record.pid or 0)) > 1)
    identity = identity_of(record.pid)
    assert identity is not None
    assert site.another().end() is True
    assert session_members(identity) == [] and not Path(record.temp_dir).exists() and not site.file.exists()
    assert site.cluster.end() is False and site.cluster.token() is None


def test_one_that_was_killed_is_started_anew_when_nothing_of_it_is_left(site: Site) -> None:
    shape = site.begin()
    record = site.cluster.ensure(shape)
    assert record.pid is not None
    wait_until(lambda: len(members(record.pid or 0)) > 1)
    identity = identity_of(record.pid)
    assert identity is not None
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: site.cluster.running() is None)
    site.now += 3600
    site.begin()
    again = site.cluster.ensure(shape)
    assert again.cluster_id != record.cluster_id and again.proxy_port == record.proxy_port and again.failures == 0
    assert session_members(identity) == [] and not Path(record.temp_dir).exists()


def test_one_that_ends_at_once_is_started_ever_more_seldom_and_says_why(site: Site) -> None:
    shape = site.begin(DIES)
    for failures in range(1, 4):
        wait_until(lambda: site.cluster.running() is None)
        with pytest.raises(BackendUnreachable, match="the reason why"):
            site.cluster.ensure(shape)
        site.now += 2.0**failures
        with pytest.raises(BackendUnreachable, match="just started"):
            site.cluster.ensure(shape)
        found = read_record(site.file)
        assert found is not None and found.failures == failures


def test_a_starter_that_died_before_it_wrote_down_whom_it_started(site: Site) -> None:
    record = site.cluster.ensure(site.begin())
    write_record(site.file, replace(record, pid=None, started=None))
    assert site.another().running() == record
    assert site.cluster.end() is True


def test_a_pid_that_is_somebody_elses_now_is_left_alone(site: Site) -> None:
    record = site.cluster.ensure(site.begin())
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        write_record(site.file, replace(record, pid=stranger.pid, started="another-boot:1"))
        assert site.another().running() is None
        assert site.another().end() is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert members(record.pid or 0) == [], "what was started from here is found by its mark"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_record_that_cannot_be_read_hides_no_cluster(site: Site, text: str) -> None:
    shape = site.begin()
    record = site.cluster.ensure(shape)
    identity = identity_of(record.pid or 0)
    assert identity is not None
    site.file.write_text(text)
    assert site.cluster.running() is None
    site.begin()
    assert session_members(identity) == [] and not Path(record.temp_dir).exists()
    assert site.cluster.ensure(shape).cluster_id != record.cluster_id


def test_one_whose_record_is_gone_is_ended_all_the_same(site: Site) -> None:
    record = site.cluster.ensure(site.begin())
    identity = identity_of(record.pid or 0)
    site.file.unlink()
    site.cluster.end()
    assert identity is not None and session_members(identity) == []


def test_sockets_have_room_for_their_paths(site: Site) -> None:
    record = site.cluster.ensure(site.begin())
    assert len(record.temp_dir) <= 40 and Path(record.temp_dir).parent == Path("/tmp")


def test_many_who_find_it_gone_start_one(site: Site) -> None:
    shape = site.python(STAYS)
    said: list[str] = []

    def ask() -> None:
        try:
            said.append(site.another().ensure(shape).cluster_id)
        except BackendUnreachable as fault:
            said.append(fault.message)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len([one for one in said if "just started" in one]) == 1


def test_a_python_that_cannot_be_run_is_told(site: Site) -> None:
    from moorage.errors import FailedError

    with pytest.raises(FailedError) as said:
        site.cluster.ensure(Shape(python=site.folder / "none", num_cpus=None, proxy_port=None))
    assert said.value.code == "ray_not_started"


def test_what_models_may_know_of_our_environment() -> None:
    environ = {
        "PATH": "/bin",
        "HF_TOKEN": "hub",
        "https_proxy": "http://p",
        "CUDA_VISIBLE_DEVICES": "1",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN": "other",
        "MOORAGE_ADMIN_TOKEN": "x",
        "PYTHONPATH": "/tmp",
        "AWS_SECRET_ACCESS_KEY": "x",
        "DATABASE_URL": "x",
    }
    told = start_environment(environ, mark="c", token_file="/t", scratch="/s")
    assert {"PATH", "HF_TOKEN", "https_proxy", "CUDA_VISIBLE_DEVICES"} < set(told)
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "MOORAGE_ADMIN_TOKEN", "PYTHONPATH", "DATABASE_URL"} & set(told)
    assert "AWS_SECRET_ACCESS_KEY" not in told
    assert told["RAY_AUTH_MODE"] == "token" and told["RAY_AUTH_TOKEN_PATH"] == "/t" and told[CLUSTER_VARIABLE] == "c"


def test_the_command_says_every_port_that_ray_would_choose_badly() -> None:
    words = start_command("py", Ports(gcs=1, dashboard=2, client=3, agent=4), "/t", num_cpus=16)
    assert words[:5] == ["py", "-m", "ray.scripts.scripts", "start", "--head"]
    pairs = dict(itertools.pairwise(words))
    assert pairs["--dashboard-host"] == "127.0.0.1" and pairs["--num-cpus"] == "16"
    assert (pairs["--port"], pairs["--dashboard-port"], pairs["--dashboard-agent-listen-port"]) == ("1", "2", "4")
    assert "--num-cpus" not in start_command("py", Ports(gcs=1, dashboard=2, client=3, agent=4), "/t", num_cpus=None)
    assert default_cpus("gpu", 64) is None and default_cpus("cpu", 2) == 16 and default_cpus("cpu", 64) == 256
