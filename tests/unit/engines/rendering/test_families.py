"""Every family: sampled tokens stay as they are, and what is added is what the template writes, to the token."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.capture.packing import unpack_ids
from tests.unit.engines.rendering.families import FAMILIES, Family, Model, model
from tests.unit.engines.rendering.talk import Talk, ids_of

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=str)
CALLING = pytest.mark.parametrize("family", [family for family in FAMILIES if family.call], ids=str)
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}]
KINDS = ["canonical", "pieces", "truncated", "empty", "nothing", "cut character", "spaces", "other end"]
texts = st.text(st.sampled_from("abc The dog jumps 42.\n\t'é你🙂<|im_end|>[INST]</s>"), max_size=20)


def sampled(model: Model, kind: str, text: str) -> tuple[list[int], str]:
    """What a model may sample, and the content that a client is given for it."""
    tokenizer, family = model.tokenizer, model.family
    end = tokenizer.encode(family.end)
    text = text.replace("<", "(").replace("[", "(")  # what a model says holds no special tokens but its own
    opening = tokenizer.encode(family.opening)
    if kind == "nothing":
        return [], ""
    if kind == "empty":
        return opening + end, ""
    if kind == "spaces":
        text = f" \n{text} \n "
    ids = tokenizer.encode(text)
    if kind == "pieces":  # no tokenizer would give these ids, but a model may
        ids = [one for character in text for one in tokenizer.encode(character)]
    if kind == "cut character":
        whole = tokenizer.encode("🦊")[-3:]
        assert len(whole) > 1
        ids += whole[:-1]
        end = []
    if kind == "truncated":
        end = []
    if kind == "other end":
        end = [sorted(tokenizer.eos_ids)[0]]
    return opening + ids + end, tokenizer.decode(ids, skip_special=True)


def expected(model: Model, path: list[int], completion: list[int], following: list[dict[str, Any]]) -> list[int] | None:
    """By hand: the path, and the tail without what the model wrote of it. None: the path cannot stay whole."""
    tail = model.tokenizer.encode(model.family.tail(following))
    if completion and completion[-1] == tail[0]:
        return path + tail[1:]
    if completion and completion[-1] in model.tokenizer.eos_ids:
        if model.family.name == "glm":
            # <|endoftext|> may stand before any header; another speaker's header may not.
            return path + tail if model.tokenizer.token_text(completion[-1]) == "<|endoftext|>" else None
        return path + tail[1:]
    return path + tail


def beginning(family: Family, *, system: bool) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be good."}] if system and family.system else []


@EVERY
def test_a_prompt_without_sampled_turns_is_what_the_models_own_tokenizer_makes_of_the_template(family):
    one = model(family.name)
    for content in ("Hi", " leading", "trailing \n", "Ünïcödé 你好 🙂", "a<|im_end|>b</s>[INST]<end_of_turn>"):
        messages = [*beginning(family, system=True), {"role": "user", "content": content}]
        plan = Talk(one.renderer).plan(messages)
        assert ids_of(plan) == one.whole(messages)
        assert (plan.verdict, plan.parent, plan.keep, plan.matched) == ("root", None, 0, None)
        if one.tokenizer.bos_id is not None:
            assert ids_of(plan)[0] == one.tokenizer.bos_id
            assert ids_of(plan)[1] != one.tokenizer.bos_id


@EVERY
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(st.tuples(st.sampled_from(KINDS), texts, texts), min_size=1, max_size=7))
def test_each_turn_extends_the_one_before_by_the_templates_own_tail(family, turns):
    one = model(family.name)
    talk = Talk(one.renderer)
    messages = [*beginning(family, system="moves" not in family.flags), {"role": "user", "content": "Go."}]
    for kind, said, asked in turns:
        plan = talk.plan(messages)
        ids, content = sampled(one, kind, said)
        reply = {"role": "assistant", "content": content}
        node = talk.commit(messages, plan, ids, reply)
        following = [{"role": "user", "content": asked}]
        messages = [*messages, reply, *following]
        path = unpack_ids(talk.tree.path(node))
        by_hand = expected(one, path, ids, following)
        after = talk.plan(messages)
        if by_hand is None:
            assert (after.verdict, after.reason) == ("branch", "template")
            assert ids_of(after)[: len(path) - 1] == path[:-1]
        else:
            assert ids_of(after) == by_hand
            assert (after.verdict, after.parent, after.keep) == ("exact", node, len(path))
        assert (after.matched, after.covered) == (node, len(messages) - 1)


@pytest.mark.parametrize("name", ["nano", "qwen3", "llama3", "deepseek", "gemma", "glm"])
@settings(max_examples=25, deadline=None)
@given(turns=st.lists(st.tuples(st.text("abc dog 42.", min_size=1), texts), min_size=1, max_size=6))
def test_turns_that_the_tokenizer_would_encode_so_are_the_full_render(name, turns):
    """The whole law in one: with canonical turns the prompt is the encoded full render."""
    one = model(name)
    talk = Talk(one.renderer)
    messages = [*beginning(one.family, system=True), {"role": "user", "content": "Go."}]
    for said, asked in turns:
        said = said.strip() or "x"
        plan = talk.plan(messages)
        reply = {"role": "assistant", "content": said}
        talk.commit(messages, plan, one.tokenizer.encode(said + one.family.end), reply)
        messages = [*messages, reply, {"role": "user", "content": asked}]
        assert ids_of(talk.plan(messages)) == one.whole(messages)


@CALLING
@pytest.mark.parametrize("said", ["", "Let me see."])
@pytest.mark.parametrize("rounds", [1, 3])
def test_tool_calls_and_their_results(family, said, rounds):
    """The client writes the arguments in another way than the model did; the sampled ids stay all the same."""
    one = model(family.name)
    talk, tokenizer = Talk(one.renderer), one.tokenizer
    messages = [*beginning(family, system="moves" not in family.flags), {"role": "user", "content": "Look."}]
    if family.name in ("mistral-always", "mistral-first", "mistral-legacy", "llama3", "harmony"):
        said = ""
    for turn in range(rounds):
        plan = talk.plan(messages, tools=TOOLS)
        arguments = json.dumps({"place": f"Ünï {turn}", "deep": {"a": [1, 2.5]}}, indent=1)
        assert family.call is not None
        ids = tokenizer.encode(said + family.call("look", arguments) + (family.end_of_call or family.end))
        node = talk.commit(messages, plan, ids, reply_with_call(said, arguments), tools=TOOLS, finish="tool_calls")
        echoed = reply_with_call(said, json.dumps(json.loads(arguments), sort_keys=True))
        results = [{"role": "tool", "tool_call_id": "call00000", "content": f'sun "{turn}" 你'}]
        messages = [*messages, echoed, *results]
        path = unpack_ids(talk.tree.path(node))
        after = talk.plan(messages, tools=TOOLS)
        assert ids_of(after) == expected(one, path, ids, results)
        assert (after.verdict, after.parent) == ("exact", node)


@pytest.mark.parametrize("name", ["mistral-always", "mistral-first", "mistral-legacy"])
@pytest.mark.parametrize("system", [True, False])
def test_what_a_template_moves_is_a_branch_that_keeps_every_sampled_turn(name, system):
    """Mistral writes the tools and the system message before the last user's message only."""
    one = model(name)
    talk = Talk(one.renderer)
    messages = [*([{"role": "system", "content": "Be good."}] if system else []), {"role": "user", "content": "Go."}]
    said = []
    for turn in range(4):
        plan = talk.plan(messages, tools=TOOLS)
        if turn:
            assert (plan.verdict, plan.reason) == ("branch", "template")
            assert plan.parent is not None
        for earlier in said:
            assert contains(ids_of(plan), earlier)
        ids = [token for letter in f"answer {turn}" for token in one.tokenizer.encode(letter)]
        ids += one.tokenizer.encode("</s>")
        said.append(ids)
        reply = {"role": "assistant", "content": one.tokenizer.decode(ids, skip_special=True)}
        talk.commit(messages, plan, ids, reply, tools=TOOLS)
        messages = [*messages, reply, {"role": "user", "content": f"More {turn}."}]
        text = one.tokenizer.decode(ids_of(talk.plan(messages, tools=TOOLS)), skip_special=False)
        assert text.count("[AVAILABLE_TOOLS]") == 1
        assert text.count("Be good.") == system


@EVERY
def test_a_model_that_ends_its_turn_ends_it_once(family):
    one = model(family.name)
    talk = Talk(one.renderer)
    messages = [{"role": "user", "content": "Go."}]
    end = one.tokenizer.encode(family.end)
    assert len(end) == 1
    for _ in range(3):
        plan = talk.plan(messages)
        reply = {"role": "assistant", "content": "Gone."}
        talk.commit(messages, plan, one.tokenizer.encode(family.opening + "Gone." + family.end), reply)
        messages = [*messages, reply, {"role": "user", "content": "Again."}]
    ids = ids_of(talk.plan(messages))
    ends = one.tokenizer.eos_ids | {one.tokenizer.encode(family.tail([{"role": "user", "content": ""}]))[0]}
    assert not any(a in ends and b in ends for a, b in pairwise(ids))


def reply_with_call(said: str, arguments: str) -> dict[str, Any]:
    function = {"name": "look", "arguments": arguments}
    return {
        "role": "assistant",
        "content": said or None,
        "tool_calls": [{"id": "call00000", "type": "function", "function": function}],
    }


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))
