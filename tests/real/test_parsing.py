"""vLLM's own parsers in their process: Hermes calls and thoughts, whole and broken."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.engines.parsing.feeding import Piece
from moorage.engines.parsing.names import REASONING_PARSERS, TOOL_PARSERS
from moorage.engines.parsing.process import Asked, ParserProcess
from moorage.engines.parsing.told import Hidden, Told
from moorage.engines.tokenizer_files import load_tokenizer

pytestmark = pytest.mark.vllm

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look somewhere.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "look", "arguments": {"place": "Münster 🦊"}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "look", "arguments": {"place": "b", "deep": {"a": [1, 2.5, null]}}}\n</tool_call>'
THOUGHT = "<think>\nWhere? 你好\n</think>\n\n"


@pytest.fixture(scope="module")
def split(vllm_python, nano):
    """`split(text, …)` through one process of the real program."""
    with asyncio.Runner() as runner:
        process = ParserProcess(vllm_python, nano)
        tokenizer = load_tokenizer(nano)

        def parse(text, *, tool="hermes", reasoning="qwen3", with_ids=True, **settings):
            ids = tokenizer.encode(text + "<|im_end|>") if with_ids else None
            asked = Asked(tool_parser=tool, reasoning_parser=reasoning, tools=TOOLS, **settings)
            return runner.run(process.parse(text, asked=asked, ids=ids))

        def stream(pieces, *, tool, reasoning):
            async def feed():
                found = process.stream(Asked(tool_parser=tool, reasoning_parser=reasoning, tools=TOOLS))
                said = [one for piece in pieces for one in await found.feed([piece])]
                assert found.broken is None
                found.close()
                return said

            return runner.run(feed())

        parse.process, parse.stream = process, stream
        yield parse
        runner.run(process.close())


def calls_of(parsed):
    """(name, arguments as values) of each call."""
    for call in parsed.tool_calls:
        assert call["type"] == "function"
        assert call["id"]
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in parsed.tool_calls]


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_thought_a_text_and_calls(split, with_ids):
    parsed = split(THOUGHT + "Let me look.\n" + CALL + "\n" + OTHER, with_ids=with_ids)
    assert parsed.error is None
    assert parsed.reasoning.strip() == "Where? 你好"
    assert parsed.content.strip() == "Let me look."
    assert calls_of(parsed) == [
        ("look", {"place": "Münster 🦊"}),
        ("look", {"place": "b", "deep": {"a": [1, 2.5, None]}}),
    ]
    assert len({call["id"] for call in parsed.tool_calls}) == 2


def test_a_call_alone_leaves_no_content(split):
    parsed = split(CALL, reasoning=None)
    assert (parsed.content, parsed.reasoning, parsed.error) == (None, None, None)
    assert calls_of(parsed) == [("look", {"place": "Münster 🦊"})]


def test_a_text_alone(split):
    parsed = split("Nothing to do, ünïcödé.", reasoning=None)
    assert (parsed.content, parsed.tool_calls, parsed.error) == ("Nothing to do, ünïcödé.", [], None)


def test_a_call_that_is_not_closed_is_a_call(split):
    """vLLM takes it up to the end of the text."""
    assert calls_of(split(CALL.removesuffix("</tool_call>"), reasoning=None)) == [("look", {"place": "Münster 🦊"})]


@pytest.mark.parametrize(
    "broken", ['<tool_call>\n{"name": "look", "argu', "<tool_call>\n[]\n</tool_call>", "<tool_call>"]
)
def test_a_broken_call_stays_content(split, broken):
    parsed = split("So: " + broken, reasoning=None)
    assert parsed.tool_calls == []
    assert parsed.content == "So: " + broken


def test_without_a_reasoning_parser_the_thought_stays_in_the_content(split):
    parsed = split(THOUGHT + "Here.", reasoning=None)
    assert (parsed.content, parsed.reasoning) == (THOUGHT + "Here.", None)


def test_without_a_tool_parser_the_call_stays_in_the_content(split):
    parsed = split(THOUGHT + CALL, tool=None)
    assert parsed.content.strip() == CALL
    assert parsed.reasoning.strip() == "Where? 你好"


def test_special_tokens_never_reach_the_content(split):
    parsed = split("Here.<|im_end|>", with_ids=False, reasoning=None)
    again = split("Here.", reasoning=None)
    assert again.content == "Here."
    assert parsed.tool_calls == []


def test_a_parser_that_the_tokenizer_cannot_do_is_told_with_the_text(split):
    """DeepSeek's parser asks for tokens that nano does not have; the next text is parsed all the same."""
    parsed = split("Hello", tool="deepseek_v3", reasoning=None)
    assert (parsed.content, parsed.tool_calls) == ("Hello", [])
    assert "start/end tokens" in split.process.fault("tool", "deepseek_v3")
    assert split(CALL, reasoning=None).tool_calls


