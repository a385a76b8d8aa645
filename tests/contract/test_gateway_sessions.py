"""Sessions over HTTP: made, called, repeated, branched, read as nodes, ended; in either mode where both are alike.

What is of exact sessions alone is in test_gateway_exact.py, several engines in test_gateway_operations.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.contract.gateway_calls import check_openai, send_and_leave
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.small_engine import SmallEngine

NANO = ROOT / "models" / "nano"
USER = {"role": "user", "content": "add 2 and 3"}
MORE = {"role": "user", "content": "and 4"}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=SmallEngine(NANO)) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: GatewayProcess) -> Iterator[GatewayProcess]:
    yield running
    running.stub.heal()
    running.stub.stub.pace_s = 0


@pytest.fixture(params=["exact", "passthrough"])
def session(request: pytest.FixtureRequest, gateway: GatewayProcess) -> Session:
    return Session(gateway, mode=request.param)


class Session:
    """One session and its requests."""

    def __init__(self, gateway: GatewayProcess, **fields: Any) -> None:
        self.gateway = gateway
        reply = gateway.post("/sessions/create", fields)
        assert reply.status_code == 200, reply.text
        self.made: dict[str, Any] = reply.json()
        self.uid: str = self.made["uuid"]

    def post(self, body: Any, path: str = "/v1/chat/completions", **options: Any) -> Any:
        return self.gateway.post(f"/{self.uid}{path}", body, **options)

    def say(self, *messages: Any, **fields: Any) -> dict[str, Any]:
        """The first choice's message."""
        reply = self.post({"messages": list(messages), "max_tokens": 12, **fields})
        assert reply.status_code == 200, reply.text
        said: dict[str, Any] = reply.json()["choices"][0]["message"]
        return said

    def nodes(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.gateway.get(f"/{self.uid}/nodes{query}").json()["nodes"]
        return found

    def reasons(self) -> list[str | None]:
        return [one["metadata"]["branch_reason"] for one in self.nodes()]


def sampled(node: dict[str, Any]) -> list[int]:
    return [token for token in node["masked_tokens"] if token != -100]


# Made, and refused ------------------------------------------------------------------------------------------------


def test_create(gateway: GatewayProcess) -> None:
    for body in (None, {}, {"unknown_field": 1}):
        made = gateway.post("/sessions/create", body).json()
        assert str(uuid.UUID(made["uuid"])) == made["uuid"]
        assert (made["model_name"], made["tool_parser"], made["mode"]) == ("stub", "hermes", "exact")
        assert made["tool_parsing"] in ("enabled", "disabled")
        assert made["base_url"] == gateway.stub.url
        assert isinstance(made["created_at"], float)
    assert Session(gateway, reasoning_parser="qwen3", tool_parser="llama3_json").made["tool_parser"] == "llama3_json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tool_parser": "no_such_parser"},
        {"reasoning_parser": "no_such_parser"},
        {"tool_parser": 3},
        {"track_tree": "yes"},
        {"preserve_think_blocks": 1},
        {"mode": "fast"},
        {"base_url": 3},
        [],
        b"{",
    ],
    ids=str,
)
def test_what_create_does_not_take(gateway: GatewayProcess, wrong: Any) -> None:
    message = check_openai(gateway.post("/sessions/create", wrong), 400)["message"]
    if "no_such_parser" in str(wrong):
        assert "deepseek_r1" in message or "hermes" in message


def test_exact_mode_needs_a_tokenizer(tmp_path: Any) -> None:
    with running_gateway(tmp_path) as plain:
        check_openai(plain.post("/sessions/create", {"mode": "exact"}), 400, "tokenizer_missing")
        assert plain.post("/sessions/create").json()["mode"] == "passthrough"
        made = plain.post("/sessions/create").json()["uuid"]
        check_openai(plain.post(f"/{made}/v1/chat/completions/render", {"messages": [USER]}), 501)


