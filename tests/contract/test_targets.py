"""Which service a command means, on real ones: never a silent default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.stand_ins import StandIns

TEXT, PICTURE = "tao-dataservices", "cosmos-rl"
ASK = ["--prompt", "x", "--accept-defaults"]
VERBS = [["request", *ASK], ["status"], ["wait"], ["logs"], ["stop"]]
NAMES = [words[0] for words in VERBS]


@pytest.fixture(scope="module")
def services(shared: StandIns) -> dict[str, str]:
    """Two of one arch, one of another, and one that is dead: name → id."""
    wanted = {"first": TEXT, "second": TEXT, "picture": PICTURE, "dead": TEXT}
    starts = {name: shared.popen_start(arch=arch, job_id=shared.new_id()) for name, arch in wanted.items()}
    ids = {name: json.loads(start.communicate(timeout=120)[0])["data"]["job_id"] for name, start in starts.items()}
    shared.kill(ids["dead"])
    shared.await_state(ids["dead"], "exited")
    return ids


class Chosen:
    """Commands on a state file that holds only some of the services; stops are dry."""

    def __init__(self, shared: StandIns, services: dict[str, str], folder: Path) -> None:
        self._shared, self._services, self._file = shared, services, folder / "state.json"

    def __call__(self, names: str, words: list[str], *target: str) -> tuple[int, dict[str, object]]:
        state = self._shared.read_state()
        ids = [self._services[name] for name in names.split()]
        self._file.write_text(json.dumps({job_id: state[job_id] for job_id in ids}))
        dry = ["--dry-run"] if words[0] == "stop" else []
        done = self._shared.here(*words, *target, *dry, "--json", env={"MOORAGE_STATE_FILE": str(self._file)})
        return done.rc, done.out

    def id_in(self, words: list[str], out: dict[str, object]) -> str:
        """The service that a success was about."""
        data = out["data"]
        return data["plan"]["job_ids"][0] if words[0] == "stop" else data["job_id"]


@pytest.fixture
def chosen(shared: StandIns, services: dict[str, str], tmp_path: Path) -> Iterator[Chosen]:
    yield Chosen(shared, services, tmp_path)


@pytest.mark.parametrize("words", VERBS, ids=NAMES)
class TestTargets:
    def test_several_and_no_name(self, chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
        rc, out = chosen("first picture", words)
        assert (rc, out["error"]["code"]) == (4, "ambiguous")
        candidates = {one["job_id"]: one for one in out["data"]["candidates"]}
        assert set(candidates) == {services["first"], services["picture"]}
        assert all({"job_id", "network_arch", "host_url", "started_at"} <= set(one) for one in candidates.values())

    def test_the_only_one_of_an_arch(self, chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
        rc, out = chosen("first picture", words, "--network-arch", TEXT)
        assert (rc, chosen.id_in(words, out)) == (0, services["first"])

    def test_several_of_an_arch(self, chosen: Chosen, words: list[str]) -> None:
        assert chosen("first second picture", words, "--network-arch", TEXT)[0] == 4

    def test_an_id_is_enough(self, chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
        rc, out = chosen("first second", words, "--job-id", services["second"])
        assert (rc, chosen.id_in(words, out)) == (0, services["second"])

    def test_an_id_and_its_arch(self, chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
        target = ["--job-id", services["second"], "--network-arch", TEXT]
        assert chosen("first second", words, *target)[0] == 0

    def test_an_id_and_another_arch(self, chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
        rc, out = chosen("first picture", words, "--job-id", services["first"], "--network-arch", PICTURE)
        assert (rc, out["error"]["code"]) == (2, "target_mismatch")

    @pytest.mark.parametrize("name", ["latest", "nobody", "../x", "0"])
    def test_an_id_that_is_none(self, chosen: Chosen, words: list[str], name: str) -> None:
        assert chosen("first", words, "--job-id", name)[0] == 3

    def test_an_unknown_arch(self, chosen: Chosen, words: list[str]) -> None:
        rc, out = chosen("first", words, "--network-arch", "cosmos-r")
        assert (rc, "cosmos-rl" in out["error"]["hint"]) == (2, True)
        assert all(arch in out["error"]["message"] for arch in ("vllm", "sglang", TEXT))

    def test_an_arch_that_nobody_runs(self, chosen: Chosen, words: list[str]) -> None:
        assert chosen("first", words, "--network-arch", "vllm")[0] == 3

    def test_nothing_runs(self, chosen: Chosen, words: list[str]) -> None:
        rc, out = chosen("", words)
        assert (rc, bool(out["error"]["next"])) == (3, True)

    def test_an_unknown_platform(self, chosen: Chosen, words: list[str]) -> None:
        rc, out = chosen("first", words, "--platform", "local-dokcer")
        assert (rc, "local-docker" in out["error"]["hint"]) == (2, True)

    def test_a_platform_that_runs_none(self, chosen: Chosen, words: list[str]) -> None:
        assert chosen("first", words, "--platform", "local-docker")[0] == 3


@pytest.mark.parametrize("words", VERBS[1:], ids=NAMES[1:])
def test_a_positional_id(chosen: Chosen, services: dict[str, str], words: list[str]) -> None:
    assert chosen("first second", words, services["second"])[0] == 0
    assert chosen("first second", words, services["second"], "--job-id", services["second"])[0] == 0
    rc, out = chosen("first second", words, services["second"], "--job-id", services["first"])
    assert (rc, out["error"]["code"]) == (2, "usage")


def test_a_dead_service_is_for_stopping_only(chosen: Chosen, services: dict[str, str]) -> None:
    rc, out = chosen("first dead", VERBS[0])
    assert (rc, out["data"]["job_id"]) == (0, services["first"])
    rc, out = chosen("first dead", ["stop"])
    assert (rc, len(out["data"]["candidates"])) == (4, 2)
    rc, out = chosen("first dead", VERBS[0], "--job-id", services["dead"])
    assert (rc, out["error"]["code"]) == (8, "service_dead")
    assert chosen("dead", VERBS[0])[0] == 3
    assert chosen("dead", ["stop"])[0] == 0
    assert chosen("dead", ["wait"])[0] == 8
    assert chosen("dead", ["logs"])[0] == 0
    assert chosen("dead", ["status"])[1]["data"]["state"] == "exited"


def test_all_of_an_arch(chosen: Chosen, services: dict[str, str]) -> None:
    rc, out = chosen("first second picture", ["stop"], "--all", "--network-arch", TEXT)
    assert (rc, set(out["data"]["plan"]["job_ids"])) == (0, {services["first"], services["second"]})
    assert chosen("first", ["stop"], "--all", services["first"])[0] == 2
    assert chosen("", ["stop"], "--all")[1]["data"]["plan"]["job_ids"] == []
