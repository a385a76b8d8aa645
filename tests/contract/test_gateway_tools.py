"""Tools in exact sessions over HTTP, split by vLLM's own parsers: whole and streamed, good, broken and forced calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.gateway_calls import check_openai, events_of
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.contract.test_gateway_exact import NANO, USER, Listening, ask, nodes_of

pytestmark = pytest.mark.vllm

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look somewhere.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
WAIT = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [LOOK, WAIT]


def call(name: str, **arguments: Any) -> str:
    """A call as Hermes models write it."""
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


ONE = call("look", place="Münster 🦊")
TWO = call("look", place='a "b" {c}', deep={"x": [1, {"y": None}], "ключ": "</tool"})
THOUGHT = "<think>\nWhere?\n</think>\n\n"


@pytest.fixture(scope="module")
def engine() -> Listening:
    return Listening(NANO)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: Listening, vllm_python: Any) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        session = made(gateway)
        engine.engine.say.append(ONE)
        assert ask(gateway, session, [USER], tools=TOOLS, max_tokens=200)["choices"][0]["message"]["tool_calls"]
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess, engine: Listening) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()
    engine.engine.say.clear()


@pytest.fixture
def session(gateway: GatewayProcess) -> str:
    return made(gateway)


def made(gateway: GatewayProcess, **fields: Any) -> str:
    reply = gateway.post("/sessions/create", fields)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["uuid"])


def streamed(gateway: GatewayProcess, session: str, **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed chat, an error as an event too."""
    body = {"messages": [USER], "max_tokens": 400, "tools": TOOLS, "stream": True, **fields}
    reply = gateway.post(f"/{session}/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    return [json.loads(one) for one in events_of(reply.text.split("\n")) if one != "[DONE]"]


def joined(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a client puts together of each choice: reasoning, content, calls, finish reason."""
    found: dict[int, dict[str, Any]] = {}
    for choice in (choice for event in events for choice in event.get("choices", ())):
        one = found.setdefault(choice["index"], {"content": "", "reasoning": "", "calls": [], "finish": None})
        delta = choice["delta"]
        one["content"] += delta.get("content") or ""
        one["reasoning"] += delta.get("reasoning") or ""
        for part in delta.get("tool_calls") or ():
            if part["index"] == len(one["calls"]):
                one["calls"].append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
            one["calls"][part["index"]]["arguments"] += part["function"].get("arguments") or ""
        one["finish"] = choice["finish_reason"] or one["finish"]
    return found


def flat(choice: dict[str, Any]) -> dict[str, Any]:
    """A whole reply's choice in the same form."""
    message = choice["message"]
    calls = [{"id": one["id"], **one["function"]} for one in message.get("tool_calls") or ()]
    said = {"content": message["content"] or "", "reasoning": message.get("reasoning") or ""}
    return {**said, "calls": calls, "finish": choice["finish_reason"]}


def meant(one: dict[str, Any]) -> Any:
    """Without ids, arguments as values."""
    calls = []
    for made in one["calls"]:
        try:
            calls.append((made["name"], json.loads(made["arguments"])))
        except ValueError:
            calls.append((made["name"], made["arguments"]))
    return one["content"].strip(), one["reasoning"].strip(), calls, one["finish"]


TEXTS = {
    "a call": ONE,
    "words and calls": "Let me look.\n" + ONE + "\n" + TWO,
    "words alone": "Nothing < to > do, 1 <tool 2, ünïcödé 🦊.",
    "no arguments": call("wait"),
    "an unclosed call": ONE.removesuffix("</tool_call>"),
    "text after a call": ONE + "\nThat is it.",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("reasoning", [None, "qwen3"])
def test_a_stream_says_what_the_whole_reply_says(
    gateway: GatewayProcess, engine: Listening, text: str, reasoning: str | None
) -> None:
    said = (THOUGHT if reasoning else "") + text
    engine.engine.say.extend([said, said])
    [whole] = ask(gateway, made(gateway, reasoning_parser=reasoning), [USER], tools=TOOLS, max_tokens=400)["choices"]
    session = made(gateway, reasoning_parser=reasoning)
    events = streamed(gateway, session)
    assert not [event for event in events if "error" in event]
    one = joined(events)[0]
    assert meant(one) == meant(flat(whole))
    assert one["finish"] == ("tool_calls" if whole["message"].get("tool_calls") else "stop")
    [node] = nodes_of(gateway, session)
    assert text.split("\n")[0] in node["full_text"]


BROKEN = {
    "no JSON": '<tool_call>\n{"name": "look", "arguments": {"place": oops}}\n</tool_call>',
    "no name": '<tool_call>\n{"arguments": {"place": "a"}}\n</tool_call>',
    "a list": "<tool_call>\n[1, 2]\n</tool_call>",
    "nothing": "<tool_call></tool_call>",
    "begun alone": "Well: <tool_call>",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_call_stays_text_and_a_stream_never_says_otherwise_silently(
    gateway: GatewayProcess, engine: Listening, text: str
) -> None:
    engine.engine.say.extend([text, text])
    [whole] = ask(gateway, made(gateway), [USER], tools=TOOLS, max_tokens=400)["choices"]
    assert not whole["message"].get("tool_calls")
    assert whole["message"]["content"].strip() == text.strip()
    assert whole["finish_reason"] == "stop"
    session = made(gateway)
    events = streamed(gateway, session)
    one = joined(events)[0]
    if "error" in events[-1]:
        assert events[-1]["error"]["code"] == "stream_disagrees"
        assert one["calls"]
    else:
        assert meant(one) == meant(flat(whole))
    [node] = nodes_of(gateway, session)
    assert text in node["full_text"]


@pytest.mark.parametrize("tokens", [3, 8, 12, 20, 24])
def test_a_call_that_is_cut_keeps_the_engines_finish_reason(
    gateway: GatewayProcess, engine: Listening, tokens: int
) -> None:
    text = "So. " + call("look", place="Münster, and much more of it")
    engine.engine.say.extend([text, text])
    [whole] = ask(gateway, made(gateway), [USER], tools=TOOLS, max_tokens=tokens)["choices"]
    assert whole["finish_reason"] == "length"
    assert not whole["message"].get("tool_calls")
    assert text.startswith(whole["message"]["content"])
    session = made(gateway)
    events = streamed(gateway, session, max_tokens=tokens)
    one = joined(events)[0]
    assert one["finish"] == "length"
    if not one["calls"]:
        assert one["content"] == whole["message"]["content"]
    # What the client has is what is recorded: it goes on from it.
    said: dict[str, Any] = {"role": "assistant", "content": one["content"] or None}
    if one["calls"]:
        keys = ("name", "arguments")
        said["tool_calls"] = [
            {"id": call_["id"], "type": "function", "function": {key: call_[key] for key in keys}}
            for call_ in one["calls"]
        ]
    ask(gateway, session, [USER, said, USER], tools=TOOLS)
    assert len(nodes_of(gateway, session)) == 1


def test_several_choices_are_split_each_by_itself(gateway: GatewayProcess, engine: Listening) -> None:
    texts = [ONE, "Just words.", "Look: " + TWO]
    engine.engine.say.extend([*texts, *texts])
    whole = ask(gateway, made(gateway), [USER], tools=TOOLS, max_tokens=400, n=3)["choices"]
    assert [len(one["message"].get("tool_calls") or ()) for one in whole] == [1, 0, 1]
    found = joined(streamed(gateway, made(gateway), n=3))
    assert [meant(found[index]) for index in range(3)] == [meant(flat(one)) for one in whole]


def test_a_call_within_a_thought_is_a_thought(gateway: GatewayProcess, engine: Listening) -> None:
    text = f"<think>\nShall I? {ONE}\nNo.\n</think>\n\nNo call."
    engine.engine.say.extend([text, text])
    [whole] = ask(gateway, made(gateway, reasoning_parser="qwen3"), [USER], tools=TOOLS, max_tokens=400)["choices"]
    one = joined(streamed(gateway, made(gateway, reasoning_parser="qwen3")))[0]
    assert meant(one) == meant(flat(whole))


def test_one_call_alone_is_given_and_both_are_recorded(gateway: GatewayProcess, engine: Listening) -> None:
    engine.engine.say.extend([ONE + "\n" + TWO] * 2)
    [whole] = ask(gateway, made(gateway), [USER], tools=TOOLS, max_tokens=400, parallel_tool_calls=False)["choices"]
    assert len(whole["message"]["tool_calls"]) == 1
    asked = gateway.stub.requests[-1].json()
    assert "structural_tag" in asked["structured_outputs"]
    session = made(gateway)
    one = joined(streamed(gateway, session, parallel_tool_calls=False))[0]
    assert meant(one) == meant(flat(whole))
    [node] = nodes_of(gateway, session)
    assert node["full_text"].count("<tool_call>") == 3  # one is in the system's words


def test_none_hides_tools_from_the_parser_not_from_the_record(
    gateway: GatewayProcess, session: str, engine: Listening
) -> None:
    engine.engine.say.extend([ONE, ONE])
    [choice] = ask(gateway, session, [USER], tools=TOOLS, tool_choice="none", max_tokens=400)["choices"]
    assert choice["message"]["content"] == ONE
    assert choice["finish_reason"] == "stop"
    assert not choice["message"].get("tool_calls")
    [node] = nodes_of(gateway, session)
    assert '"look"' in node["full_text"].partition("<|im_start|>assistant")[0]
    one = joined(streamed(gateway, session, tool_choice="none"))[0]
    assert (one["content"], one["calls"]) == (ONE, [])


def test_tools_that_are_dropped_and_brought_back_branch(
    gateway: GatewayProcess, session: str, engine: Listening
) -> None:
    engine.engine.say.append("Look. " + ONE)
    first = ask(gateway, session, [USER], tools=TOOLS, max_tokens=400)["choices"][0]["message"]
    messages: list[Any] = [USER, first]
    messages.append({"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "fog"})
    [before] = nodes_of(gateway, session)
    turn = [token for token in before["masked_tokens"] if token != -100]
    second = ask(gateway, session, messages)["choices"][0]["message"]
    assert ONE in gateway.post(f"/{session}/v1/chat/completions/render", {"messages": messages}).json()["prompt_text"]
    messages += [second, USER]
    ask(gateway, session, messages, tools=TOOLS)
    nodes = nodes_of(gateway, session)
    reasons = [one["reason"] for node in nodes for one in node["metadata"]["boundaries"]]
    assert "tools_changed" in reasons
    for node in nodes:
        assert any(node["tokens"][at : at + len(turn)] == turn for at in range(len(node["tokens"])))


def test_a_demanded_call_reaches_the_engine(gateway: GatewayProcess, engine: Listening) -> None:
    engine.engine.say.append(ONE)
    ask(gateway, made(gateway), [USER], tools=TOOLS, tool_choice="required", max_tokens=400)
    assert "structural_tag" in gateway.stub.requests[-1].json()["structured_outputs"]
    session = made(gateway, tool_parser=None)
    said = json.dumps([{"name": "look", "parameters": {"place": "ü"}}, {"name": "wait", "parameters": {}}])
    engine.engine.say.extend([said, said])
    reply = ask(gateway, session, [USER], tools=TOOLS, tool_choice="required", max_tokens=400)
    asked = gateway.stub.requests[-1].json()
    assert asked["structured_outputs"]["json"]["items"]["anyOf"][0]["properties"]["name"]["enum"] == ["look"]
    [whole] = reply["choices"]
    assert meant(flat(whole)) == ("", "", [("look", {"place": "ü"}), ("wait", {})], "tool_calls")
    assert meant(joined(streamed(gateway, session, tool_choice="required"))[0]) == meant(flat(whole))


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "function": {"name": 5}}]},
        {"tools": TOOLS, "tool_choice": "sometimes"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}},
        {"tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": "no"},
    ],
)
def test_tools_that_are_none_are_refused(gateway: GatewayProcess, session: str, fields: dict[str, Any]) -> None:
    for stream in (False, True):
        body = {"messages": [USER], "stream": stream, **fields}
        check_openai(gateway.post(f"/{session}/v1/chat/completions", body), 400)
    assert nodes_of(gateway, session) == []


