"""One suite over every dialect, through the gateway: whatever engine sampled, the record is the same.

The stand-ins sample by a hash of the prompt's ids, so two engines of different kinds must leave identical nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import check_openai, events_of, init, steps_of
from tests.contract.gateway_engines import SAMPLING, Engine, engines_behind, ids_of, talk
from tests.contract.gateway_process import GatewayProcess
from tests.stand_ins.sglang_server import SglangServer
from tests.stand_ins.trl_server import TrlServer

TURNS = ("What is one and one?", "And two more?", "So?")
KINDS = ("vllm", "sglang", "sglang-incremental", "sglang-older", "trl", "trl-older")


def engine_of(kind: str, nano: Path) -> Engine:
    name, _, variant = kind.partition("-")
    if variant:
        made: Any = SglangServer if name == "sglang" else TrlServer
        return Engine(name, made(nano, **{variant: True}))
    return Engine(name)


@pytest.fixture(scope="module", params=KINDS)
def exact(request: pytest.FixtureRequest, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway over one engine, and the vLLM one to compare with."""
    engine = engine_of(request.param, nano)
    folder = tmp_path_factory.mktemp(request.param)
    with engines_behind(folder, nano, engine, Engine("vllm")) as (gateway, stubs):
        yield gateway, stubs[0].url, stubs[1].url


def create(gateway: GatewayProcess, base_url: str, **fields: Any) -> str:
    made = gateway.post("/sessions/create", {"base_url": base_url, **fields})
    assert made.status_code == 200, made.text
    uid: str = made.json()["uuid"]
    return uid


@pytest.mark.parametrize("mode", ["exact", "passthrough"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_is_recorded_alike(exact: Any, mode: str, stream: bool) -> None:
    gateway, url, vllm = exact
    nodes = []
    for base_url in (url, vllm):
        uid = create(gateway, base_url, mode=mode)
        messages: list[dict[str, Any]] = []
        for turn in TURNS:
            messages.append({"role": "user", "content": turn})
            fields = {"messages": messages, **SAMPLING, "max_tokens": 64, "stream": stream}
            reply = gateway.post(f"/{uid}/v1/chat/completions", fields)
            assert reply.status_code == 200, reply.text
            said = _content(reply.text) if stream else reply.json()["choices"][0]["message"]["content"]
            assert said, reply.text
            assert "token_ids" not in reply.text or '"token_ids":null' in reply.text
            messages.append({"role": "assistant", "content": said})
        nodes.append(ids_of(gateway, uid))
    assert nodes[0] == nodes[1]
    assert len(nodes[0]) == 1


def test_several_choices_and_what_ends_them(exact: Any) -> None:
    gateway, url, vllm = exact
    for fields in ({"n": 3}, {"stop": " is"}, {"max_tokens": 2}, {"n": 2, "stream": True}):
        nodes = []
        for base_url in (url, vllm):
            uid = create(gateway, base_url)
            body = {"messages": [{"role": "user", "content": "Go."}], **SAMPLING, "max_tokens": 40, **fields}
            reply = gateway.post(f"/{uid}/v1/chat/completions", body)
            assert reply.status_code == 200, reply.text
            if not fields.get("stream"):
                choices = reply.json()["choices"]
                assert [one["index"] for one in choices] == list(range(fields.get("n", 1)))
            nodes.append(ids_of(gateway, uid))
        assert nodes[0] == nodes[1], fields


def test_text_completions(exact: Any) -> None:
    gateway, url, vllm = exact
    nodes = []
    for base_url in (url, vllm):
        uid = create(gateway, base_url)
        for prompt in ("One and one", [5, 6, 7, 8]):
            reply = gateway.post(f"/{uid}/v1/completions", {"prompt": prompt, **SAMPLING, "max_tokens": 9})
            assert reply.status_code == 200, reply.text
            assert reply.json()["choices"][0]["text"]
        nodes.append(ids_of(gateway, uid))
    assert nodes[0] == nodes[1]


def test_log_probabilities_for_the_client(exact: Any) -> None:
    gateway, url, _ = exact
    uid = create(gateway, url)
    [reply] = talk(gateway, uid, "Hi.", logprobs=True, top_logprobs=1, return_token_ids=True)
    [choice] = reply["choices"]
    [node] = ids_of(gateway, uid)
    content = choice["logprobs"]["content"]
    sampled = [one for one in node["logprobs"] if one != 1.0]
    assert [one["logprob"] for one in content] == pytest.approx(sampled)
    assert len(content) == len(choice["token_ids"])
    assert reply["prompt_token_ids"] + choice["token_ids"] == node["tokens"]
    assert all(len(one["top_logprobs"]) == 1 for one in content)


def test_trajectories_and_generate(exact: Any) -> None:
    gateway, url, _ = exact
    made = init(gateway)
    body = {"messages": [{"role": "user", "content": "Hi."}], **SAMPLING}
    assert gateway.post(f"{made['path']}/v1/chat/completions", body).status_code == 200
    [step] = steps_of(gateway, made["trajectory_uid"])
    assert len(step["response_ids"]) == len(step["rollout_log_probs"]) > 0
    said = gateway.post("/generate", {"prompt_ids": step["prompt_ids"], "max_tokens": 8, "sampling_params": SAMPLING})
    assert said.status_code == 200, said.text
    assert said.json()["prompt_ids"] == step["prompt_ids"]
    assert len(said.json()["token_ids"]) == len(said.json()["log_probs"]) > 0
    assert url


def test_the_open_routes(exact: Any) -> None:
    gateway, _, _ = exact
    for _ in range(4):  # both endpoints have their turn
        reply = gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi."}], **SAMPLING})
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"]
        body = {"messages": [{"role": "user", "content": "Hi."}], **SAMPLING, "stream": True}
        streamed = gateway.post("/v1/chat/completions", body)
        assert _content(streamed.text) == reply.json()["choices"][0]["message"]["content"]
        assert events_of(streamed.text.split("\n"))[-1] == "[DONE]"


def test_unknown_split_is_named(exact: Any) -> None:
    gateway, _, _ = exact
    body = {"messages": [{"role": "user", "content": "Hi."}]}
    said = gateway.post("/v1/chat/completions", body, headers={"x-moorage-split": "test"})
    assert "train, eval" in check_openai(said, 400, "split_unknown")["message"]


def _content(text: str) -> str:
    import json

    events = [json.loads(one) for one in events_of(text.split("\n")) if one != "[DONE]"]
    assert not any("error" in event for event in events), text
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