def test_what_is_not_there(gateway: GatewayProcess) -> None:
    unknown = str(uuid.uuid4())
    check_openai(gateway.post(f"/{unknown}/v1/chat/completions", {"messages": [USER]}), 404)
    check_openai(gateway.post(f"/{unknown}/v1/completions", {"prompt": "a"}), 404)
    check_openai(gateway.post(f"/{unknown}/v1/chat/completions/render", {"messages": [USER]}), 404)
    check_openai(gateway.get(f"/{unknown}/nodes"), 404)
    check_openai(gateway.delete(f"/{unknown}"), 404)
    check_openai(gateway.get(f"/{unknown}/v1/chat/completions"), 405)
    check_openai(gateway.post(f"/{unknown}/chat/completions", {"messages": [USER]}), 404)
    check_openai(gateway.get("/nowhere/at/all"), 404)
    check_openai(gateway.post("/sessions"), 405)


def test_a_deleted_session_is_gone(session: Session) -> None:
    gateway = session.gateway
    session.say(USER)
    assert gateway.delete(f"/{session.uid}").json() == {"status": "deleted", "uuid": session.uid}
    check_openai(gateway.delete(f"/{session.uid}"), 404)
    check_openai(session.post({"messages": [USER]}), 404)
    check_openai(gateway.get(f"/{session.uid}/nodes"), 404)
    assert session.uid not in [one["uuid"] for one in gateway.get("/sessions").json()["sessions"]]


def test_sessions_are_listed(session: Session) -> None:
    session.say(USER)
    session.say(USER)
    [row] = [one for one in session.gateway.get("/sessions").json()["sessions"] if one["uuid"] == session.uid]
    assert (row["model_name"], row["base_url"], row["num_nodes"]) == ("stub", session.gateway.stub.url, 2)
    assert row["last_accessed"] >= row["created_at"]
    models = session.gateway.get(f"/{session.uid}/v1/models").json()["data"]
    assert [(one["id"], one["object"]) for one in models] == [("stub", "model")]


# Calls -----------------------------------------------------------------------------------------------------------


def test_a_reply_is_openais(session: Session) -> None:
    reply = session.post({"messages": [USER], "max_completion_tokens": 6, "stop": "zz", "seed": 3}).json()
    assert reply["object"] == "chat.completion"
    assert reply["usage"]["completion_tokens"] <= 6
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    [node] = session.nodes()
    assert len(node["tokens"]) == reply["usage"]["total_tokens"]


def test_the_same_request_again_is_another_sample(session: Session) -> None:
    session.say(USER, seed=1)
    [first] = session.nodes()
    session.say(USER, seed=1)
    nodes = session.nodes()
    assert len(nodes) == 2
    assert nodes[0] == first


def test_a_conversation_is_one_node(session: Session) -> None:
    messages: list[Any] = [{"role": "system", "content": "Add."}, USER]
    count = 0
    for turn in range(4):
        reply = session.post({"messages": messages, "max_tokens": 12, "seed": turn}).json()
        count += reply["usage"]["completion_tokens"]
        content = reply["choices"][0]["message"]["content"]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": f"add {turn}"}]
    nodes = session.nodes()
    if session.made["mode"] == "exact":
        assert len(nodes) == 1
    assert sum(len(sampled(node)) for node in nodes) >= count


def test_nodes_have_what_trainers_read(session: Session) -> None:
    session.say(USER)
    [node] = session.nodes()
    assert len(node["tokens"]) == len(node["masked_tokens"]) == len(node["logprobs"])
    for token, masked, logprob in zip(node["tokens"], node["masked_tokens"], node["logprobs"], strict=True):
        assert (masked, logprob == 1.0) in ((-100, True), (token, False))
    metadata = node["metadata"]
    assert metadata["finish_reason"] == "length"
    assert metadata["mode"] == session.made["mode"]
    assert {"call_id", "parent_call_id", "branch_reason", "boundaries", "weight_version"} <= set(metadata)
    assert [one["verdict"] for one in metadata["boundaries"]] == ["root"]
    assert "add 2 and 3" in node["full_text"]


def test_siblings_stand_in_choice_order_and_are_extended_in_place(session: Session) -> None:
    reply = session.post({"messages": [USER], "n": 3, "max_tokens": 8}).json()
    before = session.nodes()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len(before) == 3
    middle = reply["choices"][1]["message"]
    session.say(USER, {"role": "assistant", "content": middle["content"]}, MORE)
    after = session.nodes()
    if session.made["mode"] == "exact":
        assert [len(node["tokens"]) > len(old["tokens"]) for node, old in zip(after, before, strict=True)] == [0, 1, 0]


