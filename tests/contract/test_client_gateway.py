"""The gateway's client, blocking and awaited, against a gateway process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.client import AsyncGatewayClient, Event, GatewayClient, Step
from moorage.client.gateway.tables import lease_ids
from moorage.errors import ConflictError, FailedError, NotFoundError, PreflightError, TryAgainError, UsageError
from tests.contract.gateway_calls import SAID, fresh, step
from tests.contract.gateway_keys import Keys
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway
from tests.stand_ins.engine_stub import Fault


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("client"), "--reward", "exact") as running:
        yield running


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[GatewayClient]:
    with GatewayClient(gateway.url, environ={}) as made:
        yield made


def groups(client: GatewayClient, number: int, *, rollouts: int = 1) -> str:
    """A channel of its own with so many ready groups."""
    channel = fresh()
    for _ in range(number):
        prompt = fresh()
        for _ in range(rollouts):
            client.submit_steps([step(fresh(), prompt_uid=prompt, is_last=True, reward=0.5)], channel=channel)
    return channel


def counts(client: GatewayClient, channel: str) -> dict[str, int]:
    found: dict[str, int] = client.stats(channel)[channel]["groups"]
    return found


def test_a_trajectory_from_beginning_to_end(client: GatewayClient) -> None:
    channel, prompt = fresh(), fresh()
    trajectory = client.init_trajectory(prompt, metadata={"task": 1})
    client.register(trajectory, channel=channel, metadata={"ground_truth": "two"})
    reply = client.chat(trajectory, messages=SAID)
    assert reply["choices"][0]["message"]["role"] == "assistant"
    client.completion(trajectory, prompt="One and")
    client.complete(trajectory, reward=1.0)
    client.complete(trajectory, reward=1.0)
    [lease] = client.lease(channel, n_rollouts=1)
    assert (lease.prompt_uid, lease.attempt, lease.channel) == (prompt, 1, channel)
    [leased] = lease.trajectories
    assert leased.reward == 1.0
    assert [one.step_index for one in leased.steps] == [0, 1]
    assert [one.is_last for one in leased.steps] == [False, True]
    assert leased.steps[0].rollout_log_probs is not None
    assert len(leased.steps[0].response_ids) == len(leased.steps[0].rollout_log_probs)
    assert client.ack(lease) == 1
    assert client.ack(lease.lease_id) == 1
    with pytest.raises(ConflictError) as caught:
        client.nack(lease)
    assert caught.value.code == "lease_lost"
    [row] = client.trajectories(trajectory_uid=trajectory.trajectory_uid)
    assert (row.state, row.steps, row.reward) == ("complete", 2, 1.0)


def test_steps_go_round(client: GatewayClient) -> None:
    uid = fresh()
    given = [
        Step(
            trajectory_uid=uid, step_index=index, prompt_ids=[1, 2**32 - 1], response_ids=[3], rollout_log_probs=[-0.1]
        )
        for index in range(3)
    ]
    assert client.submit_steps(given, channel=fresh()) == {"accepted": 3, "duplicates": 0}
    assert client.submit_steps(given)["duplicates"] == 3
    stored = list(client.steps(trajectory_uid=uid, limit=2))
    assert [(one.prompt_ids, one.response_ids, one.rollout_log_probs) for one in stored] == [
        (one.prompt_ids, one.response_ids, one.rollout_log_probs) for one in given
    ]
    assert client.mark(uid, 0, trainable=False) == {"trainable": False}
    with pytest.raises(ConflictError):
        client.submit_steps([{**step(uid), "response_ids": [9, 9]}])
    with pytest.raises(UsageError) as caught:
        client.submit_steps([{"trajectory_uid": uid, "prompt_ids": [1], "response_ids": [-1]}])
    assert caught.value.data is not None
    assert caught.value.data["errors"][0]["pointer"].startswith("/steps/0")


def test_leases_are_acked_when_done_with(client: GatewayClient) -> None:
    channel = groups(client, 5)
    seen = [lease.prompt_uid for lease in client.leases(channel, idle_s=0, max_groups=2)]
    assert len(set(seen)) == 5
    assert counts(client, channel)["acked"] == 5


def test_an_exception_gives_the_lease_back(client: GatewayClient) -> None:
    channel = groups(client, 3)
    with pytest.raises(ZeroDivisionError):
        for number, _lease in enumerate(client.leases(channel, idle_s=0, max_groups=3)):
            if number == 1:
                raise ZeroDivisionError
    assert counts(client, channel) == {"open": 0, "ready": 2, "leased": 0, "acked": 1, "dropped": 0}


def test_leaving_within_a_block_acks(client: GatewayClient) -> None:
    channel = groups(client, 3)
    with client.leases(channel, idle_s=0, max_groups=3) as leases:
        for _ in leases:
            break
    assert counts(client, channel) == {"open": 0, "ready": 2, "leased": 0, "acked": 1, "dropped": 0}
    with pytest.raises(ZeroDivisionError), client.leases(channel, idle_s=0, max_groups=3) as leases:
        for _ in leases:
            raise ZeroDivisionError
    assert counts(client, channel)["acked"] == 1
    with client.leases(channel, limit=1) as leases:
        for _ in leases:
            leases.nack(drop=True, reason="no use")
    assert counts(client, channel) == {"open": 0, "ready": 1, "leased": 0, "acked": 1, "dropped": 1}


def test_it_gives_up_in_time(client: GatewayClient) -> None:
    began = time.monotonic()
    assert list(client.leases(fresh(), idle_s=0.3)) == []
    assert time.monotonic() - began < 20
    with pytest.raises(UsageError):
        client.leases("train", idle_s=-1)
    with pytest.raises(UsageError):
        client.lease("train", n_rollouts=0)


def test_a_lease_as_a_table(client: GatewayClient) -> None:
    channel = groups(client, 2)
    table = client.lease_table(channel, max_groups=2)
    assert table["prompt_ids"].to_pylist() == [[1, 2], [1, 2]]
    assert client.ack(*lease_ids(table)) == 2


def test_rewards(client: GatewayClient) -> None:
    trajectory = client.init_trajectory()
    client.submit_steps([step(trajectory.trajectory_uid)], channel=fresh())
    client.complete(trajectory.trajectory_uid)
    said = [*SAID, {"role": "assistant", "content": "two"}]
    judged = client.compute_reward(
        messages=said, dataset_fields={"ground_truth": "two"}, trajectory_uid=trajectory.trajectory_uid, store=True
    )
    assert (judged.reward, judged.function) == (1.0, "exact")
    assert client.set_reward(trajectory.trajectory_uid, 0.25) > (judged.version or 0)
    assert client.rewards(trajectory.trajectory_uid)
    with pytest.raises(UsageError) as caught:
        client.compute_reward(messages=said, function="nonsense")
    assert caught.value.code == "reward_unknown"
    with pytest.raises(UsageError):
        client.set_reward(trajectory.trajectory_uid, float("nan"))


def test_control(client: GatewayClient) -> None:
    assert client.health()["status"] == "ok"
    assert client.servers()
    assert client.pause(wait_s=1, retry_after_s=1)["paused"]
    threading.Timer(0.3, lambda: client.resume()).start()
    assert client.chat(client.init_trajectory(), messages=SAID)["choices"]  # a pause is waited for
    assert client.set_weights(7)["version"] == client.weights() == 7
    with pytest.raises(ConflictError) as caught:
        client.set_weights(6)
    assert caught.value.code == "weights_older"
    client.set_weights(0, force=True)


def test_unknown_things(client: GatewayClient) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.complete(fresh())
    assert caught.value.code == "unknown_trajectory" or caught.value.code == "trajectory_unknown"
    with pytest.raises(NotFoundError):
        client.ack("nonsense")
    with pytest.raises(UsageError):
        client.complete("../pause")
    with pytest.raises(NotFoundError):
        client.nodes(fresh())


def test_a_model_call_is_recorded_once(gateway: GatewayProcess, client: GatewayClient) -> None:
    """The engine closes without a byte: the gateway asks again, and there is one step."""
    trajectory = client.init_trajectory()
    gateway.stub.spoil(Fault("close"))
    client.chat(trajectory, messages=SAID)
    client.chat(trajectory, messages=SAID)  # a new sample: each call has a key of its own
    assert len(list(client.steps(trajectory_uid=trajectory.trajectory_uid))) == 2


def test_events_follow(client: GatewayClient) -> None:
    channel = groups(client, 2)
    stream = client.events(channel, after=0)
    first = [next(stream) for _ in range(4)]
    assert [event.type for event in first] == ["step", "complete"] * 2
    assert first[0].id < first[-1].id
    client.ack(*client.lease(channel))
    assert [next(stream).type for _ in range(2)] == ["lease", "ack"]


def test_both_forms_do_the_same(gateway: GatewayProcess, client: GatewayClient) -> None:
    channel = groups(client, 4)

    async def run() -> None:
        async with AsyncGatewayClient(gateway.url, environ={}) as one:
            async with one.leases(channel, idle_s=0, max_groups=4) as leases:
                async for lease in leases:
                    assert lease.trajectories
                    break
            assert (await one.stats(channel))[channel]["groups"]["acked"] == 1
            with pytest.raises(ZeroDivisionError):
                async with one.leases(channel, idle_s=0) as leases:
                    async for _ in leases:
                        raise ZeroDivisionError
            holds = asyncio.Event()
            task = asyncio.ensure_future(_hold(one, channel, holds))
            async with asyncio.timeout(60):
                await holds.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await one.stats(channel))[channel]["groups"]["leased"] == 0
            assert [lease.attempt async for lease in one.leases(channel, idle_s=0)]
            assert (await one.stats(channel))[channel]["groups"]["acked"] == 4
            trajectory = await one.init_trajectory()
            await one.chat(trajectory, messages=SAID)
            await one.complete(trajectory)
            assert [row.step_index async for row in one.steps(trajectory_uid=trajectory.trajectory_uid)] == [0]
            seen = [event async for event in _some(one.events(after=0), 3)]
            assert len(seen) == 3

    asyncio.run(run())


async def _hold(one: AsyncGatewayClient, channel: str, holds: asyncio.Event) -> None:
    async with one.leases(channel, idle_s=30) as leases:
        async for _ in leases:
            holds.set()
            await asyncio.Event().wait()


async def _some(source: Any, number: int) -> Any:
    async for one in source:
        yield one
        number -= 1
        if not number:
            break
    await source.aclose()


def test_cancelling_a_call_stops_the_engine(gateway: GatewayProcess) -> None:
    async def run() -> None:
        async with AsyncGatewayClient(gateway.url, environ={}) as one:
            trajectory = await one.init_trajectory()
            gateway.stub.spoil(Fault("silence"))
            task = asyncio.ensure_future(one.chat(trajectory, messages=SAID))
            stub = gateway.stub.stub
            await asyncio.to_thread(gateway.stub.call, stub.until(lambda: stub.in_flight == 1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(gateway.stub.call, stub.until(lambda: stub.in_flight == 0))

    asyncio.run(run())


def test_a_gateway_that_restarts_in_the_middle(tmp_path: Path) -> None:
    """A trainer, an agent and a follower of events that are at work notice a pause and nothing else."""
    stub = StubThread()
    running = [GatewayProcess(stub, tmp_path / "gateway.db")]
    try:
        with GatewayClient(running[0].url, environ={}, patience_s=60) as client:
            channel = fresh()
            events, follower = _followed(client, channel)
            _agents(client, channel, 2)
            with client.leases(channel, idle_s=60, limit=4) as leases:
                for taken, lease in enumerate(leases):
                    assert lease.trajectories[0].steps
                    if taken == 0:
                        running[0].kill()
                        port = str(running[0].port)
                        running.append(GatewayProcess(stub, tmp_path / "gateway.db", "--port", port, until_ready=False))
                    if taken == 1:
                        _agents(client, channel, 2)
            follower.join(60)
            ids = [event.id for event in events]
            assert ids == sorted(set(ids))  # none twice
            assert [event.type for event in events].count("complete") == 4  # none missed
            assert counts(client, channel)["acked"] == 4
    finally:
        for gateway in running:
            gateway.kill()
        stub.close()


def _agents(client: GatewayClient, channel: str, number: int) -> None:
    for _ in range(number):
        trajectory = client.init_trajectory(channel=channel)
        client.chat(trajectory, messages=SAID)
        client.complete(trajectory, reward=1.0)


def _followed(client: GatewayClient, channel: str) -> tuple[list[Event], threading.Thread]:
    """What happens in the channel until four leases are acked."""
    events: list[Event] = []

    def follow() -> None:
        for event in client.events(channel, after=0):
            events.append(event)
            if [one.type for one in events].count("ack") == 4:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return events, thread


def test_nobody_is_there() -> None:
    from tests.contract.platform_contract import free_port

    began = time.monotonic()
    with (
        GatewayClient(f"http://127.0.0.1:{free_port()}", patience_s=0.5, environ={}) as client,
        pytest.raises(TryAgainError) as caught,
    ):
        client.stats()
    assert caught.value.code == "no_connection"
    assert time.monotonic() - began < 20


def test_a_stranger_is_told_apart(gateway: GatewayProcess) -> None:
    """The engine is no gateway: what it answers is no pool's."""
    with GatewayClient(gateway.stub.url.removesuffix("/v1"), environ={}, patience_s=0) as client:
        with pytest.raises(Exception) as caught:
            client.stats()
        assert caught.value.code in ("bad_reply", "http_404", "not_found")  # type: ignore[attr-defined]


