"""A gateway that has another tokenizer, or another template, than its engine: found out before ids are sent."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.upstreams import from_urls
from moorage.gateway.http.faults import Fault
from moorage.gateway.log import Log
from moorage.gateway.tokenizer_choice import load_renderer
from moorage.gateway.tokenizer_proof import TokenizerProof, mode_of_call
from tests.conftest import ROOT
from tests.contract.gateway_calls import check_openai
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway, wait_until
from tests.stand_ins.engine_stub import EngineStub
from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.stub_reply import StubReply

NANO = ROOT / "models" / "nano"
USER = {"role": "user", "content": "add 2 and 3"}
NEVER = {"error": {"message": "no", "type": "x", "param": None, "code": 400}}


def changed(folder: Path, change: Callable[[str], str], *, of: str = "chat_template.jinja") -> Path:
    """Nano's files with one of them changed."""
    copy = folder / "tokenizer"
    copy.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copy(NANO / name, copy / name)
    text = (copy / of).read_text()
    after = change(text)
    assert after != text
    (copy / of).write_text(after)
    return copy


class Tokenizing:
    """An engine that counts what it is asked at /tokenize; `answers` stand in for its own, by what they are asked."""

    def __init__(self) -> None:
        self._engine = SmallEngine(NANO)
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], StubReply | None] = lambda asked: None

    def __call__(self, path: str, body: bytes) -> StubReply:
        if path != "/tokenize":
            return self._engine(path, body)
        self.asked.append(json.loads(body))
        return self.answer(self.asked[-1]) or self._engine(path, body)


def told(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    """What the log says of it."""
    lines = [json.loads(line) for line in gateway.said if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


def create(gateway: GatewayProcess, **fields: Any) -> dict[str, Any]:
    reply = gateway.post("/sessions/create", fields)
    assert reply.status_code == 200, reply.text
    made: dict[str, Any] = reply.json()
    return made


def talk(gateway: GatewayProcess, made: dict[str, Any]) -> dict[str, Any]:
    """One turn, and its node."""
    reply = gateway.post(f"/{made['uuid']}/v1/chat/completions", {"messages": [USER], "max_tokens": 4})
    assert reply.status_code == 200, reply.text
    [node] = gateway.get(f"/{made['uuid']}/nodes").json()["nodes"]
    return dict(node)


@pytest.fixture
def engine() -> Tokenizing:
    return Tokenizing()


@pytest.fixture
def equal(tmp_path: Path, engine: Tokenizing) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        yield gateway


def test_an_engine_with_the_same_tokenizer_is_asked_once(equal: GatewayProcess, engine: Tokenizing) -> None:
    assert engine.asked == []  # nothing before the first session
    for _ in range(3):
        made = create(equal)
        assert made["mode"] == "exact"
        talk(equal, made)
    create(equal, mode="exact")
    assert len(engine.asked) == 6
    assert [bool(asked.get("tools")) for asked in engine.asked] == [False] * 4 + [True] * 2
    wait_until(lambda: len(told(equal, "tokenizer_proven")) == 1)


def test_sessions_that_begin_together_ask_once(equal: GatewayProcess, engine: Tokenizing) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(equal), range(8)))
    assert {one["mode"] for one in made} == {"exact"}
    assert len(engine.asked) == 6


