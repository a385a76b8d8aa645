"""How likely a prompt is: the gateway's answer beside the engine's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.gateway_calls import check_openai
from tests.contract.gateway_process import GatewayProcess, running_gateway

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

MESSAGES = [{"role": "user", "content": "What is 46*87?"}]


@pytest.fixture(scope="module")
def gateway(nano_engine: str, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    flags = ("--tokenizer-path", str(nano))
    with running_gateway(tmp_path_factory.mktemp("gateway"), *flags, whom=("--upstream", nano_engine)) as gateway:
        yield gateway


def own_numbers(engine: str, ids: list[int], top_k: int) -> list[dict[int, dict[str, Any]]]:
    """What vLLM says of the same ids when it is asked itself; the first row is empty."""
    body = {"prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": top_k}
    said = requests.post(f"{engine.removesuffix('/v1')}/v1/completions", json=body, timeout=120).json()
    rows = said["choices"][0]["prompt_logprobs"]
    return [{int(name): entry for name, entry in (row or {}).items()} for row in rows]


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("where", ["open", "exact", "passthrough"])
def test_against_the_engines_own_numbers(gateway: GatewayProcess, nano_engine: str, where: str, top_k: int) -> None:
    path = "/v1/logprobs"
    rendered = None
    if where != "open":
        uid = gateway.post("/sessions/create", {"mode": where}).json()["uuid"]
        path = f"/{uid}/v1/logprobs"
        rendered = gateway.post(f"/{uid}/v1/chat/completions/render", {"messages": MESSAGES}).json()["token_ids"]
    reply = gateway.post(path, {"messages": MESSAGES, "top_k": top_k})
    assert reply.status_code == 200, reply.text
    said = reply.json()
    ids = said["prompt_tokens"]
    assert rendered is None or ids == rendered
    check(said, own_numbers(nano_engine, ids, top_k), top_k)
    again = gateway.post(path, {"input_ids": ids, "top_k": top_k}).json()
    assert again["prompt_tokens"] == ids
    if where != "open":
        assert gateway.get(f"{path.removesuffix('/v1/logprobs')}/nodes").json()["nodes"] == []


def check(said: dict[str, Any], rows: list[dict[int, dict[str, Any]]], top_k: int) -> None:
    ids = said["prompt_tokens"]
    assert len(ids) == len(rows) > 5
    assert (said["prompt_topk_token_ids"][0], said["prompt_topk_logprobs"][0]) == ([], [])
    assert said["prompt_logprobs"][0] is None
    for position in range(1, len(ids)):
        row = rows[position]
        names, values = said["prompt_topk_token_ids"][position], said["prompt_topk_logprobs"][position]
        assert len(names) == len(values) == top_k
        assert values == sorted(values, reverse=True)
        best = sorted((entry["logprob"] for entry in row.values()), reverse=True)[:top_k]
        assert values == pytest.approx(best, abs=1e-4)
        assert values == pytest.approx([row[name]["logprob"] for name in names], abs=1e-4)
        assert said["prompt_logprobs"][position] == pytest.approx(row[ids[position]]["logprob"], abs=1e-4)


def test_text_and_what_the_engine_refuses(gateway: GatewayProcess) -> None:
    reply = gateway.post("/v1/logprobs", {"prompt": "one and one is two", "top_k": 2})
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["prompt_tokens"]) == len(reply.json()["prompt_logprobs"])
    check_openai(gateway.post("/v1/logprobs", {"input_ids": [5, 6], "top_k": 1000}), 400)
    check_openai(gateway.post("/v1/logprobs", {"input_ids": [10**8]}), 400)
