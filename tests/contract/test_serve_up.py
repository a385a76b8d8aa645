"""`moor serve up|down|status`: one command each, whatever is in the way, dies or is interrupted."""

from __future__ import annotations

import json
import os
import signal
import stat
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.launch.processes import all_processes, environment_of
from moorage.serving.up.parts import FOLDER_VARIABLE
from tests.contract.platform_contract import free_port
from tests.stand_ins.vllm_command import install

WITHIN_S = 240.0


class Machine:
    """A user's machine: a folder for state, two ports, and the stand-in engine."""

    def __init__(self, moor: Callable, folder: Path) -> None:
        self.moor = moor
        self.folder = folder / "xdg-state" / "moorage" / "serve"
        self.ports = (free_port(), free_port())
        self.env = {"MOORAGE_VLLM_PYTHON": str(install(folder / "engine")), "CUDA_VISIBLE_DEVICES": ""}

    def flags(self, backend: str, *more: str | Path) -> list[str]:
        ports = ["--port", str(self.ports[0]), "--inference-port", str(self.ports[1])]
        return ["serve", "up", "--backend", backend, *ports, *map(str, more), "--json"]

    def up(self, backend: str = "memory", *more: str | Path):
        return self.moor(*self.flags(backend, *more), env=self.env, timeout=WITHIN_S)

    def begin(self, backend: str, *more: str | Path):
        return self.moor.popen(*self.flags(backend, *more), env=self.env)

    def status(self):
        return self.moor("serve", "status", "--json", env=self.env).out["data"]

    def down(self):
        return self.moor("serve", "down", "--json", env=self.env, timeout=WITHIN_S)

    def pid(self, part: str) -> int:
        return next(one["pid"] for one in self.status()["parts"] if one["name"] == part)

    def left(self) -> list[int]:
        """Every process that was started by it, asked of the kernel."""
        mark = str(self.folder)
        return [
            pid
            for pid, found in all_processes().items()
            if found.lives and environment_of(pid).get(FOLDER_VARIABLE) == mark
        ]


@pytest.fixture
def machine(moor, tmp_path):
    machine = Machine(moor, tmp_path)
    yield machine
    machine.down()
    assert machine.left() == []


def until_event(process, event: str, words: str = "") -> None:
    """Read the talk of a command until it tells of that."""
    for line in process.stderr:
        said = json.loads(line)
        if said["event"] == event and words in said["message"]:
            return
    pytest.fail(f"it ended without {event}: {process.stdout.read()}")


def test_up_again_status_and_down(machine):
    assert machine.status()["state"] == "down"
    first = machine.up()
    assert first.rc == 0, (first.out, first.err)
    data = first.out["data"]
    assert (data["already"], data["model_alias"], data["answer"]) == (False, "demo/nano", None)
    for name in ("admin-token", "user-token", "gateway-token", "serve.json"):
        assert stat.S_IMODE((machine.folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700
    told = machine.status()
    assert (told["state"], [part["state"] for part in told["parts"]]) == ("up", ["answers", "answers"])
    assert [model["model_alias"] for model in told["models"]] == ["demo/nano"]

    again = machine.up()
    assert (again.rc, again.out["data"]["already"]) == (0, True)
    assert [part["pid"] for part in machine.status()["parts"]] == [part["pid"] for part in told["parts"]]
    other = machine.up("launch")
    assert (other.rc, other.out["error"]["code"]) == (6, "serve_differs")

    secrets = [(machine.folder / name).read_text().strip() for name in ("admin-token", "user-token", "gateway-token")]
    said = json.dumps([first.out, first.err, told, (machine.folder / "serve.json").read_text()])
    commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in machine.left())
    logs = "".join(log.read_text() for log in machine.folder.glob("*.log"))
    assert not any(secret in text for secret in secrets for text in (said, commands, logs))

    ended = machine.down()
    assert (ended.rc, ended.out["data"]["ended"]) == (0, ["the gateway", "the api"])
    assert machine.left() == []
    assert machine.status()["state"] == "down"
    assert machine.down().out["data"]["ended"] == []


def test_a_taken_port_is_named_and_nothing_begins(machine):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.ports[1]))
        taken.listen()
        answer = machine.up()
    assert (answer.rc, answer.out["error"]["code"]) == (6, "port_taken")
    assert f"--inference-port {machine.ports[1]} is in use by pid {os.getpid()}" in answer.out["error"]["message"]
    assert machine.left() == []