def test_a_tree_has_a_node_a_call(gateway: GatewayProcess) -> None:
    session = Session(gateway, track_tree=True)
    said = session.say(USER)
    session.say(USER, said, MORE)
    first, second = session.nodes()
    assert second["metadata"]["parent_call_id"] == first["metadata"]["call_id"]
    assert first["metadata"]["parent_call_id"] is None
    assert sampled(second)[: len(sampled(first))] == sampled(first)


def test_undelivered_calls_are_shown_when_asked_for(session: Session) -> None:
    gateway = session.gateway
    gateway.stub.stub.pace_s = 0.5
    body = {"messages": [USER], "stream": True, "max_tokens": 12}
    connection = send_and_leave(gateway, f"/{session.uid}/v1/chat/completions", body)
    got = b""
    while got.count(b"data: ") < 3:
        got += connection.recv(65536)
    connection.close()
    wait_until(lambda: gateway.stub.requests[-1].gone)
    gateway.stub.stub.pace_s = 0
    wait_until(lambda: len(session.nodes("?include=undelivered")) == 1)
    assert session.nodes() == []
    session.say(USER)
    assert len(session.nodes()) == 1


# Branches --------------------------------------------------------------------------------------------------------


def test_edited_answers_tools_and_system_messages_are_branches_with_a_reason(gateway: GatewayProcess) -> None:
    edited = Session(gateway)
    edited.say(USER)
    edited.say(USER, {"role": "assistant", "content": "something else"}, MORE)
    assert edited.reasons() == [None, "edited"]
    tooled = Session(gateway, tool_parser=None)
    said = tooled.say(USER)
    tooled.say(USER, said, MORE, tools=TOOLS)
    assert tooled.reasons() == [None, "tools_changed"]
    first, second = tooled.nodes()
    assert str(sampled(first))[1:-1] in str(second["tokens"]), "the sampled turn is not in it as it was"
    told = Session(gateway)
    system = {"role": "system", "content": "Add."}
    said = told.say(system, USER)
    told.say({**system, "content": "Subtract."}, USER, said, MORE)
    assert told.reasons() == [None, "system_changed"]


def test_an_echo_may_be_parts_or_without_its_reasoning_or_trimmed(gateway: GatewayProcess) -> None:
    session = Session(gateway)
    said = session.say(USER)
    for content in (said["content"], [{"type": "text", "text": said["content"]}], said["content"].strip()):
        session.say(USER, {"role": "assistant", "content": content}, MORE)
    assert set(session.reasons()) == {None}


# Text ------------------------------------------------------------------------------------------------------------


def test_text_completions_extend_by_text_and_by_ids(session: Session) -> None:
    first = session.post({"prompt": "add 2 and 3 is", "max_tokens": 5}, "/v1/completions").json()["choices"][0]
    longer = "add 2 and 3 is" + first["text"] + " so"
    assert session.post({"prompt": longer, "max_tokens": 5}, "/v1/completions").status_code == 200
    [node] = session.nodes()
    ids = [*node["tokens"], 7, 8]
    assert session.post({"prompt": ids, "max_tokens": 5}, "/v1/completions").status_code == 200
    [node] = session.nodes()
    assert node["tokens"][: len(ids)] == ids
    assert len(sampled(node)) == 15


@pytest.mark.parametrize(
    "body",
    [{}, {"prompt": ""}, {"prompt": []}, {"prompt": [-1]}, {"prompt": [1.5]}, {"prompt": ["a", "b"]}, {"prompt": 7}],
    ids=str,
)
def test_what_a_text_completion_does_not_take(session: Session, body: dict[str, Any]) -> None:
    check_openai(session.post(body, "/v1/completions"), 400)
    assert session.nodes() == []


def test_ids_out_of_the_vocabulary_are_refused(session: Session) -> None:
    check_openai(session.post({"prompt": [5, 4_000_000]}, "/v1/completions"), 400)
    assert session.nodes() == []
