"""The client's contract over a real vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.client import ManagedServer
from tests.contract.client_session_contract import ASKED, GREEDY, ClientSessionContract
from tests.contract.client_ways import Way, ways_to

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ways(nano_engine: str, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    with ways_to(tmp_path_factory.mktemp("client"), nano, engine=nano_engine) as both:
        yield both


class TestOverVllm(ClientSessionContract):
    def test_log_probabilities_of_a_prompt(self, ways: dict[str, Way]) -> None:
        async def script(managed: ManagedServer) -> Any:
            await managed.chat_completion(messages=ASKED, **GREEDY)
            [node] = managed.get_state()["nodes"]
            told = await managed.get_logprobs(input_ids=node.tokens, top_k=3)
            assert told["prompt_tokens"] == node.tokens
            assert told["prompt_topk_token_ids"][0] == told["prompt_topk_logprobs"][0] == []
            assert all(len(row) == 3 for row in told["prompt_topk_token_ids"][1:])
            assert told["prompt_logprobs"][0] is None
            assert await managed.get_logprobs(messages=ASKED, top_logprobs=1)
            assert len(managed.get_state()["nodes"]) == 1
            return told

        shapes = {}
        for name, way in ways.items():
            shapes[name] = self.roll(way, script)["prompt_tokens"]
        assert shapes["in process"] == shapes["gateway"]

    def test_manager_scores_too(self, way: Way) -> None:
        async def run() -> None:
            async with way.manager() as manager:
                told = await manager.get_logprobs(prompt="One and one", top_k=2, split="eval")
                assert len(told["prompt_tokens"]) == len(told["prompt_logprobs"])

        asyncio.run(run())
