"""Sessions that several gateway processes work on: what one wrote the others know at their next request.

Two gateways of their own over one store, and the workers of one parent.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.contract.gateway_calls import SeveralChoices, chat, fresh, init, steps_of
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway, wait_until
from tests.contract.gateway_workers import Way, pids, ways
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.small_engine import SmallEngine

NANO = ROOT / "models" / "nano"
MODES = ("exact", "passthrough")
Pair = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def pair(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two gateways over one store, which know nothing of each other."""
    folder, stub = tmp_path_factory.mktemp("pair"), StubThread(SmallEngine(NANO))
    url = f"sqlite:///{folder / 'gateway.db'}"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.url(server.new_schema())
    both: list[GatewayProcess] = []
    try:
        for _ in range(2):
            both.append(GatewayProcess(stub, folder / "unused", "--tokenizer-path", str(NANO), "--db", url))
        yield both[0], both[1]
    finally:
        for one in both:
            one.kill()
        stub.close()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Two workers; sessions are passthrough."""
    folder, flags = tmp_path_factory.mktemp("workers"), ("--workers", "2", "--access-log", "--max-sessions", "40")
    with running_gateway(folder, *flags, replies=SeveralChoices()) as gateway:
        yield gateway


@pytest.fixture
def each(workers: GatewayProcess) -> Iterator[list[Way]]:
    """A connection to each worker."""
    with ways(workers, 2) as found:
        yield found
    workers.stub.heal()


def talk(gateways: Any, path: str, turns: int, say: Callable[[int], str] = "and {} more".format) -> list[Any]:
    """A conversation, each turn at the next gateway; its messages."""
    messages: list[Any] = [{"role": "system", "content": "Add."}, {"role": "user", "content": "add 2 and 3"}]
    for turn, gateway in zip(range(turns), itertools.cycle(gateways)):
        reply = gateway.post(f"{path}/v1/chat/completions", {"messages": messages, "max_tokens": 24})
        assert reply.status_code == 200, reply.text
        messages += [reply.json()["choices"][0]["message"], {"role": "user", "content": say(turn)}]
    return messages


def nodes_of(gateway: Any, uid: str, more: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(f"/{uid}/nodes{more}").json()["nodes"]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_conversation_that_alternates_is_one_node(pair: Pair, mode: str) -> None:
    uid = pair[0].post("/sessions/create", {"mode": mode}).json()["uuid"]
    talk(pair, f"/{uid}", 8)
    for gateway in pair:
        [node] = nodes_of(gateway, uid)
        boundaries = node["metadata"]["boundaries"]
        assert [one["verdict"] for one in boundaries] == ["root", *["exact"] * 7]
        assert node["metadata"]["branch_reason"] is None
        assert sum(token != -100 for token in node["masked_tokens"]) > 8


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_back_to_a_gateway_after_others_have_gone_on(pair: Pair, mode: str) -> None:
    """A copy that is several calls behind, and a turn that goes on from an older one."""
    uid = pair[0].post("/sessions/create", {"mode": mode}).json()["uuid"]
    one, other = pair
    messages = talk([one, one, other, other, other, one, other], f"/{uid}", 7)
    older = messages[:4]  # after the first reply
    answered = one.post(f"/{uid}/v1/chat/completions", {"messages": [*older[:3], {"role": "user", "content": "no"}]})
    assert answered.status_code == 200
    leaves = nodes_of(other, uid)
    assert len(leaves) == 2
    assert [one["verdict"] for one in leaves[1]["metadata"]["boundaries"]] == ["root", "exact"]


def test_calls_at_once_are_siblings(pair: Pair) -> None:
    """One session, two gateways, the same moment, again and again: all are stored, and what follows is exact."""
    for mode in MODES:
        uid = pair[0].post("/sessions/create", {"mode": mode, "track_tree": True}).json()["uuid"]
        messages: list[Any] = [{"role": "user", "content": "add 2 and 3"}]
        for turn in range(5):
            with ThreadPoolExecutor(4) as pool:
                body = {"messages": messages, "max_tokens": 16}
                asks = [pool.submit(pair[at % 2].post, f"/{uid}/v1/chat/completions", body) for at in range(4)]
                replies = [ask.result() for ask in asks]
            assert [one.status_code for one in replies] == [200] * 4
            messages += [replies[turn % 4].json()["choices"][0]["message"], {"role": "user", "content": f"and {turn}"}]
        found = nodes_of(pair[1], uid)
        assert len(found) == 20
        verdicts = [one["metadata"]["boundaries"][-1] for one in found]
        assert [one["verdict"] for one in verdicts[4:]] == ["exact"] * 16, (mode, verdicts)


def test_complete_delete_and_register_are_seen_by_the_other(pair: Pair) -> None:
    one, other = pair
    path = init(one)["path"]
    talk(pair, path, 2)
    uid = path.split("/")[1]
    assert one.post(f"/complete_trajectory/{uid}", {"reward": 1.0}).status_code == 200
    for gateway in (other, one):
        assert gateway.post(f"{path}/v1/chat/completions", chat()).status_code == 409
    session = one.post("/sessions/create", {}).json()["uuid"]
    talk(pair, f"/{session}", 2)
    assert other.delete(f"/{session}").status_code == 200
    for gateway in (one, other):
        assert gateway.post(f"/{session}/v1/chat/completions", chat()).status_code == 404
        assert gateway.delete(f"/{session}").status_code == 404


def test_what_is_registered_elsewhere_counts_from_the_next_call(pair: Pair) -> None:
    one, other = pair
    path = init(one)["path"]
    for turn, gateway in enumerate((other, one, other, one)):
        registered = pair[turn % 2].post(f"{path}/v1/register_trajectory", {"metadata": {"policy_version": turn}})
        assert registered.status_code == 200
        assert gateway.post(f"{path}/v1/chat/completions", chat()).status_code == 200
    assert [step["policy_version"] for step in steps_of(one, path.split("/")[1])] == [0, 1, 2, 3]


def test_another_prompt_is_refused_by_both(pair: Pair) -> None:
    path = init(pair[0])["path"]
    uid = path.split("/")[1]
    assert pair[1].post(f"{path}/v1/chat/completions", chat()).status_code == 200
    assert pair[0].post(f"/{uid}/another/v1/chat/completions", chat()).status_code == 409


def test_a_retry_of_a_finished_call_is_replayed_by_the_other(pair: Pair) -> None:
    one, other = pair
    path = f"{init(one)['path']}/v1/chat/completions"
    said = one.post(path, chat(max_tokens=8))
    seen = len(one.stub.requests)
    again = other.post(path, chat(max_tokens=8), headers={"x-stainless-retry-count": "1"})
    assert again.json() == said.json()
    assert len(one.stub.requests) == seen


def test_steps_submitted_to_one_are_known_to_the_other(pair: Pair) -> None:
    uid, body = fresh(), {"prompt_ids": [1, 2], "response_ids": [3], "prompt_uid": "p-" + fresh()}
    for index in range(4):
        step = {"trajectory_uid": uid, "step_index": index, **body}
        assert pair[index % 2].post("/submit_steps", {"steps": [step]}).json() == {"accepted": 1, "duplicates": 0}
        assert pair[1 - index % 2].post("/submit_steps", {"steps": [step]}).json() == {"accepted": 1, "duplicates": 1}


# Workers of one parent.


def test_the_number_of_open_sessions_is_the_same_whoever_answers(each: list[Way]) -> None:
    before = each[0].get("/health").json()["sessions"]
    made = [each[number % 2].post("/sessions/create", {}).json()["uuid"] for number in range(6)]
    for number, uid in enumerate(made):
        assert [way.get("/health").json()["sessions"] for way in each] == [before + 6 - number] * 2
        listed = [{row["uuid"] for row in way.get("/sessions").json()["sessions"]} for way in each]
        assert listed[0] == listed[1] >= set(made[number:])
        assert each[number // 2 % 2].delete(f"/{uid}").status_code == 200
    used = each[0].post("/sessions/create", {}).json()["uuid"]
    each[1].post(f"/{used}/v1/chat/completions", chat())
    at = [
        row["last_accessed"] for way in each for row in way.get("/sessions").json()["sessions"] if row["uuid"] == used
    ]
    assert at[0] == at[1]
    each[0].delete(f"/{used}")


def test_the_limit_of_sessions_counts_those_of_all_workers(each: list[Way]) -> None:
    made: list[str] = []
    while (reply := each[len(made) % 2].post("/sessions/create", {})).status_code == 200:
        made.append(reply.json()["uuid"])
    assert reply.json()["error"]["code"] == "too_many_sessions"
    assert each[0].get("/health").json()["sessions"] == each[1].get("/health").json()["sessions"] == 40
    for uid in made:
        each[0].delete(f"/{uid}")
    assert each[1].post("/sessions/create", {}).status_code == 200


def test_a_retry_of_a_call_in_flight_at_another_worker_waits(workers: GatewayProcess, each: list[Way]) -> None:
    path = f"{init(workers)['path']}/v1/chat/completions"
    workers.stub.spoil(Fault("slow", after=1))
    seen = len(workers.stub.requests)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(each[0].post, path, chat())
        wait_until(lambda: len(workers.stub.requests) > seen)
        again = pool.submit(each[1].post, path, chat(), headers={"x-stainless-retry-count": "1"})
        assert first.result().json() == again.result().json()
    assert len(workers.stub.requests) == seen + 1
    assert len(steps_of(workers, path.split("/")[1])) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_one_key_at_both_workers_at_once_asks_the_engine_once(
    workers: GatewayProcess, each: list[Way], stream: bool
) -> None:
    """Neither has heard of the other when it begins; round after round, whoever comes first."""
    for _ in range(8):
        path = f"{init(workers)['path']}/v1/chat/completions"
        workers.stub.spoil(Fault("slow", after=0.05))
        seen, begin = len(workers.stub.requests), threading.Barrier(4)
        others = [Way(workers), Way(workers)]

        def ask(way: Way, path: str = path, begin: threading.Barrier = begin) -> str:
            begin.wait()
            return way.post(path, chat(stream=stream), headers={"idempotency-key": "turn-1"}).text

        with ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(ask, [*each, *others]))
        for one in others:
            one.close()
        assert len(workers.stub.requests) == seen + 1
        assert len(steps_of(workers, path.split("/")[1])) == 1
        assert stream or len(set(texts)) == 1
        assert all("[DONE]" in text for text in texts) or not stream


def test_a_retry_of_a_call_that_failed_elsewhere_is_a_new_call(workers: GatewayProcess, each: list[Way]) -> None:
    path = f"{init(workers)['path']}/v1/chat/completions"
    workers.stub.spoil(Fault("silence"))
    seen = len(workers.stub.requests)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(each[0].post, path, chat())
        wait_until(lambda: len(workers.stub.requests) > seen)
        again = pool.submit(each[1].post, path, chat(), headers={"x-stainless-retry-count": "1"})
        assert first.result().status_code == 504
        assert again.result().status_code == 200
    assert len(workers.stub.requests) == seen + 2


def test_setup_reaches_all_workers_and_those_that_come_later(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--workers", "2", "--access-log") as gateway:
        other = StubThread()
        try:
            with ways(gateway, 2) as each:
                servers = {"model_name": "stub", "servers": [{"base_url": other.url, "num_max_requests_at_once": 4}]}
                assert each[0].post("/setup", {"servers": []}).status_code in (200, 400)
                assert each[0].post("/setup", servers).status_code == 200

                def asked(way: Way) -> list[str]:
                    return [row["base_url"] for row in way.get("/servers").json()["servers"]]

                wait_until(lambda: asked(each[1]) == [other.url] == asked(each[0]))
                before = pids(gateway)
                os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: pids(gateway)[0] != before[0])
            with ways(gateway, 2) as each:
                assert [asked(way) for way in each] == [[other.url]] * 2
                # Four at once are two at once for each of the workers.
                path = init(gateway)["path"]
                other.spoil(*[Fault("slow", after=1)] * 8)
                several = [Way(gateway) for _ in range(14)]
                with ThreadPoolExecutor(14) as pool:
                    replies = [pool.submit(way.post, f"{path}/v1/chat/completions", chat()) for way in several]
                    wait_until(lambda: len(other.requests) >= 4)
                    rows = [way.get("/servers").json()["servers"][0]["in_flight"] for way in each]
                    assert rows == [4, 4] and len(other.requests) == 4
                    other.heal()
                    assert {one.result().status_code for one in replies} == {200}
                for way in several:
                    way.close()
        finally:
            other.close()


def test_idle_sessions_end_once_and_used_ones_live_whoever_is_asked(tmp_path: Path) -> None:
    flags = ("--workers", "2", "--access-log", "--session-ttl", "1.2s", "--mode", "passthrough")
    with running_gateway(tmp_path, *flags) as gateway, ways(gateway, 2) as each:
        idle = [each[n % 2].post("/sessions/create", {}).json()["uuid"] for n in range(6)]
        used = [each[n % 2].post("/sessions/create", {}).json()["uuid"] for n in range(6)]
        began = time.monotonic()

        def ended() -> bool:
            for number, uid in enumerate(used):  # always at the worker that did not make it
                assert each[1 - number % 2].get(f"/{uid}/nodes").status_code == 200
            rows = {row["uuid"] for row in each[0].get("/sessions").json()["sessions"]}
            return rows == set(used)

        wait_until(ended)
        while time.monotonic() - began < 3:  # longer than twice the time to live
            assert ended()
        expired = [one for one in gateway.said if "session_expired" in one]
        assert len(expired) == len(idle) and all(any(uid in line for line in expired) for uid in idle)
        assert not any('"level":"error"' in line for line in gateway.said)
        assert each[1].post(f"/{idle[0]}/v1/chat/completions", chat()).status_code == 404