@pytest.mark.parametrize(
    ("change", "conversation"),
    [
        (lambda text: text.replace("<|im_start|>assistant\\n", "<|im_start|>assistant: "), "a question"),
        (lambda text: text.replace("text(first) ~ '<|im_end|>", "text(first) ~ '.<|im_end|>"), "a system message"),
        (lambda text: text.replace("# Tools", "# Functions"), "tools"),
        (lambda text: text.replace("\\n<tool_response>\\n", "\\n<tool_response>"), "a tool's result"),
    ],
)
def test_another_template(tmp_path: Path, change: Callable[[str], str], conversation: str) -> None:
    """Refused when exact was asked for, else passed through, with the engine's own ids; told once, with its place."""
    folder = changed(tmp_path, change)
    with running_gateway(tmp_path, "--tokenizer-path", str(folder), replies=SmallEngine(NANO)) as gateway:
        message = check_openai(gateway.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")["message"]
        assert conversation in message
        assert gateway.stub.url in message
        assert gateway.get("/sessions").json()["sessions"] == []
        made = create(gateway)
        assert made["mode"] == "passthrough"
        engine = SmallEngine(NANO)
        prompt = engine.prompt_of({"messages": [USER]})
        assert talk(gateway, made)["tokens"][: len(prompt)] == prompt
        assert create(gateway, mode="passthrough")["mode"] == "passthrough"
        wait_until(lambda: bool(told(gateway, "tokenizer_differs")))
        [warning] = told(gateway, "tokenizer_differs")
        assert warning["level"] == "warning"
        assert warning["conversation"] == conversation
        assert warning["ours"] != warning["theirs"]
        assert warning["our_text"] != warning["their_text"]


def test_another_vocabulary(tmp_path: Path) -> None:
    """The texts are the same, and the ids are not."""

    def other_ids(text: str) -> str:
        spec = json.loads(text)
        vocab = spec["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
        return json.dumps(spec)

    folder = changed(tmp_path, other_ids, of="tokenizer.json")
    with running_gateway(tmp_path, "--tokenizer-path", str(folder), replies=SmallEngine(NANO)) as gateway:
        check_openai(gateway.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")


def test_the_gateways_own_mode_counts_as_asked_for(tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda text: text.replace("# Tools", "# Functions"))
    flags = ("--tokenizer-path", str(folder), "--mode", "exact")
    with running_gateway(tmp_path, *flags, replies=SmallEngine(NANO)) as gateway:
        check_openai(gateway.post("/sessions/create"), 400, "tokenizer_differs")
        assert create(gateway, mode="passthrough")["mode"] == "passthrough"


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 400])
def test_an_engine_without_the_route_is_believed(equal: GatewayProcess, engine: Tokenizing, status: int) -> None:
    engine.answer = lambda asked: StubReply(status, json.dumps(NEVER).encode())
    for _ in range(2):
        assert create(equal, mode="exact")["mode"] == "exact"
    assert len(engine.asked) == (2 if status == 400 else 1)  # with 400 a text is tried too
    wait_until(lambda: bool(told(equal, "tokenizer_unproven")))
    [unproven] = told(equal, "tokenizer_unproven")
    assert str(status) in unproven["why"]


@pytest.mark.parametrize(
    "answer",
    [b"{}", b'{"tokens": "no"}', b"[1, 2]", b"not json", b'{"tokens": [1e400]}', b'{"tokens": null}'],
)
def test_what_is_no_list_of_ids_is_no_answer(equal: GatewayProcess, engine: Tokenizing, answer: bytes) -> None:
    engine.answer = lambda asked: StubReply(200, answer)
    assert create(equal, mode="exact")["mode"] == "exact"


@pytest.mark.parametrize("tokens", [[], [-1, 2], [1 << 70], list(range(100_000)), [0]])
def test_ids_that_cannot_be_are_a_difference(equal: GatewayProcess, engine: Tokenizing, tokens: list[int]) -> None:
    engine.answer = lambda asked: StubReply(200, json.dumps({"tokens": tokens}).encode())
    reply = equal.post("/sessions/create", {"mode": "exact"})
    check_openai(reply, 400, "tokenizer_differs")
    assert len(reply.content) < 2000
    assert create(equal)["mode"] == "passthrough"


def test_an_engine_that_takes_texts_only_is_asked_for_those(equal: GatewayProcess, engine: Tokenizing) -> None:
    def texts_only(asked: dict[str, Any]) -> StubReply | None:
        return StubReply(422, b"{}") if "messages" in asked else None

    engine.answer = texts_only
    assert create(equal, mode="exact")["mode"] == "exact"
    assert sum("prompt" in asked for asked in engine.asked) == 6
    assert all(asked["add_special_tokens"] is False for asked in engine.asked if "prompt" in asked)
    wait_until(lambda: bool(told(equal, "tokenizer_unproven")))
    assert "template is not proven" in told(equal, "tokenizer_unproven")[0]["why"]


def test_an_engine_that_refuses_what_the_template_takes_differs(equal: GatewayProcess, engine: Tokenizing) -> None:
    engine.answer = lambda asked: StubReply(400, json.dumps(NEVER).encode()) if asked.get("tools") else None
    check_openai(equal.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")


def test_an_engine_that_fails_is_believed_and_asked_again_later(equal: GatewayProcess, engine: Tokenizing) -> None:
    engine.answer = lambda asked: StubReply(500, b"{}")
    assert create(equal, mode="exact")["mode"] == "exact"
    assert create(equal, mode="exact")["mode"] == "exact"
    assert len(engine.asked) == 1  # not by every session


def test_an_engine_that_comes_back_is_asked_again(equal: GatewayProcess, engine: Tokenizing) -> None:
    """It may have another model now."""
    assert create(equal, mode="exact")["mode"] == "exact"
    equal.stub.vanish()
    wait_until(lambda: equal.get("/health").status_code == 503)
    engine.answer = lambda asked: StubReply(200, b'{"tokens": [1, 2, 3]}')
    equal.stub.come_back()
    wait_until(lambda: equal.get("/health").status_code == 200)
    check_openai(equal.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")
    assert create(equal)["mode"] == "passthrough"


def test_other_engines_are_proven_when_they_are_set_up(equal: GatewayProcess, engine: Tokenizing) -> None:
    other = Tokenizing()
    other.answer = lambda asked: StubReply(200, b'{"tokens": [1, 2, 3]}')
    stub = StubThread(other)
    try:
        assert create(equal, mode="exact")["mode"] == "exact"
        servers = [{"base_url": stub.url, "server_type": "vllm"}]
        assert equal.post("/setup", {"servers": servers}).status_code == 200
        check_openai(equal.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")
        both = [*servers, {"base_url": equal.stub.url, "server_type": "vllm"}]
        assert equal.post("/setup", {"servers": both}).status_code == 200
        made = [create(equal, mode="exact") for _ in range(4)]  # they go where they can be exact
        assert {one["base_url"] for one in made} == {equal.stub.url}
        pinned = {"mode": "exact", "base_url": stub.url}
        check_openai(equal.post("/sessions/create", pinned), 400, "tokenizer_differs")
    finally:
        stub.close()


# Calls, whose session may have moved -------------------------------------------------------------------------------


async def seen_by_calls(first: Tokenizing, second: Tokenizing) -> None:
    """One session whose home goes away, and trajectories that have none at first."""
    renderer = load_renderer(NANO, named=True)
    assert renderer is not None
    log = io.StringIO()
    async with EngineStub(first, models=("stub",)) as one, EngineStub(second, models=("stub",)) as other:
        fleet = Fleet(from_urls(f"{one.url},{other.url}"), clock=time.monotonic, silence_s=5)
        proof = TokenizerProof(clock=time.time, log=Log(log), again_s=0.0)
        await fleet.start()

        async def mode(uid: str, asked: Any = None, pin: str | None = None) -> str:
            return await mode_of_call(fleet, proof, renderer, uid, model=None, pin=pin, asked=asked)

        assert await mode("a") == "exact"
        assert await mode("a") == "exact"
        assert len(first.asked) == 6
        assert await mode("b") == "passthrough"  # it lives at the other one
        with pytest.raises(Fault) as caught:
            await mode("b", "exact")
        assert (caught.value.status, caught.value.code) == (400, "tokenizer_differs")
        assert len(second.asked) == 1
        assert await mode("c", pin=one.url) == "exact"
        assert await mode("c", "passthrough", pin=one.url) == "passthrough"
        await one.close()
        await until(lambda: not fleet.find(one.url).healthy)
        assert await mode("a") == "passthrough"
        await other.close()
        await until(lambda: not fleet.find(other.url).healthy)
        assert await mode("d") == "exact"  # the call itself will say that nobody is there
        await proof.close()
        await fleet.close()
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert sorted(events) == ["tokenizer_differs", "tokenizer_proven"]


def test_a_calls_mode_is_that_of_where_it_goes() -> None:
    second = Tokenizing()
    second.answer = lambda asked: StubReply(200, b'{"tokens": [1, 2, 3]}')
    asyncio.run(seen_by_calls(Tokenizing(), second))


async def seen_when_it_fails(engine: Tokenizing) -> None:
    renderer = load_renderer(NANO, named=True)
    assert renderer is not None
    log = io.StringIO()
    async with EngineStub(engine, models=("stub",)) as stub:
        fleet = Fleet(from_urls(stub.url), clock=time.monotonic, silence_s=5)
        proof = TokenizerProof(clock=time.time, log=Log(log), again_s=0.0)
        await fleet.start()
        [state] = fleet.states()
        engine.answer = lambda asked: StubReply(503, b"{}")
        for _ in range(3):  # asked again each time, told once
            assert await proof.difference(state, renderer) is None
        assert len(engine.asked) == 3
        engine.answer = lambda asked: StubReply(200, b'{"tokens": [7]}')
        several = await asyncio.gather(*(proof.difference(state, renderer) for _ in range(9)))
        assert len(engine.asked) == 4
        assert {one.token for one in several if one is not None} == {0}
        waiting = asyncio.create_task(proof.difference(state, load_renderer(NANO, named=True) or renderer))
        await asyncio.sleep(0)
        waiting.cancel()  # a client that goes away
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await proof.close()
        await fleet.close()
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert events[:2] == ["tokenizer_unproven", "tokenizer_differs"]


def test_an_engine_that_fails_is_asked_again_and_told_of_once() -> None:
    asyncio.run(seen_when_it_fails(Tokenizing()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


# With vLLM itself -------------------------------------------------------------------------------------------------


@pytest.mark.vllm
def test_vllm_makes_the_same_ids(tmp_path: Path, nano_engine: str) -> None:
    """Of all conversations of the proof: messages, tools, calls and letters as vLLM takes them."""
    whom = ("--upstream", nano_engine)
    with running_gateway(tmp_path, "--tokenizer-path", str(NANO), whom=whom) as gateway:
        assert create(gateway, mode="exact")["mode"] == "exact"
        wait_until(lambda: bool(told(gateway, "tokenizer_proven")))
        assert told(gateway, "tokenizer_unproven") == []


@pytest.mark.vllm
def test_vllm_with_another_template_is_found_out(tmp_path: Path, nano_engine: str) -> None:
    folder = changed(tmp_path, lambda text: text.replace("\\n<tool_response>\\n", "\\n<tool_response>"))
    whom = ("--upstream", nano_engine)
    with running_gateway(tmp_path, "--tokenizer-path", str(folder), whom=whom) as gateway:
        check_openai(gateway.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_differs")
        made = create(gateway)
        assert made["mode"] == "passthrough"
        assert talk(gateway, made)["metadata"]["mode"] == "passthrough"
        wait_until(lambda: bool(told(gateway, "tokenizer_differs")))
        assert told(gateway, "tokenizer_differs")[0]["conversation"] == "a tool's result"