def test_what_is_no_stream_is_not_followed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            wire, _ = server.accept()
            with wire:
                wire.recv(1 << 16)
                wire.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\nhello\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with GatewayClient(url, environ={}) as client, pytest.raises(FailedError) as caught:
            next(client.events(after=0))
    assert caught.value.code == "bad_reply"


def test_keys(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--auth", "keys") as gateway:
        with GatewayClient(gateway.url, environ={}) as nobody, pytest.raises(PreflightError) as caught:
            nobody.stats()
        assert caught.value.code == "key_missing"
        assert "MOORAGE_KEY" in caught.value.hint
        with (
            GatewayClient(gateway.url, environ={"MOORAGE_KEY": "moor-wrong"}) as wrong,
            pytest.raises(PreflightError) as caught,
        ):
            wrong.stats()
        assert caught.value.code == "key_wrong"
        assert "moor-wrong" not in str(caught.value.__dict__)
        with pytest.raises(PreflightError) as caught:
            GatewayClient(gateway.url, key_env="OTHER", environ={})
        assert caught.value.code == "key_missing"
        with GatewayClient(gateway.url, key_env="OTHER", environ={"OTHER": keys.trainer}) as trainer:
            assert trainer.stats()["train"]["steps"] == 0
            trajectory = trainer.init_trajectory()
            assert trajectory.api_key
            trainer.chat(trajectory, messages=SAID)
            session = trainer.create_session(mode="passthrough")
            assert session.api_key
            trainer.session_chat(session.uuid, messages=SAID)
            assert len(trainer.nodes(session.uuid)) == 1
            trainer.delete_session(session.uuid)
            assert keys.trainer not in repr(trainer._http.terms)
