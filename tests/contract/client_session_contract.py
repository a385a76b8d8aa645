"""What a managed server promises, whichever way its session is recorded and whatever engine samples.

A class that inherits it gives the fixture `ways`. What is sampled is not pinned: the laws hold for any tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from moorage.client import ManagedServer, ManagedServerAdapter, SequenceNode
from moorage.errors import UsageError
from tests.contract.client_ways import WAYS, Way, comparable

ASKED = [{"role": "user", "content": "What is one and one?"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
GREEDY = {"temperature": 0.0, "max_tokens": 12, "seed": 7}


def lawful(node: SequenceNode) -> None:
    """The law of nodes: one length, -100 and 1.0 together, a token of its own elsewhere."""
    assert len(node.tokens) == len(node.masked_tokens) == len(node.logprobs)
    for token, masked, logprob in zip(node.tokens, node.masked_tokens, node.logprobs, strict=True):
        assert (masked == -100) == (logprob > 0)
        assert masked in (-100, token)
    assert node.metadata is not None
    assert node.metadata["finish_reason"]


def sampled_of(node: SequenceNode) -> list[int]:
    return [token for token in node.masked_tokens if token != -100]


class ClientSessionContract:
    @pytest.fixture(params=WAYS)
    def way(self, request: pytest.FixtureRequest, ways: dict[str, Way]) -> Way:
        return ways[request.param]

    def roll(self, way: Way, script: Callable[[ManagedServer], Awaitable[Any]], **options: Any) -> Any:
        async def run() -> Any:
            async with way.manager() as manager, manager.managed_server(**options) as managed:
                return await script(managed)

        return asyncio.run(run())

    def test_documented_example(self, way: Way) -> None:
        """Eight samples of one prompt are eight nodes, in the order of the choices; each can be gone on from."""

        async def script(managed: ManagedServer) -> None:
            reply = await managed.chat_completion(messages=ASKED, n=3, max_tokens=8, temperature=1.0, seed=1)
            nodes = managed.get_state()["nodes"]
            assert [choice.index for choice in reply.choices] == [0, 1, 2]
            assert len(nodes) == 3
            first = [node.tokens for node in nodes]
            for choice in reply.choices:
                more = [*ASKED, {"role": "assistant", "content": choice.message.content}, ASKED[0]]
                await managed.chat_completion(messages=more, **GREEDY)
            nodes = managed.get_state()["nodes"]
            for node in nodes:
                lawful(node)
            assert len(nodes) in (3, 4, 5)  # samples that read the same are one conversation
            assert [node.tokens[: len(tokens)] for node, tokens in zip(nodes, first, strict=False)].count(first[0])

        self.roll(way, script)

    def test_types_of_replies(self, way: Way) -> None:
        from openai.types import Completion
        from openai.types.chat import ChatCompletion

        async def script(managed: ManagedServer) -> None:
            reply = await managed.chat_completion(messages=ASKED, model="default", **GREEDY)
            assert isinstance(reply, ChatCompletion)
            assert reply.choices[0].message.role == "assistant"
            assert reply.usage is not None
            assert reply.usage.completion_tokens == len(sampled_of(managed.get_state()["nodes"][0]))
            text = await managed.completion(prompt="One and", **GREEDY)
            assert isinstance(text, Completion)
            adapter = ManagedServerAdapter(managed)
            again = await adapter.chat.completions.create(messages=ASKED, **GREEDY)
            assert isinstance(again, ChatCompletion)
            assert isinstance(await adapter.completions.create(prompt="Two and", **GREEDY), Completion)

        self.roll(way, script)

    def test_what_was_sampled_stays(self, way: Way) -> None:
        """Three turns are one node, whose ids begin with those of the turn before: no end of turn comes twice."""

        async def script(managed: ManagedServer) -> None:
            messages: list[Any] = list(ASKED)
            before: list[int] = []
            sampled = 0
            for turn in range(3):
                reply = await managed.chat_completion(messages=messages, temperature=0.0, max_tokens=200, seed=turn)
                [node] = managed.get_state()["nodes"]
                lawful(node)
                assert node.tokens[: len(before)] == before
                assert reply.usage is not None
                sampled += reply.usage.completion_tokens
                assert len(sampled_of(node)) == sampled
                before = node.tokens
                messages += [reply.choices[0].message, {"role": "user", "content": f"And {turn}?"}]

        self.roll(way, script)

    def test_text_completions_keep_what_came_before(self, way: Way) -> None:
        async def script(managed: ManagedServer) -> None:
            one = await managed.completion(prompt="One and one", temperature=0.0, max_tokens=4)
            first = managed.get_state()["nodes"][0]
            two = await managed.completion(prompt=first.full_text + " and", temperature=0.0, max_tokens=4)
            node = managed.get_state()["nodes"][0]
            assert node.tokens[: len(first.tokens)] == first.tokens
            assert one.usage is not None
            assert two.usage is not None
            assert len(sampled_of(node)) == one.usage.completion_tokens + two.usage.completion_tokens
            lawful(node)

        self.roll(way, script)

    def test_a_tree_has_a_node_for_each_call(self, way: Way) -> None:
        async def script(managed: ManagedServer) -> None:
            reply = await managed.chat_completion(messages=ASKED, **GREEDY)
            more = [*ASKED, reply.choices[0].message, ASKED[0]]
            await managed.chat_completion(messages=more, **GREEDY)
            await managed.chat_completion(messages=ASKED, **GREEDY)
            state = managed.get_state()
            assert len(state["nodes"]) == 3  # two that read the same are two
            assert state["tree"] == state["sequences"]
            assert set(state["tree"]) == {node.full_text for node in state["nodes"]}
            ids = [node.metadata["call_id"] for node in state["nodes"]]
            assert [node.metadata["parent_call_id"] for node in state["nodes"]] == [None, ids[0], None]

        self.roll(way, script, track_tree=True)

    def test_reset(self, way: Way) -> None:
        async def script(managed: ManagedServer) -> None:
            assert managed.get_state() == {"nodes": []}
            await managed.chat_completion(messages=ASKED, **GREEDY)
            managed.reset()
            assert managed.get_state() == {"nodes": []}
            assert await managed.fetch_state() == {"nodes": []}
            await managed.chat_completion(messages=ASKED, **GREEDY)
            assert len(managed.get_state()["nodes"]) == 1

        self.roll(way, script)

    def test_samples_as_tokens(self, way: Way) -> None:
        async def run() -> None:
            async with way.manager() as manager:
                prompt, tokens, logprobs, finished = await manager.tokens_and_logprobs_completion(
                    prompt="One and", n=2, max_tokens=5, temperature=1.0, split="eval"
                )
                assert prompt
                assert len(tokens) == len(logprobs) == len(finished) == 2
                assert [len(one) for one in tokens] == [len(one) for one in logprobs]
                again = await manager.tokens_and_logprobs_completion(input_ids=prompt, max_tokens=2)
                assert again[0] == prompt

        asyncio.run(run())

    def test_many_choices_are_numbered_through(self, way: Way) -> None:
        async def run() -> None:
            async with way.manager(max_n_completions=2) as manager:
                chat = await manager.chat_completion(messages=ASKED, n=5, max_tokens=2)
                assert [choice.index for choice in chat.choices] == [0, 1, 2, 3, 4]
                text = await manager.completion(prompt="One", n=3, max_tokens=2)
                assert [choice.index for choice in text.choices] == [0, 1, 2]

        asyncio.run(run())

    def test_both_ways_record_the_same(self, ways: dict[str, Way]) -> None:
        """Field by field: chats, a branch, tools, a text completion, several choices."""

        async def script(managed: ManagedServer) -> Any:
            reply = await managed.chat_completion(messages=ASKED, **GREEDY)
            more = [*ASKED, {"role": "assistant", "content": reply.choices[0].message.content}]
            await managed.chat_completion(messages=[*more, {"role": "user", "content": "And two?"}], **GREEDY)
            await managed.chat_completion(messages=[{"role": "system", "content": "Be brief."}, *ASKED], **GREEDY)
            await managed.chat_completion(messages=ASKED, tools=TOOLS, tool_choice="none", **GREEDY)
            await managed.completion(prompt="One and one", stop=["."], **GREEDY)
            last = await managed.chat_completion(messages=ASKED, logprobs=True, top_logprobs=2, **GREEDY)
            said = last.model_dump()
            for name in ("id", "created"):
                said.pop(name)
            return comparable(managed.get_state()), comparable(await managed.fetch_state()), said

        told = {name: self.roll(way, script, mode="exact") for name, way in ways.items()}
        assert told["in process"] == told["gateway"]
        assert told["gateway"][0] == told["gateway"][1]

    def test_wrong_calls(self, way: Way) -> None:
        async def script(managed: ManagedServer) -> None:
            wrong: list[tuple[str, dict[str, Any]]] = [
                ("messages_empty", {"messages": []}),
                ("bad_value", {"messages": ASKED, "split": "test"}),
                ("stream_not_here", {"messages": ASKED, "stream": True}),
                ("not_json", {"messages": ASKED, "x": object()}),
                ("body_wrong", {"messages": ASKED, "n": 0}),
                ("body_wrong", {"messages": [{"content": "x"}]}),
                ("body_wrong", {"messages": ASKED, "max_tokens": "many", "n": "two"}),
            ]
            for code, kwargs in wrong:
                with pytest.raises(UsageError) as caught:
                    await managed.chat_completion(**kwargs)
                assert caught.value.code == code, kwargs
            assert managed.get_state() == {"nodes": []}
            assert (await managed.chat_completion(messages=ASKED, **GREEDY)).choices

        self.roll(way, script)

    def test_what_cannot_be_is_said_at_the_beginning(self, way: Way) -> None:
        async def begin(**options: Any) -> None:
            async with way.manager() as manager, manager.managed_server(**options):
                pytest.fail("it began")

        with pytest.raises(UsageError) as caught:
            asyncio.run(begin(tool_parser="nonsense"))
        assert caught.value.code == "parser_unknown"
        assert "hermes" in caught.value.message