def test_a_parser_that_the_tokenizer_cannot_do_is_refused_at_create(gateway: GatewayProcess) -> None:
    for fields in ({"tool_parser": "deepseek_v3"}, {"reasoning_parser": "hf"}):
        error = check_openai(gateway.post("/sessions/create", fields), 400, "parser_unusable")
        assert next(iter(fields.values())) in error["message"]
    check_openai(gateway.post("/sessions/create", {"tool_fallback": "morse"}), 400)
    check_openai(
        gateway.post("/sessions/create", {"tool_fallback": "hermes", "mode": "passthrough"}),
        400,
        "fallback_needs_exact",
    )


@pytest.mark.parametrize("family", ["hermes", "pythonic"])
def test_a_fallback_writes_tools_where_a_session_asks_for_it(
    gateway: GatewayProcess, engine: Listening, family: str
) -> None:
    session = made(gateway, tool_fallback=family)
    text = ONE if family == "hermes" else '[look(place="Münster 🦊")]'
    engine.engine.say.append(text)
    said = ask(gateway, session, [USER], tools=TOOLS, max_tokens=400)["choices"][0]
    assert meant(flat(said)) == ("", "", [("look", {"place": "Münster 🦊"})], "tool_calls")
    result = {"role": "tool", "tool_call_id": said["message"]["tool_calls"][0]["id"], "content": "fog"}
    ask(gateway, session, [USER, said["message"], result], tools=TOOLS)
    [node] = nodes_of(gateway, session)
    assert [one["verdict"] for one in node["metadata"]["boundaries"]][-1] == "exact"
    words = "<tool_response>\nfog" if family == "hermes" else '{"name": "look", "output": "fog"}'
    assert words in node["full_text"]
    assert "<tools>" in node["full_text"] if family == "hermes" else "list of functions" in node["full_text"]


