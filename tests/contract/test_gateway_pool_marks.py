"""Curation marks over HTTP, what docs/pool.md says to type, and cursors and marks that are none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.gateway_calls import check_problem, fresh, steps_of
from tests.contract.gateway_channel import Channel
from tests.contract.gateway_process import ROOT, GatewayProcess, running_gateway

CURL = 'curl() { command curl --fail-with-body "$@"; echo; }'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def pool(gateway: GatewayProcess) -> Channel:
    return Channel(gateway, fresh())


def mark(pool: Channel, uid: str, step_index: int = 0, **marks: Any) -> Any:
    return pool.gateway.post("/pool/marks", {"trajectory_uid": uid, "step_index": step_index, "marks": marks})


def test_marks_are_set_shown_and_taken_away(pool: Channel) -> None:
    uid = pool.rollout("a", steps=2)
    reply = mark(pool, uid, 1, trainable=False, tags=["é", 1.5])
    assert reply.json() == {"trajectory_uid": uid, "step_index": 1, "marks": {"trainable": False, "tags": ["é", 1.5]}}
    assert mark(pool, uid, 1, tags=None, note="x").json()["marks"] == {"trainable": False, "note": "x"}
    assert [one.get("marks") for one in steps_of(pool.gateway, uid)] == [None, {"trainable": False, "note": "x"}]
    assert mark(pool, uid, 1, trainable=None, note=None).json()["marks"] == {}


def test_a_lease_leaves_out_what_is_marked_untrainable(pool: Channel) -> None:
    some, none = pool.rollout("a", steps=3, reward=1), pool.rollout("a")
    for uid, index in ((some, 2), (none, 0)):
        assert mark(pool, uid, index, trainable=False).status_code == 200
    [lease] = pool.lease(marks={"trainable": True})
    left = {run["trajectory_uid"]: [one["step_index"] for one in run["steps"]] for run in lease["trajectories"]}
    assert left == {some: [0, 1], none: []}
    assert {run["trajectory_uid"]: run["reward"] for run in lease["trajectories"]} == {some: 1, none: None}
    assert pool.lease(marks={"trainable": False}) == []
    assert len(pool.gateway.get(f"/pool/steps?channel={pool.name}").json()["steps"]) == 4
    pool.nack(lease)
    [again] = pool.lease(marks={"trainable": False})
    assert [len(run["steps"]) for run in again["trajectories"]] == [1, 1]
    assert (again["attempt"], pool.ack(again).json()) == (2, {"acked": 1})


@pytest.mark.parametrize(
    "marks",
    [{}, {"a b": 1}, {"": 1}, {"n" * 65: 1}, {"x": "y" * 16384}, {f"m{n}": 1 for n in range(33)}, [], None, "x"],
    ids=lambda marks: str(marks)[:20],
)
def test_marks_that_are_none(pool: Channel, marks: Any) -> None:
    uid = pool.rollout("a")
    body = {"trajectory_uid": uid, "step_index": 0, "marks": marks}
    check_problem(pool.gateway.post("/pool/marks", body), 422)
    if marks != {}:
        check_problem(pool.gateway.post("/pool/lease", {"channel": pool.name, "marks": marks}), 422)
    assert "marks" not in steps_of(pool.gateway, uid)[0]


def test_a_megabyte_of_marks_and_deep_ones(pool: Channel) -> None:
    uid = pool.rollout("a")
    check_problem(mark(pool, uid, note="x" * (1 << 20)), 422, "bad_marks")
    deep = b'{"trajectory_uid": "%s", "step_index": 0, "marks": {"x": %s1%s}}' % (
        uid.encode(),
        b"[" * 100_000,
        b"]" * 100_000,
    )
    check_problem(pool.gateway.post("/pool/marks", deep), 422)
    check_problem(pool.gateway.post("/pool/marks", b'{"marks": {"x": NaN}}'), 422)
    assert mark(pool, uid, big=2**80).json()["marks"] == {"big": 2**80}


def test_marks_of_what_is_not_there(pool: Channel) -> None:
    uid = pool.rollout("a")
    check_problem(mark(pool, uid, 1, x=1), 404, "unknown_step")
    check_problem(mark(pool, "nobody", x=1), 404, "unknown_trajectory")
    check_problem(mark(pool, uid, -1, x=1), 422)
    check_problem(mark(pool, uid, 2**63, x=1), 422)


def test_cursors_of_another_store(pool: Channel, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in "abc":
        pool.rollout(name)
    with running_gateway(tmp_path_factory.mktemp("other")) as other:
        theirs = Channel(other, pool.name)
        for name in "abc":
            theirs.rollout(name)
        for path in ("/pool/steps", "/pool/trajectories"):
            cursor = other.get(f"{path}?limit=1").json()["next_cursor"]
            assert other.get(f"{path}?limit=1&cursor={cursor}").status_code == 200
            check_problem(pool.gateway.get(f"{path}?cursor={cursor}"), 422, "bad_cursor")
    mine = pool.gateway.get("/pool/steps?limit=1").json()["next_cursor"]
    for wrong in (mine[:-1] + "g", mine + "0" * 20, mine.replace(".", ""), "a1", "9" * 5000):
        check_problem(pool.gateway.get(f"/pool/steps?cursor={wrong}"), 422, "bad_cursor")


def test_a_number_of_another_stores_events_misses_nothing(pool: Channel) -> None:
    with pool.gateway.get(f"/pool/events?channel={pool.name}&cursor={10**17}", stream=True) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        assert next(lines).startswith(": moorage cursor=")
        pool.rollout("a")
        assert next(line for line in lines if line.startswith("event:")) == "event: step"


def test_what_the_page_says_to_type_works(gateway: GatewayProcess) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    page = (ROOT / "docs/pool.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```\n\n```json\n(.*?)```", page, re.DOTALL)
    assert blocks
    for script, shown in blocks:
        said = subprocess.run(
            [
                "bash",
                "-euc",
                f'GATEWAY={gateway.url}\ncurl() {{ command curl --fail-with-body "$@"; echo; }}\n{script}',
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        assert json.loads(said.strip().splitlines()[-1]) == json.loads(shown)
