"""The pool as Arrow streams: the same steps as JSON has, chosen by `Accept`, and steps submitted as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests

from tests.contract.gateway_calls import chat, check_problem, fresh, init
from tests.contract.gateway_channel import Channel
from tests.contract.gateway_process import ROOT, GatewayProcess, StubThread, running_gateway

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def pool(gateway: GatewayProcess) -> Channel:
    return Channel(gateway, fresh())


def read(reply: requests.Response, name: str) -> pa.Table:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(reply.content).read_all()
    table.validate(full=True)
    assert table.schema.metadata[b"moorage.schema"] == name.encode()
    assert table.schema.metadata[b"moorage.schema_version"] == b"1"
    return table


def ask(gateway: GatewayProcess, path: str) -> requests.Response:
    return gateway.get(path, headers={"Accept": ARROW})


def fill(pool: Channel) -> None:
    rare = {"multi_modal_data": {"images": ["é"]}, "routed_experts": [[1, 2]], "metadata": {"policy": "é"}}
    pool.rollout("a", steps=2, rollout_log_probs=[-0.1, -0.25], **rare)
    pool.rollout("a", steps=1, reward=0.5, policy_version=3)
    made = init(pool.gateway, prompt_uid="b", channel=pool.name)
    assert pool.gateway.post(f"{made['path']}/v1/chat/completions", chat()).status_code == 200
    assert pool.gateway.post(f"/complete_trajectory/{made['trajectory_uid']}").status_code == 200


def test_steps_are_the_same_as_in_json(pool: Channel) -> None:
    fill(pool)
    path = f"/pool/steps?channel={pool.name}"
    expected = pool.gateway.get(path).json()["steps"]
    rows = read(ask(pool.gateway, path), "pool.steps").to_pylist()
    assert [plain(row) for row in rows] == [
        {"multi_modal_data": None, "routed_experts": None, "marks": {}, **one} for one in expected
    ]
    assert len(rows) == 4


def test_pages_of_tables(pool: Channel) -> None:
    fill(pool)
    found, cursor = [], ""
    for _ in range(4):
        table = read(ask(pool.gateway, f"/pool/steps?channel={pool.name}&limit=1&cursor={cursor}"), "pool.steps")
        found += table["step_index"].to_pylist()
        cursor = (table.schema.metadata.get(b"moorage.next_cursor") or b"").decode()
    assert (len(found), cursor) == (4, "")
    assert read(ask(pool.gateway, "/pool/steps?channel=nobody"), "pool.steps").num_rows == 0


def test_leases_are_the_same_as_in_json(pool: Channel) -> None:
    fill(pool)
    empty = init(pool.gateway, prompt_uid="c", channel=pool.name, metadata={"crashed": True})
    assert pool.gateway.post(f"/complete_trajectory/{empty['trajectory_uid']}").status_code == 200
    body = {"channel": pool.name, "max_groups": 9}
    reply = pool.gateway.post("/pool/lease", body, headers={"Accept": ARROW})
    table = read(reply, "pool.leases")
    assert table.schema.metadata[b"moorage.leases"] == b"3"
    ids = set(table["lease_id"].to_pylist())
    assert pool.gateway.post("/pool/nack", {"lease_ids": sorted(ids)}).json() == {"nacked": 3}
    expected = [
        (lease["prompt_uid"], run["trajectory_uid"], run["metadata"], run["reward"], one)
        for lease in pool.lease(max_groups=9)
        for run in lease["trajectories"]
        for one in run["steps"] or [None]
    ]
    rows = [plain(row) for row in table.to_pylist()]
    assert len(rows) == len(expected) == 5
    for row, (prompt_uid, uid, metadata, reward, one) in zip(rows, expected, strict=True):
        assert (row["prompt_uid"], row["trajectory_uid"], row["trajectory_metadata"]) == (prompt_uid, uid, metadata)
        assert row["trajectory_reward"] == reward
        if one is None:
            assert row["step_index"] is None and row["prompt_ids"] is None
            continue
        assert {name: row[name] for name in one} == one
    nothing = pool.gateway.post("/pool/lease", body, headers={"Accept": ARROW})
    assert read(nothing, "pool.leases").num_rows == 0


def test_trajectories_are_the_same_as_in_json(pool: Channel) -> None:
    fill(pool)
    path = f"/pool/trajectories?channel={pool.name}"
    expected = pool.gateway.get(path).json()["trajectories"]
    rows = [plain(row) for row in read(ask(pool.gateway, path), "pool.trajectories").to_pylist()]
    for row, one in zip(rows, expected, strict=True):
        at = row.pop("created_at"), row.pop("completed_at")
        assert [one.pop("created_at"), one.pop("completed_at")] == [
            None if each is None else each.isoformat(timespec="milliseconds").replace("+00:00", "Z") for each in at
        ]
        assert row == one


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (ARROW, ARROW),
        (f"{ARROW}, application/json;q=0.5", ARROW),
        (f"application/json, {ARROW};q=0.5", "application/json"),
        (f"{ARROW};q=0", "application/json"),
        (f"{ARROW};q=x", "application/json"),
        ("*/*", "application/json"),
        (f"{ARROW.upper()}, */*", ARROW),
        ("text/html", "application/json"),
    ],
)
def test_what_accept_chooses(gateway: GatewayProcess, accept: str, expected: str) -> None:
    reply = gateway.get("/pool/steps?limit=1", headers={"Accept": accept})
    assert reply.headers["content-type"] == expected


def test_three_lines_read_a_stream(pool: Channel) -> None:
    """As docs/pool.md shows it."""
    fill(pool)
    lines = [
        f'reply = requests.post(URL + "/pool/lease", json=ASK, headers={{"Accept": "{ARROW}"}})',
        "steps = pyarrow.ipc.open_stream(reply.content).read_all()",
        'prompts = steps["prompt_ids"].combine_chunks()',
    ]
    assert all(line in (ROOT / "docs" / "pool.md").read_text() for line in lines)
    names: dict[str, Any] = {"requests": requests, "pyarrow": pa}
    names |= {"URL": pool.gateway.url, "ASK": {"channel": pool.name}}
    exec("\n".join(lines), names)
    assert names["prompts"].values.type == pa.uint32()
    assert names["prompts"].offsets.to_pylist()[0] == 0


def test_without_pyarrow_a_table_is_406_and_json_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose first pyarrow on its path says that there is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('no pyarrow here', name='pyarrow')\n")
    stub = StubThread()
    try:
        gateway = GatewayProcess(stub, tmp_path / "gateway.db")
        try:
            found = check_problem(ask(gateway, "/pool/steps"), 406, "package_missing")
            assert "moorage[gateway,arrow]" in found["detail"]
            both = gateway.get("/pool/steps", headers={"Accept": f"{ARROW}, application/json;q=0.1"})
            assert both.json() == {"steps": [], "next_cursor": None}
            lease = gateway.post("/pool/lease", {}, headers={"Accept": ARROW})
            check_problem(lease, 406, "package_missing")
        finally:
            gateway.kill()
    finally:
        stub.close()


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its columns of JSON read."""
    texts = ("metadata", "marks", "multi_modal_data", "routed_experts", "trajectory_metadata")
    return {name: json.loads(value) if name in texts and value is not None else value for name, value in row.items()}