def test_thoughts_switched_off_are_known_to_the_parser(split):
    parsed = split("Just an answer.", template_kwargs={"enable_thinking": False})
    assert (parsed.content, parsed.reasoning) == ("Just an answer.", None)


def test_the_committed_names_are_those_of_vllm(vllm_python):
    """Every name that this vLLM has must be known; the lists may hold more, of other versions."""
    program = (
        "from vllm.tool_parsers import ToolParserManager as T\n"
        "from vllm.reasoning import ReasoningParserManager as R\n"
        "import json\n"
        "print(json.dumps([sorted(T.list_registered()), sorted(R.list_registered())]))"
    )
    said = subprocess.run([vllm_python, "-c", program], capture_output=True, text=True, check=True).stdout
    tools, reasoning = json.loads(said.splitlines()[-1])
    assert set(tools) <= TOOL_PARSERS
    assert set(reasoning) <= REASONING_PARSERS


WRITTEN = ("</think>", "<think>", "\n\n", " ", "So", "<tool", "</th", "\u00e9", "🦊", "<|im_end|>", CALL, OTHER)
"""What a text is made of. A call that is broken is none in the whole reply, and one in a stream: that is vLLM's."""


@settings(max_examples=60)
@given(
    st.sampled_from([("hermes", "qwen3"), (None, "qwen3"), ("qwen3_coder", "qwen3"), ("hermes", "deepseek_r1")]),
    st.lists(st.sampled_from(WRITTEN), max_size=6).map("".join),
    st.lists(st.integers(1, 8), min_size=1, max_size=9),
)
def test_a_stream_says_what_the_whole_reply_says(split, nano, parsers, text, sizes):
    tool, reasoning = parsers
    if reasoning == "deepseek_r1":  # what stands before its mark is a thought in a stream, and nothing in the whole
        text = "<think>" + text.replace("<think>", "")
    tokenizer = load_tokenizer(nano)
    hidden = Hidden(tokenizer.special_texts)
    ids = tokenizer.encode(text)
    whole = split(tokenizer.decode(ids, skip_special=False), tool=tool, reasoning=reasoning)
    found = split.stream(pieces_of(tokenizer, ids, sizes), tool=tool, reasoning=reasoning)
    told = Told(hidden, new_id=lambda: "x")
    deltas = [told.add(one) for one in found]
    message = {"content": hidden.out_of(whole.content or ""), "reasoning": hidden.out_of(whole.reasoning or "")}
    settled, rest = told.settle({**message, "tool_calls": whole.tool_calls}, cut=False)
    for name in ("content", "reasoning"):
        said = "".join(delta.get(name, "") for delta in [*deltas, rest])
        assert said == (settled[name] or "")
        assert said.strip() == message[name].strip()
    parts = [part for delta in [*deltas, rest] for part in delta.get("tool_calls", ())]
    arguments = ["".join(one["function"]["arguments"] for one in parts if one["index"] == at) for at in range(6)]
    assert [json.loads(one) for one in arguments if one] == [one for _, one in calls_of(whole)]


def pieces_of(tokenizer, ids, sizes):
    """As an engine streams them: some tokens an event, as `sizes` has it; half a character waits."""
    pieces, said, start, turn = [], "", 0, itertools.cycle(sizes)
    while start < len(ids):
        end = start + next(turn)
        text = tokenizer.decode(ids[:end], skip_special=False).rstrip("\ufffd")
        pieces.append(Piece(text[len(said) :], ids[start:end]))
        said, start = text, end
    return pieces
