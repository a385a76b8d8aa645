"""A look at a service while it is stopped, in every order: its tunnel is a real process, and none is left."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import PlatformUnreachable
from moorage.launch.entry import Entry, now_utc
from moorage.launch.mending import mend
from moorage.launch.observe import observe
from moorage.launch.plane import Plane
from moorage.launch.platforms.life import Life
from moorage.launch.processes import environment_of, identity_of
from moorage.launch.recover import recover
from moorage.launch.remote.target import make_target
from moorage.launch.start import wait_for
from moorage.launch.stop import forget, stop, stop_all
from moorage.launch.tunnel.tunnels import TunnelSpec, end_tunnel, see_tunnel, start_tunnel
from tests.contract.platform_contract import free_port, ignore_progress
from tests.contract.recorder import Recorder
from tests.contract.stand_ins import until

WAIT_S = 60.0
GONE = Life(state="exited", detail="no such job", exists=False)


class Elsewhere:
    """A platform whose services live until they are stopped, and whose tunnels lead to a host that is not there.

    `during_stop` runs in the middle of a stop and `after_stop` at its end, `after_look` when the platform has answered
    what lives.
    """

    name = "slurm"

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self.living: dict[str, Entry] = {}
        self.during_stop: Callable[[], object] = lambda: None
        self.after_stop: Callable[[], object] = lambda: None
        self.after_look: Callable[[], object] = lambda: None

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        lives = {entry["job_id"]: self._life(entry) for entry in entries}
        self.after_look()
        return lives

    def stop(self, entry: Entry) -> None:
        self.during_stop()
        self.living.pop(entry["job_id"], None)
        end_tunnel(entry, self._environ)
        self.after_stop()

    def find(self) -> list[Entry]:
        names = ("tunnel", "state", "stop_requested_at")
        return [{name: entry[name] for name in entry if name not in names} for entry in self.living.values()]

    def _life(self, entry: Entry) -> Life:
        if entry["job_id"] not in self.living:
            return GONE
        field, runs = see_tunnel(entry, self._environ)
        return Life(state="alive", fields={"tunnel": field}, lost_tunnel=None if runs else spec_of(entry))


class Harbour:
    """Services of `Elsewhere` in a registry, each with its tunnel, looked at by anybody."""

    def __init__(self, folder: Path) -> None:
        state = {"MOORAGE_STATE_FILE": str(folder / "state.json"), "XDG_STATE_HOME": str(folder / "xdg")}
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **state}
        self.platform = Elsewhere(self.environ)
        self.plane = Plane(self.environ, platforms={"slurm": self.platform})  # type: ignore[dict-item]
        self.job_ids: list[str] = []

    def start(self) -> Entry:
        port = free_port()
        entry: Entry = {"job_id": str(uuid.uuid4()), "platform": "slurm", "started_at": now_utc(), "state": "ready"}
        entry |= {"host_url": f"http://localhost:{port}", "host_port": port, "network_arch": "cosmos-rl"}
        self.job_ids.append(entry["job_id"])
        entry["tunnel"] = start_tunnel(spec_of(entry), self.environ)
        self.platform.living[entry["job_id"]] = entry
        with self.plane.registry.transaction() as state:
            state.add(dict(entry))
        return entry

    def kill_tunnel(self, job_id: str) -> None:
        for pid in supervisors(job_id):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not supervisors(job_id), "the tunnel's process is gone")

    def look(self) -> dict[str, Any]:
        """As `moor list`, in a command of its own."""
        plane = Plane(self.environ, platforms={"slurm": self.platform})  # type: ignore[dict-item]
        seen = observe(plane, plane.registry.read().services.values(), probe=False)
        return {job_id: one.fields.get("tunnel") for job_id, one in seen.items()}

    def entry(self, job_id: str) -> Entry:
        return self.plane.registry.read().services[job_id]


def spec_of(entry: Entry) -> TunnelSpec:
    remote = make_target("127.0.0.1", port=1).as_dict()
    return TunnelSpec(entry["job_id"], entry["host_port"], {"kind": "ssh", "remote": remote, "address": "x", "port": 1})


def supervisors(job_id: str) -> list[int]:
    pids = [int(place.name) for place in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if environment_of(pid).get("MOORAGE_TUNNEL") == job_id and identity_of(pid)]


def once(work: Callable[[], object]) -> Callable[[], None]:
    """What does the work at the first call, and nothing at later ones."""
    left = [work]

    def call() -> None:
        if left:
            left.pop()()

    return call


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path)
    yield harbour
    for job_id in harbour.job_ids:
        end_tunnel({"job_id": job_id}, harbour.environ)


def test_a_lost_tunnel_is_started_again_by_who_looks_and_recorded(harbour: Harbour) -> None:
    entry = harbour.start()
    job_id = entry["job_id"]
    assert harbour.look()[job_id]["pid"] == entry["tunnel"]["pid"]
    harbour.kill_tunnel(job_id)
    field = harbour.look()[job_id]
    assert supervisors(job_id) == [field["pid"]]
    assert harbour.entry(job_id)["tunnel"]["pid"] == field["pid"] != entry["tunnel"]["pid"]
    assert harbour.look()[job_id]["pid"] == field["pid"]
    stop(harbour.plane, entry)  # which knows only the first one
    assert supervisors(job_id) == []


def test_a_look_while_it_is_stopped_starts_none(harbour: Harbour) -> None:
    entry = harbour.start()
    job_id, stopping, looked = entry["job_id"], threading.Event(), threading.Event()

    def block() -> None:
        harbour.kill_tunnel(job_id)
        stopping.set()
        assert looked.wait(WAIT_S)

    harbour.platform.during_stop = block
    stopper = threading.Thread(target=stop, args=[harbour.plane, entry])
    stopper.start()
    assert stopping.wait(WAIT_S)
    assert harbour.look()[job_id]["detail"] == "its process has ended"
    assert supervisors(job_id) == []
    looked.set()
    stopper.join(WAIT_S)
    assert harbour.look() == {}
    assert supervisors(job_id) == []


def test_a_look_that_saw_it_alive_before_the_stop_starts_none_after_it(harbour: Harbour) -> None:
    entry = harbour.start()
    harbour.kill_tunnel(entry["job_id"])
    harbour.platform.after_look = once(lambda: stop(harbour.plane, entry))
    harbour.look()
    assert harbour.look() == {}
    assert supervisors(entry["job_id"]) == []


def test_one_that_is_started_in_the_middle_of_a_stop_is_ended_by_it(harbour: Harbour) -> None:
    """As by a command that cannot know of the stop: one of an older version, or while two stops are under way."""
    entry = harbour.start()
    job_id = entry["job_id"]

    def mend_unknowing() -> None:
        with harbour.plane.registry.transaction() as state:
            state.services[job_id].pop("stop_requested_at", None)
        harbour.kill_tunnel(job_id)
        life = Life(state="alive", lost_tunnel=spec_of(entry))
        assert mend(harbour.plane, harbour.entry(job_id), life).fields["tunnel"]["state"] == "connecting"
        assert supervisors(job_id)

    harbour.platform.during_stop = harbour.platform.after_stop = mend_unknowing
    stop(harbour.plane, entry)
    assert supervisors(job_id) == []
    assert harbour.look() == {}


def test_a_later_service_of_the_same_id_is_not_touched_by_an_old_look(harbour: Harbour) -> None:
    entry = harbour.start()
    job_id = entry["job_id"]
    harbour.kill_tunnel(job_id)

    def start_anew() -> None:
        stop(harbour.plane, entry)
        with harbour.plane.registry.transaction() as state:
            state.add({**entry, "started_at": now_utc(), "tunnel": None})

    harbour.platform.after_look = once(start_anew)
    harbour.look()
    assert supervisors(job_id) == []


def test_a_stop_that_was_killed_is_repeated_and_leaves_none(harbour: Harbour) -> None:
    entry = harbour.start()
    job_id = entry["job_id"]
    with harbour.plane.registry.transaction() as state:
        state.services[job_id]["stop_requested_at"] = now_utc()
    assert harbour.look()[job_id]["pid"] == entry["tunnel"]["pid"]  # it goes on until the service is gone
    harbour.kill_tunnel(job_id)
    harbour.look()
    assert supervisors(job_id) == []
    stop(harbour.plane, harbour.entry(job_id))
    assert harbour.look() == {}


def test_a_stop_that_fails_leaves_the_service_its_tunnel(harbour: Harbour) -> None:
    entry = harbour.start()
    job_id = entry["job_id"]

    def fail() -> None:
        raise PlatformUnreachable("no answer")

    harbour.platform.during_stop = fail
    with pytest.raises(PlatformUnreachable):
        stop(harbour.plane, entry)
    assert harbour.entry(job_id) == entry
    assert supervisors(job_id) == [entry["tunnel"]["pid"]]
    harbour.kill_tunnel(job_id)
    assert harbour.look()[job_id]["state"] == "connecting"
    harbour.platform.during_stop = lambda: None
    stop(harbour.plane, entry)
    assert supervisors(job_id) == []


def test_a_look_in_the_middle_of_a_stop_of_all(harbour: Harbour) -> None:
    """Those whose turn has not come keep theirs until then."""
    entries = [harbour.start() for _ in range(3)]
    job_ids = [entry["job_id"] for entry in entries]
    seen: list[dict[str, Any]] = []

    def kill_all_and_look() -> None:
        for job_id in job_ids:
            harbour.kill_tunnel(job_id)
        seen.append(harbour.look())

    harbour.platform.during_stop = kill_all_and_look
    assert stop_all(harbour.plane, entries, ignore_progress) == job_ids
    states = [[fields.get(job_id, {}).get("state") for job_id in job_ids] for fields in seen]
    assert states == [["broken", "connecting", "connecting"], [None, "broken", "connecting"], [None, None, "broken"]]
    assert [supervisors(job_id) for job_id in job_ids] == [[]] * 3


def test_what_is_forgotten_keeps_no_tunnel(harbour: Harbour) -> None:
    entry = harbour.start()
    forget(harbour.plane, entry["job_id"])
    assert supervisors(entry["job_id"]) == []
    assert harbour.look() == {}
    forget(harbour.plane, entry["job_id"])


def test_what_is_found_again_has_its_tunnel_again_unless_it_is_stopped_meanwhile(harbour: Harbour) -> None:
    kept, stopped = harbour.start(), harbour.start()
    for entry in (kept, stopped):
        harbour.kill_tunnel(entry["job_id"])
    harbour.plane.registry.path.unlink()
    harbour.platform.after_look = once(lambda: stop(harbour.plane, stopped))
    (found,) = recover(harbour.plane, "slurm", ignore_progress)
    assert supervisors(kept["job_id"]) == [found["tunnel"]["pid"]] == [harbour.entry(kept["job_id"])["tunnel"]["pid"]]
    assert supervisors(stopped["job_id"]) == []
    stop(harbour.plane, kept)
    assert supervisors(kept["job_id"]) == []


def test_who_waits_for_a_service_starts_its_tunnel_again(harbour: Harbour) -> None:
    entry = harbour.start()
    harbour.kill_tunnel(entry["job_id"])
    body = json.dumps({"status": "ready", "job_id": entry["job_id"]}).encode()
    with Recorder(200, body) as server:
        waiting = {**entry, "host_url": f"http://localhost:{server.port}"}
        field = wait_for(harbour.plane, waiting, 30.0, ignore_progress)["tunnel"]
    assert supervisors(entry["job_id"]) == [field["pid"]]
