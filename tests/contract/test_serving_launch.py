"""The launch backend: replicas as services, whatever dies, is cut off or is asked for at once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from moorage.errors import MoorageError
from moorage.launch.recover import recover
from moorage.launch.start import start
from moorage.launch.stop import stop
from moorage.serving.backends.contract import AppState, BackendUnreachable
from moorage.serving.backends.launch.starting import Terms, job_id_of, start_request
from moorage.serving.reasons import Reason
from moorage.serving.spec.spec import Autoscaling
from tests.contract.launch_backend_parts import Harbour, get, pids, until


@pytest.fixture
def harbour(tmp_path):
    harbour = Harbour(tmp_path)
    yield harbour
    harbour.close()


@pytest.fixture
def backend(harbour):
    backend = harbour.backend()
    yield backend
    backend.close()


def running(app, replicas=1):
    return lambda seen: app in seen and seen[app].state is AppState.RUNNING and seen[app].replicas_ready == replicas


def test_a_replica_is_started_as_it_was_declared(harbour, backend):
    wanted = harbour.wanted(engine_kwargs={"max_model_len": 128, "enforce_eager": True})
    backend.apply([wanted])
    seen = until(backend, running(wanted.app))[wanted.app]
    assert seen.digest == backend.digest(wanted)
    assert [one.model for one in seen.endpoints] == ["alice-202601010000-m"]
    words = get(seen, "/stub/started")["words"]
    assert words[words.index("--served-model-name") + 1] == "alice-202601010000-m"
    assert words[-2:] == ["--enforce-eager", "--max-model-len=128"]
    assert any("starting" in line and line.startswith("[replica-0] ") for line in backend.logs(wanted.app, 50))
    assert backend.summary()["services"][0]["app"] == wanted.app


def test_scaling_starts_and_stops_only_what_differs(harbour, backend):
    one, two = harbour.wanted(), harbour.wanted(num_replicas=2)
    backend.apply([one])
    first = pids(until(backend, running(one.app))[one.app])
    backend.apply([two])
    both = pids(until(backend, running(one.app, 2))[one.app])
    assert set(first) < set(both)
    backend.apply([one])
    left = pids(until(backend, lambda seen: running(one.app)(seen) and len(harbour.entries()) == 1)[one.app])
    assert left == first


def test_what_is_listed_no_more_goes_and_the_others_stay(harbour, backend):
    one, other = harbour.wanted("one"), harbour.wanted("other")
    backend.apply([one, other])
    seen = until(backend, lambda seen: running(one.app)(seen) and running(other.app)(seen))
    before = pids(seen[other.app])
    backend.apply([other])
    seen = until(backend, lambda seen: one.app not in seen)
    assert pids(seen[other.app]) == before
    assert [entry["served_model_name"] for entry in harbour.entries()] == [other.model_id]


def test_a_replica_that_is_killed_is_started_again(harbour, backend):
    wanted = harbour.wanted()
    backend.apply([wanted])
    (before,) = pids(until(backend, running(wanted.app))[wanted.app])
    os.kill(before, signal.SIGKILL)
    seen = until(backend, lambda seen: seen[wanted.app].state is AppState.DEGRADED)
    assert (seen[wanted.app].endpoints, seen[wanted.app].reason) == ((), Reason.DEGRADED)
    seen = until(backend, running(wanted.app))
    assert pids(seen[wanted.app]) != [before]


def test_one_that_lives_and_does_not_answer_gets_nothing_and_is_replaced(harbour, backend):
    wanted = harbour.wanted()
    backend.apply([wanted])
    (before,) = pids(until(backend, running(wanted.app))[wanted.app])
    os.kill(before, signal.SIGSTOP)
    until(backend, lambda seen: seen[wanted.app].endpoints == ())
    try:
        seen = until(backend, running(wanted.app))
        assert pids(seen[wanted.app]) != [before]
    finally:
        os.kill(before, signal.SIGCONT)  # to heed that it was told to end


def test_what_never_came_up_has_failed_and_says_why_until_it_is_taken_away(harbour, backend):
    wanted = harbour.wanted(model="broken", num_replicas=2)
    backend.apply([wanted])
    seen = until(backend, lambda seen: seen[wanted.app].state is AppState.FAILED)[wanted.app]
    assert "ValueError: the weights are of another model" in seen.message
    lines = list(backend.logs(wanted.app, 10))
    assert any("ValueError" in line for line in lines)
    assert any("it ended: " in line for line in lines)
    for _ in range(3):
        assert backend.observe()[wanted.app].state is AppState.FAILED
    backend.apply([])
    until(backend, lambda seen: wanted.app not in seen)
    assert harbour.entries() == []


def test_a_refused_spec_changes_nothing(harbour, backend):
    good, bad = harbour.wanted("good"), harbour.wanted("bad", engine_kwargs={"port": 1})
    with pytest.raises(MoorageError) as caught:
        backend.apply([good, bad])
    assert caught.value.code == "reserved_argument"
    assert backend.observe() == {}
    assert harbour.entries() == []


def test_a_load_that_would_not_be_followed_is_refused(harbour, backend):
    with pytest.raises(MoorageError) as caught:
        backend.apply([harbour.wanted(autoscaling=Autoscaling(min_replicas=1, max_replicas=3))])
    assert caught.value.code == "backend_has_no_autoscaling"
    assert backend.observe() == {}


def test_a_disk_that_is_full_is_no_fault_of_a_model(harbour, backend):
    """What cannot be written down is not done: nothing is concluded, and the next time it works."""
    folder = harbour.plane.registry.path.parent
    blocked = next(iter(folder.glob("*serving-*")), None)
    assert blocked is None
    wanted, taken = harbour.wanted(), backend._file._path
    Path(taken).mkdir()
    with pytest.raises(BackendUnreachable):
        backend.apply([wanted])
    assert harbour.entries() == []
    Path(taken).rmdir()
    backend.apply([wanted])
    until(backend, running(wanted.app))


def test_a_new_control_plane_goes_on_where_the_old_one_was(harbour, backend):
    wanted = harbour.wanted(num_replicas=2)
    backend.apply([wanted])
    before = pids(until(backend, running(wanted.app, 2))[wanted.app])
    again = harbour.backend()
    seen = again.observe()
    assert running(wanted.app, 2)(seen)
    assert seen[wanted.app].digest == again.digest(wanted)
    again.apply([wanted])
    assert pids(until(again, running(wanted.app, 2))[wanted.app]) == before
    again.close()


def test_a_crash_between_start_and_record_starts_nothing_twice(harbour, backend):
    """The registry is lost, as when the process was killed before it wrote: the service is found by its label."""
    wanted = harbour.wanted()
    start(
        harbour.plane,
        start_request(wanted, Terms(accelerator="cpu"), scope=harbour.scope, slot=0),
        lambda *_, **__: None,
    )
    harbour.plane.registry.path.unlink()
    backend.apply([wanted])
    until(backend, running(wanted.app))
    assert [entry["job_id"] for entry in harbour.entries()] == [job_id_of(harbour.scope, wanted.app, 0)]
    assert len(harbour.plane.platform("local-process").find()) >= 1
    ours = [
        one for one in harbour.plane.platform("local-process").find() if one["job_id"] == harbour.entries()[0]["job_id"]
    ]
    assert len(ours) == 1


def test_without_its_own_file_it_finds_what_runs_and_is_told_again(harbour, backend):
    wanted, gone = harbour.wanted("stays"), harbour.wanted("goes")
    backend.apply([wanted, gone])
    before = pids(until(backend, lambda seen: running(wanted.app)(seen) and running(gone.app)(seen))[wanted.app])
    for file in harbour.plane.registry.path.parent.glob("*serving-*"):
        file.unlink()
    again = harbour.backend()
    seen = again.observe()
    assert {app: one.digest for app, one in seen.items()} == {wanted.app: "", gone.app: ""}
    again.apply([wanted])
    seen = until(again, lambda seen: running(wanted.app)(seen) and gone.app not in seen)
    assert pids(seen[wanted.app]) == before
    again.close()


def test_a_service_of_somebody_else_is_never_touched(harbour, backend):
    theirs, ours = harbour.wanted("theirs"), harbour.wanted("ours")
    other = harbour.backend(another=True)
    other.apply([theirs])
    before = pids(until(other, running(theirs.app))[theirs.app])
    backend.apply([ours])
    until(backend, running(ours.app))
    backend.apply([])
    assert theirs.app not in until(backend, lambda seen: seen == {})
    assert pids(other.observe()[theirs.app]) == before
    other.close()


def test_a_replica_that_a_person_stopped_is_started_again(harbour, backend):
    wanted = harbour.wanted()
    backend.apply([wanted])
    until(backend, running(wanted.app))
    stop(harbour.plane, harbour.entries()[0])
    until(backend, lambda seen: running(wanted.app)(seen) and len(harbour.entries()) == 1)


def test_another_default_of_the_platform_replaces_replicas_when_the_new_ones_serve(harbour, backend):
    wanted = harbour.wanted()
    backend.apply([wanted])
    before = pids(until(backend, running(wanted.app))[wanted.app])
    again = harbour.backend(engine_kwargs={"max_num_seqs": 3})
    assert again.digest(wanted) != backend.digest(wanted)
    again.apply([wanted])
    seen = until(
        again,
        lambda seen: running(wanted.app)(seen) and len(harbour.entries()) == 1 and pids(seen[wanted.app]) != before,
    )
    assert "--max-num-seqs=3" in get(seen[wanted.app], "/stub/started")["words"]
    again.close()


def test_a_damaged_registry_is_said_and_nothing_is_concluded(harbour, backend):
    wanted = harbour.wanted()
    backend.apply([wanted])
    before = pids(until(backend, running(wanted.app))[wanted.app])
    good = harbour.plane.registry.path.read_bytes()
    harbour.plane.registry.path.write_bytes(b"{")
    with pytest.raises(BackendUnreachable):
        backend.observe()
    harbour.plane.registry.path.write_bytes(good)
    assert pids(until(backend, running(wanted.app))[wanted.app]) == before


def test_gpus_are_handed_out_once_and_missing_ones_are_said(harbour):
    backend = harbour.backend(accelerator="gpu", gpu_ids=("0", "1", "2"))
    small, large = harbour.wanted("small", num_replicas=2), harbour.wanted("large", gpus_per_replica=2)
    backend.apply([small])
    seen = until(backend, running(small.app, 2))
    given = [get(seen[small.app], "/stub/started", index)["env"]["CUDA_VISIBLE_DEVICES"] for index in (0, 1)]
    assert sorted(given) == ["0", "1"]
    backend.apply([small, large])
    seen = until(backend, lambda seen: seen[large.app].reason is Reason.NO_CAPACITY)
    assert seen[large.app].state is AppState.DEPLOYING
    backend.apply([large])
    until(backend, running(large.app))
    backend.close()


class TestAdapters:
    def test_they_are_loaded_before_the_model_counts_as_ready(self, harbour, backend):
        wanted = harbour.wanted(lora=(harbour.adapter("poet"),))
        backend.apply([wanted])
        seen = until(backend, running(wanted.app))[wanted.app]
        assert seen.endpoints[0].adapters == ("poet",)
        assert [card["id"] for card in get(seen, "/v1/models")["data"]] == [wanted.model_id, "poet"]
        words = get(seen, "/stub/started")["words"]
        assert "--enable-lora" in words
        assert "--max-lora-rank=16" in words

    def test_they_come_and_go_without_a_restart(self, harbour, backend):
        poet, clerk = harbour.adapter("poet"), harbour.adapter("clerk")
        before = harbour.wanted(lora=(poet,))
        backend.apply([before])
        pid = pids(until(backend, running(before.app))[before.app])
        after = harbour.wanted(lora=(clerk,))
        assert after.app == before.app
        assert backend.digest(after) != backend.digest(before)
        backend.apply([after])
        seen = until(backend, running(after.app))[after.app]
        assert (pids(seen), seen.endpoints[0].adapters) == (pid, ("clerk",))
        assert [card["id"] for card in get(seen, "/v1/models")["data"]] == [after.model_id, "clerk"]

    def test_a_bad_one_is_refused_and_the_others_stay(self, harbour, backend):
        before = harbour.wanted(lora=(harbour.adapter("poet"),), num_replicas=2)
        backend.apply([before])
        until(backend, running(before.app, 2))
        bad = harbour.wanted(lora=(harbour.adapter("clerk"), harbour.adapter("bad", good=False)), num_replicas=2)
        with pytest.raises(MoorageError) as caught:
            backend.apply([bad])
        assert caught.value.code == "adapter_refused"
        assert "'bad'" in caught.value.message
        seen = until(backend, running(before.app, 2))[before.app]
        assert seen.digest == backend.digest(before)
        for index in (0, 1):
            assert [card["id"] for card in get(seen, "/v1/models", index)["data"]] == [before.model_id, "poet"]

    def test_a_bad_one_from_the_start_fails_the_application(self, harbour, backend):
        wanted = harbour.wanted(lora=(harbour.adapter("bad", good=False),))
        backend.apply([wanted])
        seen = until(backend, lambda seen: seen[wanted.app].state is AppState.FAILED)[wanted.app]
        assert "refused the adapter 'bad'" in seen.message
        backend.apply([])
        until(backend, lambda seen: wanted.app not in seen)

    def test_they_are_loaded_again_into_a_replica_that_was_killed(self, harbour, backend):
        wanted = harbour.wanted(lora=(harbour.adapter("poet"),))
        backend.apply([wanted])
        (before,) = pids(until(backend, running(wanted.app))[wanted.app])
        os.kill(before, signal.SIGKILL)
        until(backend, lambda seen: seen[wanted.app].replicas_ready == 0)
        seen = until(backend, running(wanted.app))[wanted.app]
        assert [card["id"] for card in get(seen, "/v1/models")["data"]] == [wanted.model_id, "poet"]


def test_two_control_planes_at_once_start_one_replica(harbour):
    """The lease keeps them apart; a late one all the same starts nothing twice."""
    wanted, planes = harbour.wanted(), [harbour.backend(), harbour.backend()]
    threads = [threading.Thread(target=plane.apply, args=[[wanted]]) for plane in planes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for plane in planes:
        until(plane, running(wanted.app))
    assert len(harbour.entries()) == 1
    recover(harbour.plane, "local-process", lambda *_, **__: None)
    assert len(harbour.entries(wanted.app)) == 1
    for plane in planes:
        plane.close()
