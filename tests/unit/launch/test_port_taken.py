"""A port that somebody takes between the look and the bind: the start goes to the next one.

That moment cannot be met at will with a real platform, so this one refuses; that real ones refuse so is shown in
tests/contract/platform_contract.py.
"""

from __future__ import annotations

import pytest

from moorage.errors import PortTaken
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.platforms.life import Life
from moorage.launch.ports import port_is_free
from moorage.launch.start import PORT_TRIES, start


class Refusing:
    """Refuses to bind the first ports that it is given."""

    name = "local-docker"

    def __init__(self, refusals):
        self.refusals, self.offered, self.stopped = refusals, [], []

    def plan(self, _submission):
        return {}

    def preflight(self, _submission, **_options):
        return {}

    def submit(self, submission):
        self.offered.append(submission.port)
        if len(self.offered) <= self.refusals:
            raise PortTaken(f"port {submission.port} is taken")
        return {}

    def status(self, entries):
        return {entry["job_id"]: Life(state="alive") for entry in entries}

    def stop(self, entry):
        self.stopped.append(entry["host_port"])


def start_on(platform, state_file, **given):
    plane = Plane({"MOORAGE_STATE_FILE": str(state_file)}, platforms={"local-docker": platform})
    wanted = {"network_arch": "vllm", "model_path": "hf_model://org/model", "platform": "local-docker", "no_wait": True}
    talk = []
    try:
        return plane, start(plane, StartRequest(**wanted, **given), lambda *words, **_numbers: talk.append(words)), talk
    except PortTaken as fault:
        return plane, fault, talk


def test_the_next_port_is_tried_and_nothing_of_the_first_is_left(tmp_path):
    platform = Refusing(2)
    plane, entry, talk = start_on(platform, tmp_path / "state.json")
    first, second, third = platform.offered
    assert first < second < third
    assert entry["host_port"] == third
    assert [one["host_port"] for one in plane.registry.read().services.values()] == [third]
    assert sum("trying the next port" in message for _, message in talk) == 2


def test_it_gives_up_in_the_end_and_leaves_no_entry(tmp_path):
    platform = Refusing(10_000)
    plane, fault, _ = start_on(platform, tmp_path / "state.json")
    assert (fault.code, fault.exit_status) == ("port_taken", 6)
    assert len(set(platform.offered)) == len(platform.offered) == PORT_TRIES
    assert plane.registry.read().services == {}


def test_a_port_that_the_user_named_is_the_only_one_tried(tmp_path):
    port = next(port for port in range(20_000, 30_000) if port_is_free(port))
    platform = Refusing(1)
    plane, fault, _ = start_on(platform, tmp_path / "state.json", host_port=port)
    assert isinstance(fault, PortTaken)
    assert platform.offered == [port]
    assert plane.registry.read().services == {}


@pytest.mark.parametrize("refusals", [0, 1])
def test_ports_of_other_entries_are_passed_over(tmp_path, refusals):
    state_file = tmp_path / "state.json"
    _, first, _ = start_on(Refusing(0), state_file)
    platform = Refusing(refusals)
    _, second, _ = start_on(platform, state_file)
    assert first["host_port"] not in platform.offered
    assert second["host_port"] == platform.offered[-1]
