"""Commands at the same moment, as real processes: nothing is lost, nothing is left, and nobody is told a lie."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.contract.stand_ins import StandIns, reapers_of, until

Running = subprocess.Popen[str]


def finish(commands: Sequence[Running]) -> list[tuple[int, dict[str, object], str]]:
    """(exit status, what it answered, what it said) of each."""
    answers = []
    for command in commands:
        out, err = command.communicate(timeout=120)
        answers.append((command.returncode, json.loads(out), err))
    return answers


def test_eight_starts_at_once_take_eight_ports_and_lose_no_entry(stand_ins: StandIns) -> None:
    stand_ins.own_ports = False
    count = 4 if stand_ins.engine else 8
    answers = finish([stand_ins.popen_start("never-ready", "--no-wait") for _ in range(count)])
    assert [rc for rc, _, _ in answers] == [0] * count, answers
    ports = {out["data"]["host_port"] for _, out, _ in answers}
    assert len(ports) == count
    state = stand_ins.read_state()
    assert set(state) == {out["data"]["job_id"] for _, out, _ in answers} | {"latest"}
    assert all("starter" not in entry for entry in state.values() if isinstance(entry, dict))
    assert stand_ins.moor("stop", "--all", "--json").rc == 0
    assert [stand_ins.left_of(job_id) for job_id in stand_ins.job_ids] == [[]] * count


def test_two_starts_with_one_id(local: StandIns) -> None:
    job_id = local.new_id()
    answers = finish([local.popen_start("ready", job_id=job_id) for _ in range(2)])
    good = [out for rc, out, _ in answers if rc == 0]
    refused = [(rc, out["error"]["code"]) for rc, out, _ in answers if rc != 0]
    assert (len(good), refused) == (1, [(6, "job_id_taken")])
    assert local.read_state()[job_id] == good[0]["data"]
    assert local.seen(job_id)["state"] == "ready"


@pytest.mark.parametrize("round_", range(6))
def test_a_stop_while_it_starts(local: StandIns, round_: int) -> None:
    stop_while_starting(local, random.Random(round_).uniform(0, 0.6))


@pytest.mark.docker
@pytest.mark.parametrize("round_", range(3))
def test_a_stop_while_a_container_starts(in_docker: StandIns, round_: int) -> None:
    stop_while_starting(in_docker, [0.0, 0.15, 0.5][round_])


def stop_while_starting(stand_ins: StandIns, delay_s: float) -> None:
    """The start fails since it was stopped, or was over before; either way nothing is left."""
    job_id = stand_ins.new_id()
    start = stand_ins.popen_start("ready", "--ttl", "1h", job_id=job_id)
    stand_ins.await_entry(job_id)
    time.sleep(delay_s)  # not waiting for anything: the moment is what is tested
    stop = stand_ins.moor.popen("stop", job_id, "--json")
    ((started, started_out, err), (stopped, stopped_out, _)) = finish([start, stop])
    assert stopped == 0, stopped_out
    assert started in (0, 6), (started_out, err)
    if started == 6:
        assert started_out["error"]["code"] == "stopped"
    until(lambda: stand_ins.left_of(job_id) == [], "nothing is left", within_s=15)
    assert stand_ins.read_state() == {}
    assert reapers_of(job_id) == []


def test_two_stops_at_once(stand_ins: StandIns) -> None:
    """The second finds it being stopped, or stopped."""
    job_id = stand_ins.start("ready", "--ttl", "1h")["job_id"]
    answers = finish([stand_ins.moor.popen("stop", job_id, "--json") for _ in range(3)])
    assert {rc for rc, _, _ in answers} <= {0, 3}
    assert 0 in {rc for rc, _, _ in answers}
    assert stand_ins.left_of(job_id) == []


def test_a_stop_and_a_prune_and_a_recover_at_once(local: StandIns) -> None:
    """A recover may bring back an entry that is stopped meanwhile: then the list says that it is dead."""
    job_id = local.start()["job_id"]
    verbs = [["stop", job_id], ["prune"], ["recover", "--platform", "local-process"], ["list"]]
    answers = finish([local.moor.popen(*words, "--json") for words in verbs])
    assert [rc for rc, _, _ in answers] == [0] * 4, answers
    assert not local.runs(job_id)
    entry = local.seen(job_id)
    assert entry is None or entry["state"] == "exited"


def test_a_wait_and_a_start_both_see_it_ready(local: StandIns) -> None:
    job_id = local.new_id()
    start = local.popen_start("slow/0.5", job_id=job_id)
    local.await_entry(job_id)
    answers = finish([start, local.moor.popen("wait", job_id, "--json")])
    assert [(rc, out["data"]["state"]) for rc, out, _ in answers] == [(0, "ready"), (0, "ready")]
    assert "starter" not in local.read_state()[job_id]
