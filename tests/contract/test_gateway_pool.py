"""The pool over HTTP: what is ready, in which order, leases and what ends them, what is stored, events.

Each test has a channel of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import chat, check_problem, fresh, init, send_and_leave, steps_of
from tests.contract.gateway_channel import Channel
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until

STEP = {
    *("trajectory_uid", "prompt_uid", "step_index", "prompt_ids", "response_ids", "rollout_log_probs", "reward"),
    *("policy_version", "is_last", "metadata"),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), "--n-rollouts", "1") as running:
        yield running


@pytest.fixture
def pool(gateway: GatewayProcess) -> Channel:
    return Channel(gateway, fresh())


# Groups ----------------------------------------------------------------------------------------------------------


def test_a_group_is_ready_with_n_complete_trajectories(pool: Channel) -> None:
    pool.rollout("a")
    pool.rollout("a", complete=False)
    assert pool.leased(n_rollouts=2) == []
    third = pool.rollout("a")
    [lease] = pool.lease(n_rollouts=2)
    uids = [one["trajectory_uid"] for one in lease["trajectories"]]
    assert len(uids) == 2
    assert third in uids
    assert uids == sorted(uids)


def test_a_trajectory_without_steps_counts(pool: Channel) -> None:
    made = init(pool.gateway, prompt_uid=fresh(), channel=pool.name, metadata={"task": "crashed"})
    assert pool.gateway.post(f"{made['path']}/v1/complete_trajectory", {"reward": 0}).status_code == 200
    [lease] = pool.lease()
    [trajectory] = lease["trajectories"]
    assert trajectory["trajectory_uid"] == made["trajectory_uid"]
    assert trajectory["steps"] == []
    assert trajectory["metadata"] == {"task": "crashed"}


def test_the_oldest_ready_group_comes_first_and_none_blocks_another(pool: Channel) -> None:
    pool.rollout("stuck", complete=False)
    for name in ("b", "a", "c"):
        pool.rollout(name)
    assert pool.leased(max_groups=2) == ["b", "a"]
    assert pool.leased(max_groups=9) == ["c"]


def test_a_redelivered_group_keeps_its_place(pool: Channel) -> None:
    for name in ("a", "b"):
        pool.rollout(name)
    [first] = pool.lease()
    assert pool.nack(first).json() == {"nacked": 1}
    assert pool.leased(max_groups=2) == ["a", "b"]


def test_later_trajectories_form_the_next_round(pool: Channel) -> None:
    pool.rollout("a")
    slow = pool.rollout("a", complete=False)
    [first] = pool.lease()
    assert pool.gateway.post(f"/complete_trajectory/{slow}").status_code == 200
    assert pool.leased(n_rollouts=2) == []
    [second] = pool.lease()
    assert [one["trajectory_uid"] for one in second["trajectories"]] == [slow]
    assert pool.ack(first, second).json() == {"acked": 2}
    assert pool.lease() == []


def test_what_is_never_in_a_lease(pool: Channel) -> None:
    gateway, made = pool.gateway, init(pool.gateway, channel=pool.name)
    uid = made["trajectory_uid"]
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat()).status_code == 200
    gateway.stub.stub.pace_s = 0.5
    left = send_and_leave(gateway, f"{made['path']}/v1/chat/completions", chat(stream=True))
    for _ in range(4):
        left.recv(65536)
    before = gateway.stub.requests[-1]
    left.close()
    wait_until(lambda: before.gone)
    gateway.stub.stub.pace_s = 0
    Channel(gateway, fresh()).rollout("elsewhere")
    assert gateway.post(f"/complete_trajectory/{uid}").status_code == 200
    [lease] = pool.lease(max_groups=9)
    assert [one["step_index"] for one in lease["trajectories"][0]["steps"]] == [0]
    assert [one["is_last"] for one in lease["trajectories"][0]["steps"]] == [True]


# Lease -----------------------------------------------------------------------------------------------------------


def test_a_lease_has_everything(pool: Channel) -> None:
    pool.rollout("a", steps=2, reward=0.5, rollout_log_probs=[-0.1, -0.2], policy_version=4)
    before = time.time()
    [lease] = pool.lease(lease_s=100, consumer="trainer-1")
    assert set(lease) >= {"lease_id", "channel", "prompt_uid", "attempt", "expires_at", "trajectories"}
    assert (lease["channel"], lease["prompt_uid"], lease["attempt"]) == (pool.name, "a", 1)
    assert lease["expires_at"].endswith("Z")
    assert before + 90 < datetime.fromisoformat(lease["expires_at"]).timestamp() < time.time() + 110
    [trajectory] = lease["trajectories"]
    assert set(trajectory) >= {"trajectory_uid", "reward", "metadata", "steps"}
    assert trajectory["reward"] == 0.5
    assert [one["step_index"] for one in trajectory["steps"]] == [0, 1]
    assert all(set(one) >= STEP for one in trajectory["steps"])
    assert [one["is_last"] for one in trajectory["steps"]] == [False, True]


def test_no_body_means_every_default(gateway: GatewayProcess) -> None:
    Channel(gateway, "train").rollout(fresh())
    reply = gateway.post("/pool/lease")
    assert [one["channel"] for one in reply.json()["leases"]] == ["train"]
    assert gateway.post("/pool/lease", {"channel": fresh()}).json() == {"leases": [], "skipped_stale": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_rollouts": 0},
        {"n_rollouts": True},
        {"max_groups": 0},
        {"max_groups": 1001},
        {"lease_s": 0},
        {"lease_s": "1"},
        {"wait_s": -1},
        {"wait_s": 61},
        {"min_policy_version": "1"},
        {"channel": "a b"},
        {"consumer": 3},
    ],
    ids=str,
)
def test_what_a_lease_does_not_take(gateway: GatewayProcess, wrong: dict[str, Any]) -> None:
    check_problem(gateway.post("/pool/lease", wrong), 422)


def test_stale_groups_are_skipped_and_stay(pool: Channel) -> None:
    pool.rollout("old", policy_version=1)
    pool.rollout("mixed", policy_version=3)
    pool.rollout("new", policy_version=3)
    pool.rollout("mixed", policy_version=2)
    reply = pool.gateway.post("/pool/lease", {"channel": pool.name, "min_policy_version": 3, "max_groups": 9}).json()
    assert [one["prompt_uid"] for one in reply["leases"]] == ["new"]
    assert reply["skipped_stale"] == 2
    assert pool.leased(max_groups=9) == ["old", "mixed"]


def test_a_lease_waits_until_a_group_is_ready(pool: Channel) -> None:
    began = time.monotonic()
    assert pool.lease(wait_s=1) == []
    assert time.monotonic() - began >= 1
    with ThreadPoolExecutor(1) as waiting:
        asked = waiting.submit(pool.leased, wait_s=50, n_rollouts=2)
        pool.rollout("a")
        pool.rollout("a")
        assert asked.result(30) == ["a"]


def test_two_consumers_never_hold_the_same_group(pool: Channel) -> None:
    names = [f"p{number}" for number in range(40)]
    for name in names:
        pool.rollout(name)
    with ThreadPoolExecutor(8) as consumers:
        found = [name for leased in consumers.map(lambda _: pool.leased(max_groups=7), range(8)) for name in leased]
    assert sorted(found) == sorted(names)


# Ack, nack, expiry -----------------------------------------------------------------------------------------------


def test_ack(pool: Channel) -> None:
    for name in ("a", "b"):
        pool.rollout(name)
    first, second = pool.lease(max_groups=2)
    unknown = {"lease_id": "none"}
    check_problem(pool.ack(first, unknown), 404)
    assert pool.ack(first).json() == {"acked": 1}
    assert pool.ack(first, second).json() == {"acked": 2}
    assert pool.lease() == []
    check_problem(pool.nack(first), 409)
    check_problem(pool.gateway.post("/pool/ack", {}), 422)
    check_problem(pool.gateway.post("/pool/ack", b"x"), 400)


def test_a_late_ack_counts_until_the_group_is_delivered_again(pool: Channel) -> None:
    pool.rollout("a")
    [first] = pool.lease(lease_s=0.2)
    wait_until(lambda: pool.groups()["ready"] == 1)
    assert pool.ack(first).json() == {"acked": 1}
    assert pool.lease() == []
    pool.rollout("b")
    [lost] = pool.lease(lease_s=0.2)
    [again] = pool.lease(wait_s=20)
    assert (again["prompt_uid"], again["attempt"]) == ("b", 2)
    assert again["lease_id"] != lost["lease_id"]
    check_problem(pool.ack(lost), 409, "lease_lost")
    assert pool.ack(again).json() == {"acked": 1}


def test_nack(pool: Channel) -> None:
    pool.rollout("a")
    [first] = pool.lease()
    check_problem(pool.nack({"lease_id": "none"}), 404)
    assert pool.nack(first, reason="loss was NaN").json() == {"nacked": 1}
    check_problem(pool.ack(first), 409, "lease_lost")
    [second] = pool.lease()
    assert second["attempt"] == 2
    check_problem(pool.nack(first), 409)
    assert pool.nack(second, delay_s=1).status_code == 200
    assert pool.lease() == []
    [third] = pool.lease(wait_s=20)
    assert third["attempt"] == 3
    assert pool.nack(third, drop=True).status_code == 200
    assert pool.lease() == []
    assert pool.groups()["dropped"] == 1


def test_a_group_that_nobody_acks_is_dropped_in_the_end(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--pool-max-attempts", "2") as gateway:
        pool = Channel(gateway, "train")
        pool.rollout("a")
        assert [pool.lease(lease_s=0.1, wait_s=20)[0]["attempt"] for _ in range(2)] == [1, 2]
        wait_until(lambda: pool.groups()["dropped"] == 1)
        assert pool.lease() == []


# What is stored --------------------------------------------------------------------------------------------------


def test_stats(pool: Channel) -> None:
    for name in ("acked", "leased", "dropped", "ready", "open"):
        pool.rollout(name, complete=name != "open", steps=2)
    first, _, third = pool.lease(max_groups=3)
    assert pool.ack(first).status_code == 200
    assert pool.nack(third, drop=True).status_code == 200
    channels = pool.gateway.get(f"/pool/stats?channel={pool.name}").json()["channels"]
    assert channels == {
        pool.name: {
            "steps": 10,
            "late_steps": 0,
            "trajectories": {"open": 1, "complete": 4},
            "groups": {"open": 1, "ready": 1, "leased": 1, "acked": 1, "dropped": 1},
        }
    }
    assert pool.groups(n_rollouts=2) == {"open": 2, "ready": 0, "leased": 1, "acked": 1, "dropped": 1}
    assert pool.name in pool.gateway.get("/pool/stats").json()["channels"]
    check_problem(pool.gateway.get("/pool/stats?n_rollouts=0"), 422)


def test_steps_are_listed_in_commit_order_page_by_page(pool: Channel) -> None:
    uids = [pool.rollout(f"p{number}", policy_version=number % 2) for number in range(5)]
    pool.ack(*pool.lease(max_groups=2))
    found, cursor = [], ""
    for _ in range(3):
        page = pool.gateway.get(f"/pool/steps?channel={pool.name}&limit=2&cursor={cursor}").json()
        found += page["steps"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [one["trajectory_uid"] for one in found] == uids
    assert all(set(one) >= STEP | {"channel", "late", "delivered"} for one in found)
    assert len(pool.gateway.get(f"/pool/steps?channel={pool.name}&policy_version=1").json()["steps"]) == 2
    assert len(pool.gateway.get(f"/pool/steps?channel={pool.name}&prompt_uid=p3").json()["steps"]) == 1
    assert [one["trajectory_uid"] for one in steps_of(pool.gateway, uids[0])] == [uids[0]]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "policy_version=x"])
def test_what_a_listing_does_not_take(gateway: GatewayProcess, query: str) -> None:
    check_problem(gateway.get(f"/pool/steps?{query}"), 422)


def test_a_cursor_that_nobody_gave(gateway: GatewayProcess) -> None:
    for path in ("/pool/steps", "/pool/trajectories"):
        check_problem(gateway.get(f"{path}?cursor=no-cursor"), 422)


def test_trajectories_are_listed(pool: Channel) -> None:
    done = pool.rollout("a", steps=2, reward=1)
    still = pool.rollout("b", complete=False)
    rows = pool.gateway.get(f"/pool/trajectories?channel={pool.name}").json()["trajectories"]
    assert [(row["trajectory_uid"], row["state"], row["steps"]) for row in rows] == [
        (done, "complete", 2),
        (still, "open", 1),
    ]
    assert (rows[0]["reward"], rows[0]["prompt_uid"], rows[0]["late_steps"]) == (1, "a", 0)
    assert all(datetime.fromisoformat(row["created_at"]).tzinfo for row in rows)
    assert rows[1]["completed_at"] is None
    for query, found in (("state=open", still), ("state=complete", done), ("prompt_uid=a", done)):
        [row] = pool.gateway.get(f"/pool/trajectories?channel={pool.name}&{query}").json()["trajectories"]
        assert row["trajectory_uid"] == found
    check_problem(pool.gateway.get("/pool/trajectories?state=deleted"), 422)


# Events ----------------------------------------------------------------------------------------------------------


def test_events_are_replayed_and_go_on_live(pool: Channel) -> None:
    uid = pool.rollout("a")
    [lease] = pool.lease(consumer="me")
    pool.nack(lease)
    with pool.gateway.get(f"/pool/events?channel={pool.name}&cursor=0", stream=True) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        past = _take(lines, 4)
        [again] = pool.lease()
        pool.ack(again)
        live = _take(lines, 2)
    assert [kind for _, kind, _ in past + live] == ["step", "complete", "lease", "nack", "lease", "ack"]
    numbers = [number for number, _, _ in past + live]
    assert numbers == sorted(set(numbers))
    assert all(data["type"] == kind and data["channel"] == pool.name for _, kind, data in past + live)
    assert all(data["at"].endswith("Z") for _, _, data in past + live)
    assert past[0][2].items() >= {"trajectory_uid": uid, "prompt_uid": "a", "step_index": 0}.items()
    assert past[2][2].items() >= {"lease_id": lease["lease_id"], "consumer": "me"}.items()
    headers = {"last-event-id": str(numbers[3])}
    with pool.gateway.get(f"/pool/events?channel={pool.name}", headers=headers, stream=True) as stream:
        assert [one[0] for one in _take(stream.iter_lines(decode_unicode=True), 2)] == numbers[4:]


def test_events_without_a_cursor_are_live_only_and_expiry_is_one(pool: Channel) -> None:
    pool.rollout("before")
    with pool.gateway.get(f"/pool/events?channel={pool.name}", stream=True) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        assert next(lines).startswith(":")
        [lease] = pool.lease(lease_s=0.2)
        pool.lease(wait_s=5)
        kinds = [kind for _, kind, _ in _take(lines, 3)]
    assert kinds == ["lease", "expire", "lease"]
    assert lease["attempt"] == 1
    check_problem(pool.gateway.get("/pool/events?cursor=x"), 422)


def test_events_survive_a_restart(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        Channel(gateway, "train").rollout("a")
        assert gateway.stop() == 0
    with running_gateway(tmp_path) as gateway, gateway.get("/pool/events?cursor=0", stream=True) as stream:
        assert [one[1] for one in _take(stream.iter_lines(decode_unicode=True), 2)] == ["step", "complete"]


def _take(lines: Iterator[str], count: int) -> list[tuple[int, str, dict[str, Any]]]:
    """The next events: number, kind, data."""
    found, fields = [], {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        fields = {}
        if len(found) == count:
            break
    return found
