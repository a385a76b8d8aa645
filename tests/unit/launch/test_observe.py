"""What a service does now, from what its platform and its server say; the platforms are written down."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import PlatformUnreachable, PreflightError
from moorage.launch.observe import as_seen, observe
from moorage.launch.plane import Plane
from moorage.launch.platforms.life import Life
from moorage.launch.processes import identity_of
from moorage.launch.recover import recover
from moorage.launch.stop import dead_entries
from tests.contract.recorder import Recorder

ME = identity_of(os.getpid())
NOBODY = {"pid": os.getpid(), "started": "another-boot:1"}
GONE = Life(state="exited", detail="no such thing", exists=False)
DIED = Life(state="exited", detail="exit code 3")
ALIVE = Life(state="alive")
UNKNOWN = Life(state="unknown", detail="no engine")


class Told:
    """A platform that says what it is told to, and counts how often it is asked."""

    name = "local-docker"

    def __init__(self, lives: dict[str, Life], found: list[dict[str, Any]] | Exception = ()) -> None:
        self.lives, self.found, self.asked = lives, found, 0

    def status(self, entries: list[dict[str, Any]]) -> dict[str, Life]:
        self.asked += 1
        return {entry["job_id"]: self.lives[entry["job_id"]] for entry in entries}

    def find(self) -> list[dict[str, Any]]:
        if isinstance(self.found, Exception):
            raise self.found
        return list(self.found)


def plane_of(folder: Path, **platforms: Told) -> Plane:
    named = {name.replace("_", "-"): told for name, told in platforms.items()}
    return Plane({"MOORAGE_STATE_FILE": str(folder / "state.json")}, platforms=named)  # type: ignore[arg-type]


def entry(job_id: str, **fields: Any) -> dict[str, Any]:
    return {"job_id": job_id, "platform": "local-docker", "network_arch": "cosmos-rl", **fields}


@pytest.mark.parametrize(
    ("life", "fields", "state"),
    [
        (ALIVE, {"state": "ready"}, "ready"),
        (ALIVE, {"state": "starting"}, "starting"),
        (ALIVE, {}, "ready"),  # of a tool that writes no state: as far as anybody knows
        (UNKNOWN, {"state": "ready"}, "unknown"),
        (DIED, {"state": "ready"}, "exited"),
        (GONE, {"state": "ready"}, "exited"),
        (GONE, {"state": "starting"}, "exited"),
        (GONE, {"state": "starting", "starter": ME.as_field()}, "starting"),
        (GONE, {"state": "starting", "starter": NOBODY}, "failed"),
        (DIED, {"state": "starting", "starter": NOBODY}, "exited"),
        (DIED, {"state": "starting", "starter": ME.as_field()}, "exited"),
    ],
)
def test_what_a_platform_s_word_means(tmp_path: Path, life: Life, fields: dict[str, Any], state: str) -> None:
    one = entry("a", **fields)
    seen = observe(plane_of(tmp_path, local_docker=Told({"a": life})), [one], probe=False)["a"]
    assert seen.state == state
    assert seen.dead == (state in ("exited", "failed"))
    assert as_seen(one, seen) == {**one, "state": state, "reason": seen.reason}


def test_a_launch_that_ends_while_its_platform_is_asked_is_not_cut_off(tmp_path: Path) -> None:
    """The answer is older than the launch: a prune that believed it would end a service that just came up."""
    starter = subprocess.Popen(["sleep", "60"])
    field = identity_of(starter.pid).as_field()

    class Slow(Told):
        def status(self, entries: list[dict[str, Any]]) -> dict[str, Life]:
            starter.kill()
            starter.wait()
            return super().status(entries)

    one = entry("a", state="starting", starter=field)
    seen = observe(plane_of(tmp_path, local_docker=Slow({"a": GONE})), [one])["a"]
    assert (seen.state, seen.reason) == ("starting", "being launched")


@pytest.mark.parametrize(
    ("status", "body", "state", "reason"),
    [
        (200, b'{"status": "ready", "job_id": "a"}', "ready", None),
        (503, b'{"reason": "model_loading"}', "starting", "model_loading"),
        (503, b'{"reason": "model_load_failed"}', "failed", "model_load_failed"),
        (503, b'{"error": {"type": "model_load_error"}}', "failed", "model_load_error"),
    ],
)
def test_what_a_server_s_word_means(tmp_path: Path, status: int, body: bytes, state: str, reason: str | None) -> None:
    with Recorder(status, body) as server:
        one = entry("a", host_url=f"http://localhost:{server.port}")
        seen = observe(plane_of(tmp_path, local_docker=Told({"a": ALIVE})), [one])["a"]
    assert (seen.state, seen.reason) == (state, reason)


def test_a_server_that_cannot_be_asked_is_starting_and_a_strange_address_unknown(tmp_path: Path) -> None:
    with Recorder() as gone:
        pass
    entries = [
        entry("a", host_url=f"http://localhost:{gone.port}"),
        entry("b", host_url="http://192.0.2.1:1"),
        entry("c"),
    ]
    seen = observe(plane_of(tmp_path, local_docker=Told(dict.fromkeys("abc", ALIVE))), entries)
    assert [seen[job_id].state for job_id in "abc"] == ["starting", "unknown", "unknown"]


def test_each_platform_in_use_is_asked_once(tmp_path: Path) -> None:
    docker, process = Told(dict.fromkeys("abc", DIED)), Told({"d": DIED})
    entries = [*(entry(job_id) for job_id in "abc"), entry("d", platform="local-process"), entry("e", platform="modal")]
    seen = observe(plane_of(tmp_path, local_docker=docker, local_process=process), entries)
    assert (docker.asked, process.asked) == (1, 1)
    assert [seen[job_id].state for job_id in "abcde"] == [*(["exited"] * 4), "unknown"]
    assert "modal" in str(seen["e"].reason)


def test_what_only_the_platform_knows_is_told_and_used(tmp_path: Path) -> None:
    with Recorder(200, b'{"status": "ready", "job_id": "a"}') as server:
        told = Told(
            {"a": Life(state="alive", fields={"host_url": f"http://localhost:{server.port}", "slurm_node": "n1"})}
        )
        one = entry("a", platform="kubernetes", state="starting", host_url=None)
        seen = observe(plane_of(tmp_path, kubernetes=told), [one])["a"]
    shown = as_seen(one, seen)
    assert (shown["state"], shown["host_url"], shown["slurm_node"]) == (
        "ready",
        f"http://localhost:{server.port}",
        "n1",
    )


@pytest.mark.parametrize(
    ("life", "recorded", "state", "reason"),
    [
        (Life(state="alive", detail="PENDING: Resources"), "starting", "starting", "PENDING: Resources"),
        (Life(state="alive"), "starting", "starting", "no address yet"),
        (Life(state="alive", detail="ImagePullBackOff", outlook="failed"), "starting", "failed", "ImagePullBackOff"),
        (Life(state="alive", detail="no GPU", outlook="no_capacity"), "starting", "starting", "no GPU"),
        (UNKNOWN, "ready", "unknown", "no engine"),
    ],
)
def test_before_a_service_has_an_address(tmp_path: Path, life: Life, recorded: str, state: str, reason: str) -> None:
    one = entry("a", platform="kubernetes", state=recorded, host_url=None)
    seen = observe(plane_of(tmp_path, kubernetes=Told({"a": life})), [one])["a"]
    assert (seen.state, seen.reason) == (state, reason)


@pytest.mark.parametrize(("recorded", "state"), [("ready", "unknown"), ("starting", "starting")])
def test_a_broken_tunnel_is_told_as_such(tmp_path: Path, recorded: str, state: str) -> None:
    with Recorder() as gone:
        pass
    life = Life(state="alive", fields={"tunnel": {"state": "broken", "detail": "login refused"}})
    one = entry("a", platform="slurm", state=recorded, host_url=f"http://localhost:{gone.port}")
    seen = observe(plane_of(tmp_path, slurm=Told({"a": life})), [one])["a"]
    assert (seen.state, seen.reason) == (state, "its tunnel is broken: login refused")


def test_the_key_of_an_endpoint_goes_with_every_question(tmp_path: Path) -> None:
    with Recorder(200, b'{"status": "ready", "job_id": "a"}') as server:
        told = Told({"a": Life(state="alive", fields={"host_url": f"http://localhost:{server.port}"})})
        plane = plane_of(tmp_path, lepton=told)
        plane.environ = {**plane.environ, "MY_KEY": "k" * 32}
        one = entry("a", platform="lepton", token_env="MY_KEY", host_url=None)
        assert observe(plane, [one])["a"].state == "ready"
    assert server.headers[-1]["Authorization"] == f"Bearer {'k' * 32}"


def test_nothing_is_asked_for_nothing(tmp_path: Path) -> None:
    docker = Told({})
    assert observe(plane_of(tmp_path, local_docker=docker), []) == {}
    assert docker.asked == 0


def test_dead_is_what_the_list_calls_dead(tmp_path: Path) -> None:
    with Recorder(503, b'{"reason": "initialization_failed"}') as server:
        url = f"http://localhost:{server.port}"
        plane = plane_of(tmp_path, local_docker=Told({"a": ALIVE, "b": DIED, "c": UNKNOWN}))
        with plane.registry.transaction() as state:
            for job_id in "abc":
                state.add(entry(job_id, host_url=url))
        assert [one["job_id"] for one in dead_entries(plane)] == ["a", "b"]


def test_recover_says_nothing_of_platforms_that_are_not_set_up(tmp_path: Path) -> None:
    far = Told({}, PreflightError("no SLURM_HOSTNAME", code="not_configured"))
    plane = plane_of(tmp_path, slurm=far, local_docker=Told({}), local_process=Told({}))
    said: list[str] = []
    assert recover(plane, None, lambda _phase, message, **_numbers: said.append(message)) == []
    assert [line for line in said if "slurm" in line] == []
    with pytest.raises(PreflightError):
        recover(plane, "slurm", lambda *_words, **_numbers: None)


def test_recover_leaves_out_what_does_not_answer_unless_it_was_named(tmp_path: Path) -> None:
    docker = Told({}, PlatformUnreachable("no engine"))
    process = Told({"p": DIED}, [entry("p", platform="local-process", started_at="2026-01-01T00:00:00Z")])
    plane = plane_of(tmp_path, local_docker=docker, local_process=process)
    said: list[str] = []
    found = recover(plane, None, lambda _phase, message, **_numbers: said.append(message))
    assert [(one["job_id"], one["state"]) for one in found] == [("p", "exited")]
    assert said == ["local-docker could not be asked: no engine"]
    assert plane.registry.read().latest == "p"
    with pytest.raises(PlatformUnreachable):
        recover(plane, "local-docker", lambda *_words, **_numbers: None)


def test_recover_keeps_what_only_the_file_knows(tmp_path: Path) -> None:
    docker = Told({"a": DIED}, [entry("a", host_port=8081, started_at="2026-01-01T00:00:00Z")])
    plane = plane_of(tmp_path, local_docker=docker, local_process=Told({}))
    with plane.registry.transaction() as state:
        state.add(entry("a", host_port=8080, theirs={"x": 1}, ready_at="then"))
        state.add(entry("b", platform="slurm"))
    recover(plane, None, lambda *_words, **_numbers: None)
    now = plane.registry.read()
    assert set(now.services) == {"a", "b"}
    kept = now.services["a"]
    assert (kept["host_port"], kept["theirs"], kept["ready_at"], kept["state"]) == (8081, {"x": 1}, "then", "exited")
    assert now.latest == "b"