def test_special_tokens_never_leak(gateway: GatewayProcess, engine: Listening) -> None:
    text = "one <|im_start|>two < three <|im_ four"
    engine.engine.say.extend([text, text])
    whole = ask(gateway, made(gateway), [USER], tools=TOOLS, max_tokens=400)["choices"][0]["message"]["content"]
    one = joined(streamed(gateway, made(gateway)))[0]
    assert "<|im_start|>" not in whole + one["content"]
    assert one["content"] == whole == "one two < three <|im_ four"


def test_a_parser_that_is_killed_costs_no_reply(gateway: GatewayProcess, engine: Listening) -> None:
    gateway.stub.stub.pace_s = 0.02
    try:
        text = "Let me look. " * 5 + ONE
        engine.engine.say.extend([text, text])
        session = made(gateway)
        body = {"messages": [USER], "max_tokens": 400, "tools": TOOLS, "stream": True}
        reply = gateway.post(f"/{session}/v1/chat/completions", body, stream=True)
        lines = reply.iter_lines(decode_unicode=True)
        first = [next(lines) for _ in range(20)]
        assert sum('"content"' in line for line in first) > 3
        [pid] = parser_pids(gateway)
        os.kill(pid, signal.SIGKILL)
        events = [json.loads(one) for one in events_of([*first, *lines]) if one != "[DONE]"]
        one = joined(events)[0]
        assert one["content"].strip() == ("Let me look. " * 5).strip()
        assert one["calls"][0]["name"] == "look"
        assert one["finish"] == "tool_calls"
        wait_until(lambda: len(parser_pids(gateway)) == 1)
    finally:
        gateway.stub.stub.pace_s = 0


def parser_pids(gateway: GatewayProcess) -> list[int]:
    """The gateway's parser processes that run."""
    found = []
    for child in children_of(gateway.process.pid):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"parsing/program.py" in command:
                found.append(child)
    return found


def children_of(pid: int) -> list[int]:
    """Of the main thread, which starts them."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def test_a_text_completion_is_streamed_whatever_the_sessions_parsers(
    gateway: GatewayProcess, engine: Listening
) -> None:
    session = made(gateway, reasoning_parser="qwen3")
    engine.engine.say.append("five and six")
    body = {"prompt": "2+3", "max_tokens": 100, "stream": True}
    events = events_of(gateway.post(f"/{session}/v1/completions", body).text.split("\n"))
    assert "".join(json.loads(one)["choices"][0]["text"] for one in events if one != "[DONE]") == "five and six"
