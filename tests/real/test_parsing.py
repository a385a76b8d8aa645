"""vLLM's own parsers in their process: Hermes calls and thoughts, whole and broken."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest

from moorage.engines.parsing.names import REASONING_PARSERS, TOOL_PARSERS
from moorage.engines.parsing.process import Asked, ParserProcess
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

        parse.process = process
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
