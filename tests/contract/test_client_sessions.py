"""Managed servers over the stub engine, in process and through a gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.client import APIServerConfig, ManagedServer, ServerBaseline, ServerManager
from moorage.errors import FailedError, MoorageError, NotFoundError, PreflightError, TryAgainError, UsageError
from tests.contract.client_session_contract import ASKED, GREEDY, ClientSessionContract, lawful
from tests.contract.client_ways import Way, ways_to
from tests.stand_ins.engine_stub import Fault
from tests.stand_ins.small_engine import SmallEngine

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "nano"


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    with ways_to(tmp_path_factory.mktemp("client"), NANO, replies=SmallEngine(NANO, model="stub")) as both:
        yield both


class TestOverTheStub(ClientSessionContract):
    def test_a_failed_call_leaves_no_node(self, way: Way) -> None:
        """Too few log probabilities, no ids, an abort, a 400: nothing is padded, nothing is recorded."""

        async def script(managed: ManagedServer) -> None:
            for kind, code in (
                ("short_logprobs", "short_logprobs"),
                ("no_ids", "engine_gives_no_token_ids"),
                ("abort", "engine_aborted"),
            ):
                way.stub.spoil(*[Fault(kind)])  # type: ignore[arg-type]
                with pytest.raises(FailedError) as caught:
                    await managed.chat_completion(messages=ASKED, **GREEDY, logprobs=True)
                assert caught.value.code == code
                way.stub.heal()
                assert managed.get_state() == {"nodes": []}
            way.stub.spoil(Fault("status", 400, {"error": {"message": "too long", "code": 400}}))
            before = len(way.stub.requests)
            with pytest.raises(UsageError, match="too long"):
                await managed.chat_completion(messages=ASKED, **GREEDY)
            assert len(way.stub.requests) == before + 1  # a 4xx is asked once
            await managed.chat_completion(messages=ASKED, **GREEDY)
            [node] = managed.get_state()["nodes"]
            lawful(node)

        self.roll(way, script)

    def test_a_hundred_at_once(self, way: Way) -> None:
        async def run() -> None:
            async with way.manager() as manager:

                async def one(number: int) -> list[int]:
                    async with manager.managed_server() as managed:
                        asked = [{"role": "user", "content": f"What is {number} and one?"}]
                        reply = await managed.chat_completion(messages=asked, **GREEDY)
                        more = [*asked, reply.choices[0].message, ASKED[0]]
                        await managed.chat_completion(messages=more, **GREEDY)
                        [node] = (await managed.fetch_state())["nodes"]
                        lawful(node)
                        assert f"{number} and one" in node.full_text
                        return list(node.tokens)

                found = await asyncio.gather(*[one(number) for number in range(100)])
                assert len({tuple(tokens) for tokens in found}) == 100

        asyncio.run(run())

    def test_cancelled_rollouts_leave_nothing_behind(self, way: Way) -> None:
        async def run() -> None:
            async with way.manager() as manager:
                way.stub.spoil(Fault("silence"))

                async def one() -> None:
                    async with manager.managed_server() as managed:
                        await managed.chat_completion(messages=ASKED, **GREEDY)

                task = asyncio.ensure_future(one())
                asked = len(way.stub.requests)
                way.stub.call(way.stub.stub.until(lambda: len(way.stub.requests) > asked - 1))
                await asyncio.sleep(0)
                for _ in range(2000):
                    if way.stub.stub.in_flight:
                        break
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.to_thread(way.stub.call, way.stub.stub.until(lambda: way.stub.stub.in_flight == 0))
                async with manager.managed_server() as managed:
                    assert (await managed.chat_completion(messages=ASKED, **GREEDY)).choices

        try:
            asyncio.run(run())
        finally:
            way.stub.heal()

    def test_one_manager_in_several_loops(self, way: Way) -> None:
        manager = way.manager()

        async def run() -> int:
            async with manager.managed_server() as managed:
                await managed.chat_completion(messages=ASKED, **GREEDY)
                nodes = len(managed.get_state()["nodes"])
            await manager.close()
            return nodes

        assert [asyncio.run(run()) for _ in range(2)] == [1, 1]

    def test_sessions_end_with_their_block(self, ways: dict[str, Way]) -> None:
        way = ways["gateway"]

        async def run() -> str:
            async with way.manager() as manager, manager.managed_server() as managed:
                url = managed.get_url()
                assert url.startswith(way.gateway.url)
                assert url.endswith("/v1")
                return url

        url = asyncio.run(run())
        assert way.gateway.get(url.removesuffix("/v1") + "/nodes").status_code == 404

    def test_an_agent_at_the_url_is_seen(self, ways: dict[str, Way]) -> None:
        import openai

        way = ways["gateway"]

        async def run() -> None:
            async with way.manager() as manager, manager.managed_server() as managed:
                async with openai.AsyncOpenAI(base_url=managed.get_url(), api_key="none") as agent:
                    await agent.chat.completions.create(model="stub", messages=ASKED)  # type: ignore[arg-type]
                assert len(managed.get_state()["nodes"]) == 1

        asyncio.run(run())

    def test_in_process_there_is_no_url(self, ways: dict[str, Way]) -> None:
        async def script(managed: ManagedServer) -> None:
            with pytest.raises(UsageError) as caught:
                managed.get_url()
            assert caught.value.code == "no_url"

        self.roll(ways["in process"], script)

    def test_in_process_nothing_is_written(
        self, ways: dict[str, Way], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR"):
            monkeypatch.setenv(name, str(tmp_path))
        monkeypatch.chdir(tmp_path)

        async def script(managed: ManagedServer) -> None:
            await managed.chat_completion(messages=ASKED, **GREEDY)

        self.roll(ways["in process"], script)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_tokenizer_object(ways: dict[str, Way]) -> None:
    """As transformers' fast ones are: with the tokenizers library behind it and the template as an attribute."""
    import tokenizers

    class Fast:
        backend_tokenizer = tokenizers.Tokenizer.from_file(str(NANO / "tokenizer.json"))
        chat_template = (NANO / "chat_template.jinja").read_text()
        eos_token_id = None

    async def nodes(tokenizer: Any) -> list[int]:
        async with ways["in process"].manager() as manager, manager.managed_server(tokenizer=tokenizer) as managed:
            await managed.chat_completion(messages=ASKED, **GREEDY)
            [node] = managed.get_state()["nodes"]
            assert node.metadata["mode"] == "exact"
            return list(node.tokens)

    assert asyncio.run(nodes(Fast())) == asyncio.run(nodes(str(NANO)))
    with pytest.raises(PreflightError) as caught:
        asyncio.run(nodes(object()))
    assert caught.value.code == "tokenizer_unusable"


