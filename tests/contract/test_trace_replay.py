"""A recorded agent run, replayed without an engine by the unmodified OpenAI SDK: the client cannot tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
import requests
from openai import OpenAI

from tests.contract.gateway_calls import check_openai, init, step, submit
from tests.contract.gateway_process import running_gateway
from tests.contract.trace_process import ReplayProcess, replaying
from tests.contract.trace_runs import NANO, SCRIPT, play, scripted_engine
from tests.contract.trace_runs import TOOLS as TOOLS_OF_RUN

SUM = [{"role": "system", "content": "You add numbers."}, {"role": "user", "content": "What is two and three?"}]


class Recorded(NamedTuple):
    """Runs that were recorded: where each was played, and what its client was given."""

    db: str
    runs: dict[str, tuple[str, list[Any]]]
    """Name → the path under the gateway, what was given."""

    def uid(self, name: str) -> str:
        return self.runs[name][0].split("/")[1]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    runs: dict[str, tuple[str, list[Any]]] = {}
    engine = scripted_engine()
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=engine) as gateway:

        def record(name: str, path: str, **sampling: Any) -> None:
            engine.say.clear()
            engine.say.extend(SCRIPT)
            runs[name] = path, play(gateway.url + path, sampling=sampling)

        for mode in ("passthrough", "exact"):
            made = gateway.post("/sessions/create", {"mode": mode, "tool_parser": None}).json()
            record(mode, f"/{made['uuid']}/v1")
        trajectory = init(gateway)
        record("trajectory", f"{trajectory['path']}/v1", temperature=0.25)
        submit(gateway, step(trajectory["trajectory_uid"], 99))
        assert gateway.stop() == 0
    return Recorded(f"sqlite:///{folder / 'gateway.db'}", runs)


@pytest.fixture(scope="module")
def replay(recorded: Recorded) -> Iterator[ReplayProcess]:
    with replaying(recorded.db, "--all") as found:
        yield found


@pytest.mark.parametrize("name", ["passthrough", "exact", "trajectory"])
def test_a_run_is_the_same_again_and_again(recorded: Recorded, replay: ReplayProcess, name: str) -> None:
    path, given = recorded.runs[name]
    assert play(replay.url + path, sampling=sampling_of(name)) == given
    assert play(replay.url + path, sampling=sampling_of(name)) == given


def test_on_the_open_routes_every_recording_answers(recorded: Recorded, replay: ReplayProcess) -> None:
    assert play(f"{replay.url}/v1", sampling=sampling_of("trajectory")) == recorded.runs["trajectory"][1]


def test_the_run_shows_what_agents_do(recorded: Recorded) -> None:
    """Else the tests above would show less than they say."""
    called, answered, first, second, streamed, several, text, *_ = recorded.runs["passthrough"][1]
    [call] = called["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"a": 2, "b": 3}
    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert called["choices"][0]["message"]["reasoning"]
    assert answered["message"]["reasoning"]
    assert "5" in answered["message"]["content"]
    assert first["choices"][0]["message"] != second["choices"][0]["message"]
    assert first["choices"][0]["token_ids"]
    assert first["prompt_token_ids"]
    assert first["choices"][0]["logprobs"]["content"]
    assert streamed["logprobs"]
    assert len(several["choices"]) == 2
    assert text["choices"][0]["logprobs"]["token_logprobs"]


def test_whole_and_streamed_say_the_same(recorded: Recorded, replay: ReplayProcess) -> None:
    uid = recorded.uid("passthrough")
    body = {"model": "default", "messages": SUM, "max_tokens": 64, "temperature": 0.5, "n": 2, "seed": 3}
    whole = requests.post(f"{replay.url}/{uid}/v1/chat/completions", json=body, timeout=30).json()
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(OpenAI(base_url=f"{replay.url}/{uid}/v1", api_key="x").chat.completions.create(**asked))  # type: ignore[call-overload]
    for choice in whole["choices"]:
        mine = [one for chunk in chunks for one in chunk.choices if one.index == choice["index"]]
        assert "".join(one.delta.content or "" for one in mine) == choice["message"]["content"]
        assert [one.finish_reason for one in mine if one.finish_reason] == [choice["finish_reason"]]
        assert mine[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens == whole["usage"]["completion_tokens"]


def test_samples_come_in_their_order_and_say_which_they_are(recorded: Recorded) -> None:
    uid = recorded.uid("exact")
    with replaying(recorded.db, uid) as replay:
        body = {"model": "default", "prompt": [5, 6, 7], "max_tokens": 64, "temperature": 0.5}

        def ask(**headers: str) -> requests.Response:
            return requests.post(f"{replay.url}/v1/completions", json=body, headers=headers, timeout=30)

        one = ask()
        assert (one.headers["x-moorage-trace"], one.headers["x-moorage-sample"]) == (uid, "1/1")
        assert ask().json() == one.json()
        again = sureness(recorded.runs["exact"][1])
        body = again
        url = f"{replay.url}/v1/chat/completions"
        samples = [requests.post(url, json=body, timeout=30) for _ in range(3)]
        assert [reply.headers["x-moorage-sample"] for reply in samples] == ["1/2", "2/2", "1/2"]
        assert samples[0].content == samples[2].content != samples[1].content
        retried = requests.post(url, json=body, headers={"x-stainless-retry-count": "1"}, timeout=30)
        assert retried.content == samples[2].content
        assert replay.stop() == (0, {"ok": True, "data": {**replay_data(replay, calls=9)}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.75}, "temperature is 0.5 there and 0.75 here"),
        ({"tools": [{"type": "function", "function": {"name": "sub"}}]}, "other tools"),
        ({"messages": [*SUM, {"role": "user", "content": "Now!"}]}, "its first 2 messages are the same"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "its first message is another"),
    ],
)
def test_what_was_not_recorded_is_told_with_the_nearest(
    recorded: Recorded, replay: ReplayProcess, change: dict[str, Any], said: str
) -> None:
    uid = recorded.uid("passthrough")
    body = {"messages": SUM, "max_tokens": 64, "temperature": 0.5, "tools": TOOLS_OF_RUN, **change}
    reply = requests.post(f"{replay.url}/{uid}/v1/chat/completions", json=body, timeout=30)
    error = check_openai(reply, 404, "not_recorded")
    assert said in error["message"]
    assert error["nearest"]["uid"] == uid
    with pytest.raises(openai.NotFoundError):
        OpenAI(base_url=f"{replay.url}/{uid}/v1", api_key="x").chat.completions.create(
            model="default", messages=[SUM[1]]
        )  # type: ignore[list-item]


def test_what_says_nothing_of_the_sampling_may_differ(recorded: Recorded, replay: ReplayProcess) -> None:
    body = {"messages": SUM, "max_tokens": 64, "temperature": 0.5, "tools": TOOLS_OF_RUN}
    url = f"{replay.url}/{recorded.uid('passthrough')}/v1/chat/completions"
    parts = [SUM[0], {"role": "user", "content": [{"type": "text", "text": SUM[1]["content"]}]}]
    for same in ({}, {"user": "me"}, {"max_tokens": 64.0}, {"model": "another"}, {"seed": None}, {"messages": parts}):
        assert requests.post(url, json={**body, **same}, timeout=30).status_code == 200, same


def test_what_is_no_request_is_told_as_the_gateway_tells_it(recorded: Recorded, replay: ReplayProcess) -> None:
    uid = recorded.uid("trajectory")
    chat = f"{replay.url}/v1/chat/completions"
    check_openai(requests.post(chat, data=b"{", timeout=30), 400)
    check_openai(requests.post(chat, json={"messages": []}, timeout=30), 400)
    check_openai(requests.get(chat, timeout=30), 405)
    check_openai(requests.post(f"{replay.url}/nobody/v1/chat/completions", json={"messages": SUM}, timeout=30), 404)
    check_openai(requests.post(f"{replay.url}/{uid}/other/chat/completions", json={"messages": SUM}, timeout=30), 409)
    check_openai(requests.post(f"{replay.url}/sessions/create", json={}, timeout=30), 404, "route_unknown")
    assert requests.get(f"{replay.url}/health", timeout=30).json()["status"] == "ok"
    models = OpenAI(base_url=f"{replay.url}/{uid}/v1", api_key="x").models.list()
    assert [model.id for model in models] == ["stub"]


def test_many_clients_at_once(recorded: Recorded, replay: ReplayProcess) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path, given = recorded.runs["exact"]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: play(replay.url + path), range(8)))
    for said in runs:  # two samples of one request may come in either order
        assert [one for at, one in enumerate(said) if at not in (2, 3)] == [
            one for at, one in enumerate(given) if at not in (2, 3)
        ]
        assert said[2] in given[2:4]


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_run_with_the_real_engine(tmp_path: Path, nano_engine: str) -> None:
    runs: dict[str, tuple[str, list[Any]]] = {}
    flags = ("--tokenizer-path", str(NANO), "--upstream-timeout", "60")
    with running_gateway(tmp_path, *flags, whom=("--upstream", nano_engine)) as gateway:
        for mode in ("passthrough", "exact"):
            options = {"mode": mode, "reasoning_parser": "qwen3", "tool_parser": "hermes"}
            path = f"/{gateway.post('/sessions/create', options).json()['uuid']}/v1"
            runs[mode] = path, play(gateway.url + path, streams_text=mode == "passthrough")
        assert gateway.stop() == 0
    with replaying(f"sqlite:///{tmp_path / 'gateway.db'}", "--all") as replay:
        for mode, (path, given) in runs.items():
            assert play(replay.url + path, streams_text=mode == "passthrough") == given


def sampling_of(name: str) -> dict[str, Any]:
    return {"temperature": 0.25} if name == "trajectory" else {}


def sureness(given: list[Any]) -> dict[str, Any]:
    """The request of the run that was asked twice."""
    first = given[0]["choices"][0]["message"]
    message = {name: value for name, value in first.items() if value is not None}
    messages = [*SUM, message]
    for call in message.get("tool_calls", ()):
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": "5"})
    messages += [given[1]["message"], {"role": "user", "content": "Are you sure?"}]
    how = {"max_tokens": 64, "temperature": 0.5, "logprobs": True, "top_logprobs": 2, "return_token_ids": True}
    return {"messages": messages, "tools": TOOLS_OF_RUN, **how}


def replay_data(replay: ReplayProcess, *, calls: int) -> dict[str, Any]:
    return {"action": "replay", "url": replay.url, "recordings": calls, "trajectories": 1}