def test_a_part_that_was_killed_is_told_and_started_again(machine):
    assert machine.up().rc == 0
    api, gateway = machine.pid("api"), machine.pid("gateway")
    os.kill(gateway, signal.SIGKILL)
    told = machine.status()
    assert (told["state"], [part["state"] for part in told["parts"]]) == ("partial", ["answers", "dead"])
    again = machine.up()
    assert (again.rc, again.out["data"]["already"]) == (0, False)
    assert machine.pid("api") == api
    assert machine.pid("gateway") != gateway
    os.kill(api, signal.SIGKILL)
    assert machine.down().rc == 0
    assert machine.left() == []


def test_the_model_answers_and_comes_back_after_down(machine):
    """With the stand-in engine; what was declared is still declared."""
    first = machine.up("launch")
    assert first.rc == 0, (first.out, first.err)
    data = first.out["data"]
    assert data["answer"] == "4"
    with urllib.request.urlopen(data["openai_base_url"] + "/models", timeout=10) as reply:
        assert data["model_id"] in [card["id"] for card in json.loads(reply.read())["data"]]
    os.kill(machine.pid("api"), signal.SIGKILL)
    assert "1 replica" in machine.down().out["data"]["ended"]
    assert machine.left() == []
    again = machine.up("launch")
    assert (again.rc, again.out["data"]["model_key"], again.out["data"]["answer"]) == (0, data["model_key"], "4")


def test_what_cannot_be_served_is_undone_and_says_why(machine, tmp_path):
    answer = machine.up("launch", "--root", tmp_path / "broken")
    assert (answer.rc, answer.out["error"]["code"]) == (8, "model_failed"), answer.out
    assert "ValueError: the weights are of another model" in answer.out["error"]["message"]
    assert machine.left() == []
    assert machine.status()["state"] == "down"


def test_an_api_that_dies_says_why_and_is_undone(machine):
    (machine.folder).mkdir(parents=True, mode=0o700)
    (machine.folder / "serving.db").write_text("this is no database, whatever its name says" * 100)
    answer = machine.up()
    assert answer.rc == 8, answer.out
    assert answer.out["error"]["code"] == "serve_part_died"
    assert answer.out["data"]["log_tail"]
    assert machine.left() == []
    assert machine.status()["state"] == "down"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_is_undone(machine, tmp_path, number):
    begun = machine.begin("launch", "--root", tmp_path / "slow")
    until_event(begun, "model", "DEPLOYING")
    begun.send_signal(number)
    out, err = begun.communicate(timeout=WITHIN_S)
    assert (begun.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted"), err
    assert machine.left() == []
    assert machine.status()["state"] == "down"


def test_an_up_that_was_killed_leaves_nothing_that_down_does_not_find(machine, tmp_path):
    begun = machine.begin("launch", "--root", tmp_path / "slow")
    until_event(begun, "model", "DEPLOYING")
    begun.kill()
    begun.communicate(timeout=60)
    assert machine.status()["state"] == "up"
    (machine.folder / "serve.json").unlink()
    assert machine.status()["state"] == "partial"
    assert machine.down().rc == 0
    assert machine.left() == []


def test_a_model_that_takes_longer_stays(machine, tmp_path):
    answer = machine.up("launch", "--root", tmp_path / "slow", "--wait", "1")
    assert (answer.rc, answer.out["error"]["code"]) == (7, "not_settled")
    assert machine.status()["state"] == "up"


def test_two_at_once_bring_up_one(machine):
    both = [machine.begin("memory") for _ in range(2)]
    answers = [json.loads(one.communicate(timeout=WITHIN_S)[0]) for one in both]
    assert all(answer["ok"] for answer in answers), answers
    assert sorted(answer["data"]["already"] for answer in answers) == [False, True]
    assert len(machine.status()["parts"]) == 2


def test_others_tokens_are_not_taken(machine):
    machine.folder.mkdir(parents=True, mode=0o700)
    (machine.folder / "admin-token").write_text("readable by all\n")
    (machine.folder / "admin-token").chmod(0o644)
    answer = machine.up()
    assert (answer.rc, answer.out["error"]["code"]) == (5, "serve_folder")
    assert machine.left() == []


def test_words_that_mean_nothing(machine):
    assert machine.up("kubernetes").rc == 2
    assert machine.moor("serve", "up", "--port", "70000", "--json").rc == 2
    assert machine.moor("serve", "sideways", "--json").rc == 2
