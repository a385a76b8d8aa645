"""A remote engine as a socket of this machine: who can reach it, and what is left of it."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import PlatformUnreachable
from moorage.launch.platforms.docker.engine import DockerEngine
from moorage.launch.remote.connect import connect
from moorage.launch.remote.docker_way import PREFIX, docker_way
from moorage.launch.remote.host import RemoteHost
from moorage.launch.remote.target import make_target
from tests.contract.stand_ins import until
from tests.real.parts.remote_box import RemoteBox

pytestmark = [pytest.mark.remote, pytest.mark.docker]


@pytest.fixture(params=["paramiko", "openssh"])
def host(request: pytest.FixtureRequest, box: RemoteBox, tmp_path: Path) -> Iterator[RemoteHost]:
    box.server.write_client(tmp_path, "box")
    with connect(make_target(("box",), client=request.param), {**os.environ, "HOME": str(tmp_path)}) as connected:
        yield connected


def test_only_this_user_can_reach_it_and_nothing_is_left(host: RemoteHost, box: RemoteBox) -> None:
    with docker_way(host) as url:
        socket = Path(url.removeprefix("unix://"))
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert DockerEngine({}, url).info()["ID"] == box.engine.docker("info", "--format", "{{.ID}}").stdout.strip()
    assert not socket.parent.exists()
    dials = ["sh", "-c", "pgrep -fc 'docker system dial-std[i]o' || true"]
    until(lambda: box.host.run(dials).stdout.strip() == "0", "nothing is left there either")


def test_several_talk_at_once(host: RemoteHost, box: RemoteBox) -> None:
    with docker_way(host) as url:
        asked = ["docker", "-H", url, "info", "--format", "{{.ID}}"]
        asking = [subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        assert len({one.communicate(timeout=60)[0] for one in asking}) == 1


def test_a_connection_that_is_lost_is_told_in_the_remote_s_words(box: RemoteBox, tmp_path: Path) -> None:
    box.server.write_client(tmp_path, "box")
    environ = {**os.environ, "HOME": str(tmp_path)}
    with (
        connect(make_target(("box",)), environ) as host,
        pytest.raises(PlatformUnreachable, match="box does not answer"),
        docker_way(host) as url,
    ):
        box.server.stop()
        try:
            DockerEngine({}, url).version()
        finally:
            box.server.start()


def test_what_a_killed_process_left_is_removed(host: RemoteHost) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    stale = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{ended.pid}-"))
    with docker_way(host):
        assert not stale.exists()
