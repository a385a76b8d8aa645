"""Tools for templates that know none: written as a family writes them, and continued to the token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorage.capture.messages import read_conversation
from moorage.capture.packing import unpack_ids
from moorage.capture.tree import CallTree
from moorage.engines.rendering.ask import PromptAsk, PromptPlan
from moorage.engines.rendering.fallback import FAMILIES, fallback_renderer
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.tokenizer_files import load_tokenizer
from tests.conftest import ROOT

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
LAST = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = "{% for m in messages %}" + TURN + "{% endfor %}" + LAST
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
) + PLAIN.removeprefix("{% for m in messages %}")
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "what is there?"}
CALLS = [
    {
        "id": "1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": "ü \\"x\\"", "deep": [true, null]}'},
    },
    {"id": "2", "type": "function", "function": {"name": "wait", "arguments": "{}"}},
]
CALLED = {"role": "assistant", "content": None, "tool_calls": CALLS}
RESULTS = [
    {"role": "tool", "tool_call_id": "1", "content": "fog"},
    {"role": "tool", "tool_call_id": "2", "content": ""},
]
WRITTEN = {
    "hermes": '<tool_call>\n{"name": "look", "arguments": {"at": "ü \\"x\\"", "deep": [true, null]}}\n</tool_call>',
    "llama3_json": '{"name": "look", "parameters": {"at": "ü \\"x\\"", "deep": [true, null]}}; {"name": "wait"',
    "pythonic": '[look(at="ü \\"x\\"", deep=[True, None]), wait()]',
}


@pytest.fixture(params=[PLAIN, STRICT], ids=["plain", "strict"])
def base(request: pytest.FixtureRequest) -> Renderer:
    tokenizer = load_tokenizer(ROOT / "models" / "nano")
    return Renderer(tokenizer, ChatTemplate(request.param, tokenizer.named))


def plan(renderer: Renderer, messages: list[Any], tools: Any = TOOLS) -> PromptPlan:
    ask = PromptAsk(messages=messages, conversation=read_conversation(messages), tools=tools)
    found = renderer.plan(CallTree(), ask)
    assert isinstance(found, PromptPlan)
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_tools_calls_and_results_are_in_the_prompt(base: Renderer, family: str) -> None:
    renderer = fallback_renderer(base, family)
    ids = unpack_ids(plan(renderer, [USER, CALLED, *RESULTS, USER]).ids)
    text = renderer.tokenizer.decode(ids, skip_special=False)
    assert '"look"' in text.partition("what is there?")[0]
    assert WRITTEN[family] in text
    assert "fog" in text.partition(WRITTEN[family])[2]
    assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_without_tools_it_is_the_models_own_prompt(base: Renderer, family: str) -> None:
    messages = [USER, {"role": "assistant", "content": "fog"}, USER]
    assert plan(fallback_renderer(base, family), messages, None).ids == plan(base, messages, None).ids


def test_a_system_message_keeps_its_words() -> None:
    tokenizer = load_tokenizer(ROOT / "models" / "nano")
    renderer = fallback_renderer(Renderer(tokenizer, ChatTemplate(PLAIN, tokenizer.named)), "hermes")
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    text = renderer.template.render([system, USER], tools=TOOLS)
    assert text.count("<|im_start|>system") == 1
    assert "Be brief.\n\n# Tools" in text


def test_arguments_that_are_no_json_are_none_and_a_call_that_is_none_is_refused(base: Renderer) -> None:
    renderer = fallback_renderer(base, "hermes")
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{oops"}}
    text = renderer.template.render([USER, {**CALLED, "tool_calls": [call]}, RESULTS[0]], tools=TOOLS)
    assert json.dumps({"name": "look", "arguments": {}}) in text
    with pytest.raises(TemplateFault):
        renderer.template.render([USER, {**CALLED, "tool_calls": [7]}], tools=TOOLS)


def test_the_model_that_knows_its_tools_is_left_alone(base: Renderer) -> None:
    before = plan(base, [USER], None).ids
    fallback_renderer(base, "pythonic")
    assert plan(base, [USER], None).ids == before
