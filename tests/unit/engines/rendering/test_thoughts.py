"""Thoughts of earlier turns: kept as sampled, or left out as the template leaves them out."""

from __future__ import annotations

from typing import Any

import pytest

from moorage.capture.packing import unpack_ids
from tests.unit.engines.rendering.families import model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.test_families import contains, reply_with_call

USER, AGAIN = {"role": "user", "content": "Why?"}, {"role": "user", "content": "And then?"}
THOUGHT, ANSWER = "\nLet me think about 42.\n", "\n\nBecause of the fox."


def think(name: str) -> tuple[Any, str]:
    """The model, and what it samples before its answer: the open tag is in the prompt already for some."""
    one = model(name)
    return one, THOUGHT + "</think>" if "opens" in one.family.flags else "<think>" + THOUGHT + "</think>"


def one_turn(name: str, echo: str, **settings: Any) -> tuple[Any, Talk, Any, list[int], list[dict[str, Any]]]:
    """A turn that thought, given back by the client with its content and what `echo` says of the reasoning."""
    one, thought = think(name)
    talk = Talk(one.renderer)
    plan = talk.plan([USER], **settings)
    sampled = one.tokenizer.encode(thought + ANSWER + one.family.end)
    parsed = {"role": "assistant", "content": ANSWER.strip(), "reasoning": THOUGHT.strip()}
    whole = {"role": "assistant", "content": thought + ANSWER}
    given = whole if echo == "in content" else parsed
    node = talk.commit([USER], plan, sampled, given)
    echoed = {"role": "assistant", "content": ANSWER.strip()} if echo == "left out" else given
    return one, talk, node, sampled, [USER, echoed, AGAIN]


@pytest.mark.parametrize("name", ["nano", "qwen3", "thinker", "deepseek", "glm"])
@pytest.mark.parametrize("echo", ["in content", "beside", "left out"])
def test_sampled_thoughts_stay_however_the_client_gives_them_back(name, echo):
    one, talk, node, sampled, messages = one_turn(name, echo)
    after = talk.plan(messages)
    path = unpack_ids(talk.tree.path(node))
    assert (after.verdict, after.parent, after.keep) == ("exact", node, len(path))
    assert ids_of(after) == path + one.tokenizer.encode(one.family.tail([AGAIN]))[1:]
    assert contains(ids_of(after), sampled)


@pytest.mark.parametrize("name", ["qwen3", "thinker", "deepseek", "glm"])
@pytest.mark.parametrize("echo", ["in content", "beside", "left out"])
def test_without_thoughts_the_prompt_is_the_templates_own_and_a_branch(name, echo):
    one, talk, _, sampled, messages = one_turn(name, echo, preserve_think_blocks=False)
    after = talk.plan(messages, preserve_think_blocks=False)
    assert (after.verdict, after.reason) == ("branch", "reasoning_stripped")
    assert ids_of(after) == one.whole(messages)
    assert not contains(ids_of(after), sampled)


@pytest.mark.parametrize("name", ["qwen3", "thinker", "deepseek"])
def test_what_is_left_of_a_turn_without_its_thoughts_stays_as_sampled(name):
    """The answer was sampled letter by letter, as no tokenizer would encode it."""
    one, thought = think(name)
    talk, tokenizer = Talk(one.renderer), one.tokenizer
    plan = talk.plan([USER], preserve_think_blocks=False)
    answer = [token for letter in "The fox." for token in tokenizer.encode(letter)]
    lines = [] if name == "deepseek" else tokenizer.encode("\n\n")
    sampled = [*tokenizer.encode(thought), *lines, *answer, *tokenizer.encode(one.family.end)]
    reply = {"role": "assistant", "content": "The fox."}
    talk.commit([USER], plan, sampled, {**reply, "reasoning": "x"})
    after = talk.plan([USER, reply, AGAIN], preserve_think_blocks=False)
    whole = one.whole([USER, reply, AGAIN])
    assert contains(ids_of(after), answer)
    assert not contains(whole, answer)
    assert tokenizer.decode(ids_of(after), skip_special=False) == tokenizer.decode(whole, skip_special=False)


