"""What Brev and its machines say, as errors and lives of ours."""

from __future__ import annotations

import os

import pytest

from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    PlatformUnreachable,
    PreflightError,
    TryAgainError,
    UsageError,
)
from moorage.launch.platforms.brev.faults import command_fault, command_missing, create_fault
from moorage.launch.platforms.brev.instances import Instance, standing_of
from moorage.launch.platforms.brev.lives import cost_words, life_beyond, life_on
from moorage.launch.platforms.life import Life
from moorage.launch.processes import identity_of
from moorage.launch.remote.docker_way import fault_of
from moorage.launch.remote.host import Ran

NONE_MADE = "could only create 0/1 instances"
MISSING = Life(state="exited", detail="no such container", exists=False)
SILENT = PlatformUnreachable("box does not answer")


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        (
            f'Skipping: instance type "h100" is now unavailable (no capacity)\n{NONE_MADE}',
            TryAgainError,
            "no_cap",
        ),
        (f"[Worker 1] h100 Failed: Insufficient capacity\n{NONE_MADE}", TryAgainError, "no_capacity"),
        (f"[Worker 1] h100 Failed: quota exceeded\n{NONE_MADE}", TryAgainError, "no_capacity"),
        (f'instance type "h100" is not a recognized type; run …\n{NONE_MADE}', UsageError, "bad_instance_type"),
        ("workspace 'moorage-1' already exists", ConflictError, "name_taken"),
        ("You are currently logged out, would you like to log in? [Y/n]: \nEOF", PreflightError, "brev_login"),
        ("dial tcp: lookup brevapi: no such host", PlatformUnreachable, "platform_unreachable"),
        (f"[Worker 1] h100 Failed: 500\n{NONE_MADE}", FailedError, "create_failed"),
        ("", FailedError, "create_failed"),
    ],
)
def test_why_an_instance_was_not_created(said: str, error: type[MoorageError], code: str):
    fault = create_fault("moorage-1", "h100", said)
    assert type(fault) is error
    assert fault.code.startswith(code)
    assert all(line.strip() in fault.message for line in said.splitlines())


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        ("You are currently logged out, would you like to log in? [Y/n]: EOF", PreflightError, "brev_login"),
        ("rpc error: 401 Unauthorized", PreflightError, "brev_login"),
        ("dial tcp 1.2.3.4:443: i/o timeout", PlatformUnreachable, "platform_unreachable"),
        ("something new", PlatformUnreachable, "platform_unreachable"),
    ],
)
def test_why_a_call_failed(said: str, error: type[MoorageError], code: str):
    fault = command_fault("ls --json", said)
    assert (type(fault), fault.code) == (error, code)
    assert said in fault.message


def test_the_login_is_the_user_s_to_do():
    fault = command_fault("ls", "logged out")
    assert fault.next == ["brev login"]
    assert "BREV_API_TOKEN" in fault.hint
    assert command_missing().exit_status == 5


def test_long_words_lose_their_beginning():
    fault = command_fault("ls", "\n".join(f"line {number}" for number in range(1000)))
    assert fault.message.endswith("line 999")
    assert len(fault.message) < 600


@pytest.mark.parametrize(
    ("ran", "code"),
    [
        (Ran(127, "", "sh: 1: docker: not found"), "docker_missing"),
        (Ran(1, "", "permission denied while trying to connect to the Docker daemon socket"), "docker_permission"),
        (Ran(1, "", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."), "docker_unreachable"),
        (Ran(1, "", ""), "docker_unreachable"),
    ],
)
def test_what_a_machine_says_of_its_docker(ran: Ran, code: str):
    fault = fault_of("box", ran)
    assert fault is not None
    assert (fault.code, "box" in fault.message, bool(fault.hint)) == (code, True, True)


def test_a_machine_that_finds_nothing_wrong():
    assert fault_of("box", Ran(0, "28.2.2\n", "")) is None


def entry(**fields: object) -> dict[str, object]:
    return {"job_id": "j", "instance_id": "box", **fields}


class TestLifeOnAnInstanceThatAnswers:
    def test_is_that_of_its_container(self):
        alive = Life(state="alive")
        assert life_on(entry(created_instance=True), alive) is alive
        assert life_on(entry(), MISSING) is MISSING

    def test_of_one_that_is_launched_now(self):
        me = identity_of(os.getpid())
        assert me is not None
        life = life_on(entry(created_instance=True, starter=me.as_field()), MISSING)
        assert (life.state, life.exists) == ("alive", True)

    def test_a_machine_that_a_cut_off_start_made_is_something_left(self):
        life = life_on(entry(created_instance=True, starter={"pid": 1, "started": "never"}), MISSING)
        assert (life.state, life.exists) == ("exited", True)
        assert "box" in (life.detail or "")


@pytest.mark.parametrize(
    ("status", "state", "exists"),
    [
        ("RUNNING", "unknown", True),
        ("UNHEALTHY", "unknown", True),
        ("DEPLOYING", "alive", True),
        ("STARTING", "alive", True),
        ("STOPPED", "exited", True),
        ("STOPPING", "exited", True),
        ("FAILURE", "exited", True),
        (None, "exited", False),
    ],
)
def test_life_on_an_instance_that_does_not_answer(status: str | None, state: str, exists: bool):
    instance = Instance("box", "abc", status, "COMPLETED", "cpu") if status else None
    life = life_beyond(entry(), instance, standing_of(instance), SILENT)
    assert (life.state, life.exists) == (state, exists)
    assert (status or "no Brev instance") in (life.detail or "")


def test_an_entry_of_another_tool_is_unknown():
    assert life_beyond({"job_id": "j"}, None, "gone", SILENT).state == "unknown"


def test_what_a_stop_says_of_the_costs():
    assert "brev stop box" in cost_words("box", created=False)
    assert "brev delete box" not in cost_words("box", created=False)
    assert "brev delete box" in cost_words("box", created=True)