def test_servers_of_a_manager(ways: dict[str, Way]) -> None:
    async def run() -> None:
        async with ways["in process"].manager() as manager:
            [server] = manager.servers
            assert (server.sem.max_val, server.eval_sem.max_val) == (512, 64)
            managed = ManagedServer(server, track_tree=False)
            await managed.chat_completion(messages=ASKED, split="eval", **GREEDY)
            assert len(managed.get_state()["nodes"]) == 1
            await managed.cleanup()
            await server.chat_completion(messages=ASKED, split="eval")
            assert server.server_healthy
            metrics = await server.wandb_metrics({}, "one")
            assert "server/one_eval_request_time_avg" in metrics
            await manager.update_weight(0.5)
            assert server.sem._value == 256
            async with manager.dedicated_server() as held:
                assert held is server
                assert server.sem._value == 255
            await manager.wait_for_sem(True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: ServerManager([], environ={}), UsageError),
        (lambda: ServerManager([APIServerConfig(base_url="nonsense", server_type="vllm")], environ={}), UsageError),
        (lambda: ServerManager([], proxy_url="nonsense", environ={}), UsageError),
        (lambda: ServerManager([], proxy_url="http://127.0.0.1:1", key_env="NO_SUCH", environ={}), PreflightError),
        (lambda: ServerManager([], testing=True, environ={}), UsageError),
        (lambda: ServerManager([], max_n_completions=0, proxy_url="http://127.0.0.1:1", environ={}), UsageError),
        (lambda: APIServerConfig(server_type="tgi"), ValueError),  # type: ignore[arg-type]
    ],
)
def test_managers_that_cannot_be(made: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        made()


def test_use_proxy_without_an_address() -> None:
    async def run() -> None:
        async with ServerManager([], use_proxy=True, environ={}).managed_server():
            pytest.fail("it began")

    with pytest.raises(UsageError, match="ATROPOS_PROXY_URL"):
        asyncio.run(run())


def test_engines_without_ids_are_refused(ways: dict[str, Way], monkeypatch: pytest.MonkeyPatch) -> None:
    config = APIServerConfig(base_url=ways["in process"].engine, server_type="openai", tokenizer_name=str(NANO))

    async def run() -> Any:
        async with ServerManager(config, environ={}) as manager, manager.managed_server() as managed:
            reply = await managed.chat_completion(messages=ASKED, **GREEDY)
            return reply, managed.get_state()

    with pytest.raises(UsageError) as caught:
        asyncio.run(run())
    assert caught.value.code == "engine_gives_no_token_ids"
    monkeypatch.setenv("ATROPOS_ALLOW_DUMMY_MANAGED_SERVER", "1")
    _, state = asyncio.run(run())
    assert all(node.metadata["dummy"] for node in state["nodes"])


def test_an_unknown_pin(ways: dict[str, Way]) -> None:
    async def begin(way: Way) -> None:
        async with way.manager() as manager, manager.managed_server(base_url="http://127.0.0.1:1/v1"):
            pytest.fail("it began")

    for way in ways.values():
        with pytest.raises(NotFoundError) as caught:
            asyncio.run(begin(way))
        assert caught.value.code == "unknown_base_url"


def test_the_documented_defaults() -> None:
    """The names and values of Atropos."""
    config = APIServerConfig()
    assert config.model_dump(exclude={"api_key_env"}) == {
        "timeout": 1200,
        "num_max_requests_at_once": 512,
        "num_requests_for_eval": 64,
        "model_name": "default",
        "rolling_buffer_length": 1000,
        "server_type": "openai",
        "tokenizer_name": "none",
        "api_key": "",
        "base_url": "",
        "n_kwarg_is_ignored": False,
        "health_check": True,
    }
    manager = ServerManager(ServerBaseline(server_type="vllm", model_name="m"), environ={})
    assert [server.config.base_url for server in manager.servers] == [
        f"http://localhost:{port}/v1" for port in (9004, 9005, 9006, 9007)
    ]
    assert manager.max_n_completions == 8


def test_errors_are_of_one_tree() -> None:
    assert issubclass(UsageError, MoorageError)


def test_a_gateway_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    """The block ends with the error that the call met, and at once."""
    with ways_to(tmp_path, NANO, replies=SmallEngine(NANO, model="stub")) as both:
        way = both["gateway"]

        async def run() -> float:
            manager = way.manager(patience_s=0.2)
            with pytest.raises(TryAgainError) as caught:
                async with manager.managed_server() as managed:
                    await managed.chat_completion(messages=ASKED, **GREEDY)
                    way.gateway.kill()
                    began = time.monotonic()
                    await managed.chat_completion(messages=ASKED, **GREEDY)
            assert caught.value.code == "no_connection"
            return time.monotonic() - began

        assert asyncio.run(run()) < 20


def test_an_engine_that_restarts_is_waited_for(ways: dict[str, Way]) -> None:
    """Within the manager's patience, whichever way; then what is sampled goes on from what was."""

    async def run(way: Way) -> None:
        async with way.manager(patience_s=60) as manager, manager.managed_server() as managed:
            reply = await managed.chat_completion(messages=ASKED, **GREEDY)
            await asyncio.to_thread(way.stub.vanish)
            more = [*ASKED, reply.choices[0].message, ASKED[0]]
            going = asyncio.ensure_future(managed.chat_completion(messages=more, **GREEDY))
            await asyncio.sleep(0)
            await asyncio.to_thread(way.stub.come_back)
            await going
            assert len((await managed.fetch_state())["nodes"]) == 1

    for way in ways.values():
        asyncio.run(run(way))
