"""--ttl and --idle-timeout end real services, by a process of their own that is known and does not outlive them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from moorage.launch.entry import now_utc
from moorage.launch.plane import Plane
from moorage.launch.processes import identity_of
from moorage.launch.reaper import spawn_reaper
from tests.contract.platform_contract import free_port
from tests.contract.stand_ins import StandIns, reapers_of, until

KILLED_WHEN_LAUNCHED = """
import os, signal, sys
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.platforms.local_process import LocalProcess
from moorage.launch.start import start

class Launcher(LocalProcess):
    def submit(self, submission):
        super().submit(submission)
        os.kill(os.getpid(), signal.SIGKILL)

job_id, model, port, ttl_s = sys.argv[1:]
wanted = StartRequest(
    network_arch="cosmos-rl", model_path=model, job_id=job_id, host_port=int(port), ttl_s=float(ttl_s)
)
start(Plane(os.environ, platforms={"local-process": Launcher(os.environ)}), wanted, lambda *_, **__: None)
"""
"""A start that is killed at the moment when its service runs, and before it could write anything more."""


def test_a_time_to_live_ends_a_service(stand_ins: StandIns) -> None:
    entry = stand_ins.start("ready", "--ttl", "10s")
    job_id, reaper = entry["job_id"], entry["reaper"]
    assert entry["ttl_s"] == 10
    if reapers_of(job_id):  # on a busy machine its time may be over by now
        assert identity_of(reaper["pid"]) in (None, (reaper["pid"], reaper["started"]))
    until(lambda: stand_ins.left_of(job_id) == [], "service, entry and reaper are gone")
    assert stand_ins.read_state() == {}
    assert "its time to live of 10 s is over" in reaper_log(stand_ins, job_id).read_text()


def test_a_service_in_use_is_not_idle(local: StandIns) -> None:
    idle_s = 2
    entry = local.start("ready", "--idle-timeout", str(idle_s), arch="tao-dataservices")
    job_id = entry["job_id"]
    body = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()
    headers = {"Content-Type": "application/json"}
    until_s = time.monotonic() + 1.4 * idle_s
    while time.monotonic() < until_s:
        asked = urllib.request.Request(f"{entry['host_url']}/v1/chat/completions", data=body, headers=headers)
        urllib.request.urlopen(asked, timeout=30).close()
        time.sleep(idle_s / 10)  # the use that is tested
    last_used = time.monotonic()
    assert local.runs(job_id)
    until(lambda: local.left_of(job_id) == [], "it is stopped when nobody uses it")
    assert time.monotonic() - last_used > idle_s * 0.8
    assert "nobody used it for 2 s" in reaper_log(local, job_id).read_text()


def test_a_service_that_still_loads_is_not_idle(local: StandIns) -> None:
    done = local.try_start("slow/2", "--idle-timeout", "1", "--wait", "60")
    assert (done.rc, done.out["data"]["state"]) == (0, "ready")


def test_the_reaper_goes_with_a_service_that_died(local: StandIns) -> None:
    job_id = local.start("ready", "--ttl", "1h")["job_id"]
    assert reapers_of(job_id)
    local.kill(job_id)
    until(lambda: not reapers_of(job_id), "the reaper has seen it")
    assert local.seen(job_id)["state"] == "exited"
    assert local.moor("stop", "--json").rc == 0
    assert beside(local) == []


def test_the_reaper_goes_with_a_stop_and_takes_its_log(local: StandIns) -> None:
    job_id = local.start("ready", "--ttl", "1h", "--idle-timeout", "1h")["job_id"]
    (reaper,) = reapers_of(job_id)
    assert os.getsid(reaper) == reaper
    assert [path.name.startswith(local.state_file.name) for path in beside(local)] == [True]
    assert local.moor("stop", "--json").rc == 0
    assert (reapers_of(job_id), beside(local)) == ([], [])


def test_a_start_that_outlives_its_time_says_that_it_was_stopped(local: StandIns) -> None:
    done = local.try_start("never-ready", "--ttl", "1")
    assert (done.rc, done.out["error"]["code"]) == (6, "stopped")


def test_a_reaper_that_was_killed_is_started_again_by_recover(local: StandIns) -> None:
    entry = local.start("ready", "--ttl", "1h")
    os.kill(entry["reaper"]["pid"], signal.SIGKILL)
    until(lambda: not reapers_of(entry["job_id"]), "it is dead")
    local.recover()
    (again,) = until(lambda: reapers_of(entry["job_id"]), "there is a new one")
    assert local.read_state()[entry["job_id"]]["reaper"]["pid"] == again != entry["reaper"]["pid"]


def test_a_start_that_is_killed_leaves_no_service_without_its_reaper(local: StandIns) -> None:
    job_id = local.new_id()
    words = [job_id, str(local.model), str(free_port()), "6"]
    done = subprocess.run([sys.executable, "-c", KILLED_WHEN_LAUNCHED, *words], env=local.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: local.left_of(job_id) == [], "service, entry and reaper are gone")
    assert "its time to live of 6 s is over" in reaper_log(local, job_id).read_text()


def test_a_reaper_waits_for_a_launch_that_takes_long(local: StandIns) -> None:
    """Its platform does not know the service yet, and that is no death: its time is watched all the same."""
    job_id, starter = local.new_id(), identity_of(os.getpid())
    assert starter is not None
    entry = {"platform": "local-process", "state": "starting", "started_at": now_utc(), "ttl_s": 1}
    local.write_state({job_id: {**entry, "starter": starter.as_field()}})
    plane = Plane(local.environ)
    with plane.registry.transaction() as state:
        state.services[job_id]["reaper"] = spawn_reaper(plane, job_id).as_field()
    until(lambda: not reapers_of(job_id), "the reaper has ended")
    assert "its time to live of 1 s is over" in reaper_log(local, job_id).read_text()
    assert local.read_state() == {}


@pytest.mark.parametrize("flag", ["--ttl", "--idle-timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "soon", "1d", "nan", "1e3", ""])
def test_no_duration(local: StandIns, flag: str, value: str) -> None:
    done = local.here(*local.words("ready", f"{flag}={value}"))
    assert (done.rc, flag in done.out["error"]["message"]) == (2, True)
    assert not local.state_file.exists()


def reaper_log(stand_ins: StandIns, job_id: str) -> Path:
    (log,) = [path for path in beside(stand_ins) if job_id in path.name]
    return log


def beside(stand_ins: StandIns) -> list[Path]:
    """What lies beside the state file and its lock."""
    usual = {stand_ins.state_file.name, f"{stand_ins.state_file.name}.lock"}
    return [path for path in stand_ins.state_file.parent.iterdir() if path.name not in usual]