def test_an_answer_that_the_template_trims_is_as_the_template_has_it():
    """The sampled spaces are not in the render, so the sampled ids cannot be either."""
    one = model("glm")
    talk = Talk(one.renderer)
    plan = talk.plan([USER], preserve_think_blocks=False)
    sampled = one.tokenizer.encode("<think>\nx\n</think>\nThe fox.  \n" + one.family.end)
    reply = {"role": "assistant", "content": "The fox.  \n", "reasoning": "x"}
    talk.commit([USER], plan, sampled, reply)
    after = talk.plan([USER, reply, AGAIN], preserve_think_blocks=False)
    assert ids_of(after) == one.whole([USER, reply, AGAIN])
    assert (after.verdict, after.reason) == ("branch", "reasoning_stripped")


def test_thoughts_that_the_template_keeps_are_no_branch():
    """Qwen3 keeps the thoughts of a tool loop, nano keeps all; nothing changes then, and the verdict is exact."""
    for name in ("nano", "qwen3"):
        one = model(name)
        talk = Talk(one.renderer)
        tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
        plan = talk.plan([USER], tools=tools, preserve_think_blocks=False)
        assert one.family.call is not None
        call = one.family.call("look", '{"a": 1}')
        said = "<think>\nLet me look.\n</think>\n\n" + call + one.family.end
        reply = {**reply_with_call("", '{"a": 1}'), "reasoning": "Let me look."}
        node = talk.commit([USER], plan, one.tokenizer.encode(said), reply, tools=tools)
        result = {"role": "tool", "tool_call_id": "call00000", "content": "a fox"}
        after = talk.plan([USER, reply, result], tools=tools, preserve_think_blocks=False)
        assert (after.verdict, after.parent) == ("exact", node)
        assert ids_of(after) == one.whole([USER, reply, result], tools=tools)


def test_a_session_without_thoughts_is_exact_whatever_is_asked_of_them():
    one = model("qwen3")
    talk = Talk(one.renderer)
    plan = talk.plan([USER], preserve_think_blocks=False)
    letters = [token for letter in "The fox." for token in one.tokenizer.encode(letter)]
    reply = {"role": "assistant", "content": "The fox."}
    node = talk.commit([USER], plan, letters, reply, finish="length")
    after = talk.plan([USER, reply, AGAIN], preserve_think_blocks=False)
    assert (after.verdict, after.parent) == ("exact", node)


def test_other_reasoning_than_was_sampled_is_an_edit():
    _, talk, _, sampled, messages = one_turn("nano", "beside")
    messages[1] = {**messages[1], "reasoning": "I was told to say so."}
    after = talk.plan(messages)
    assert (after.verdict, after.reason) == ("branch", "edited")
    assert not contains(ids_of(after), sampled)


def test_an_unfinished_thought_is_closed_by_the_turns_end_alone():
    one = model("thinker")
    talk = Talk(one.renderer)
    plan = talk.plan([USER])
    sampled = one.tokenizer.encode("\nLet me think about")
    reply = {"role": "assistant", "content": "", "reasoning": "Let me think about"}
    node = talk.commit([USER], plan, sampled, reply, finish="length")
    after = talk.plan([USER, reply, AGAIN])
    assert after.parent is node
    assert ids_of(after) == unpack_ids(talk.tree.path(node)) + one.tokenizer.encode(one.family.tail([AGAIN]))


def test_thinking_switched_off_between_turns_changes_only_the_next_header():
    one = model("qwen3")
    talk = Talk(one.renderer)
    plan = talk.plan([USER])
    reply = {"role": "assistant", "content": "The fox."}
    node = talk.commit([USER], plan, one.tokenizer.encode("The fox.<|im_end|>"), reply)
    after = talk.plan([USER, reply, AGAIN], template_kwargs={"enable_thinking": False})
    tail = one.tokenizer.encode(one.family.tail([AGAIN]) + "<think>\n\n</think>\n\n")
    assert ids_of(after) == unpack_ids(talk.tree.path(node)) + tail[1:]
    assert after.verdict == "exact"


@pytest.mark.parametrize("name", ["qwen3", "thinker"])
def test_sampled_thoughts_stay_when_the_conversation_is_rendered_anew(name):
    """Other tools: the header that began the thought stands before it again, although earlier turns show none."""
    one, talk, node, sampled, messages = one_turn(name, "beside")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    after = talk.plan(messages, tools=tools)
    opening = one.tokenizer.encode("<|im_start|>assistant\n" + ("<think>\n" if name == "thinker" else ""))
    assert contains(ids_of(after), opening + sampled)
    if name == "thinker":  # its template writes no tools: nothing changed
        assert (after.verdict, after.parent) == ("exact", node)
        assert ids_of(after) == ids_of(talk.plan(messages))
    else:
        assert (after.verdict, after.reason) == ("branch", "tools_changed")
