"""Whole sessions that branch, go back, regenerate and change tools: laws that hold for every prompt in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.engines.rendering.families import FAMILIES, NOW, model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.test_families import TOOLS

SAYS_ALL = ["nano", "qwen3", "deepseek", "glm"]
"""Templates that write an answer as it was said, and close it as the model does: the prompt's text is the render's."""

steps = st.lists(
    st.tuples(
        st.integers(0, 9),  # which of the conversations so far goes on
        st.booleans(),  # with tools
        st.booleans(),  # sampled letter by letter, as no tokenizer would encode it
        st.text("abc The fox 42é你🦊", min_size=1, max_size=10),
    ),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(taken=steps)
def test_sampled_tokens_stay_in_their_order_through_branches_and_other_tools(family, taken):
    one = model(family.name)
    talk = Talk(one.renderer)
    start: list[dict[str, Any]] = [{"role": "user", "content": "Go."}]
    conversations: list[tuple[list[dict[str, Any]], list[list[int]]]] = [(start, [])]
    for which, with_tools, letters, said in taken:
        messages, sampled = conversations[which % len(conversations)]
        tools = TOOLS if with_tools and family.call else None
        plan = talk.plan(messages, tools=tools)
        assert in_order(ids_of(plan), [ids[:-1] for ids in sampled])
        assert ids_of(plan) == ids_of(talk.plan(messages, tools=tools))
        if plan.verdict == "branch":
            assert plan.reason in ("tools_changed", "template")
        if family.name in SAYS_ALL:
            text = one.template.render(messages, tools=tools, now=NOW)
            assert one.tokenizer.decode(ids_of(plan), skip_special=False) == text
        said = f"x{said.strip()} {len(conversations)}"  # two calls that say the same are one to a client
        one_by_one = [token for letter in said for token in one.tokenizer.encode(letter)]
        ids = one.tokenizer.encode(family.opening) + (one_by_one if letters else one.tokenizer.encode(said))
        ids += one.tokenizer.encode(family.end)
        reply = {"role": "assistant", "content": said}
        talk.commit(messages, plan, ids, reply, tools=tools)
        after = [*messages, reply, {"role": "user", "content": f"And {len(conversations)}?"}]
        conversations.append((after, [*sampled, ids]))


@pytest.mark.parametrize("name", ["nano", "qwen3", "llama3", "glm", "harmony"])
@settings(max_examples=20, deadline=None)
@given(
    taken=st.lists(
        st.tuples(st.sampled_from(["edit", "forget", "invent", "system"]), st.integers(0, 5)), min_size=1, max_size=4
    )
)
def test_changed_histories_are_rendered_as_they_are_sent_after_the_last_call_that_is_untouched(name, taken):
    """Edited, left out and invented answers: the text is the client's; calls before the change keep their tokens."""
    one = model(name)
    talk = Talk(one.renderer)
    messages, sampled = [{"role": "user", "content": "Go."}], []
    for turn in range(4):
        ids = [token for letter in f"fox {turn}" for token in one.tokenizer.encode(letter)]
        ids = one.tokenizer.encode(one.family.opening) + ids + one.tokenizer.encode(one.family.end)
        reply = {"role": "assistant", "content": f"fox {turn}"}
        talk.commit(messages, talk.plan(messages), ids, reply)
        sampled.append(ids)
        messages = [*messages, reply, {"role": "user", "content": f"And {turn}?"}]
    changed, untouched = list(messages), len(sampled)
    for what, where in taken:
        place = 1 + 2 * (where % 4)
        if what == "edit" and place < len(changed):
            changed[place] = {"role": "assistant", "content": "never said"}
            untouched = min(untouched, place // 2)
        elif what == "forget" and len(changed) > place + 2:
            del changed[place : place + 2]
            untouched = min(untouched, place // 2)
        elif what == "invent":
            changed = [*changed, {"role": "assistant", "content": "invented"}, {"role": "user", "content": "Well?"}]
        elif what == "system" and changed[0]["role"] == "user":
            changed = [{"role": "system", "content": "Be good."}, *changed]
            untouched = 0
        if changed[0]["role"] == "system":
            break
    plan = talk.plan(changed)
    assert in_order(ids_of(plan), [ids[:-1] for ids in sampled[:untouched]])
    if name in SAYS_ALL:
        text = one.template.render(changed, now=NOW)
        assert one.tokenizer.decode(ids_of(plan), skip_special=False) == text
    if plan.verdict == "root":
        assert not any(message["role"] == "assistant" for message in changed)


def in_order(ids: list[int], parts: list[list[int]]) -> bool:
    """Whether the parts stand in the ids one after the other."""
    at = 0
    for part in parts:
        found = next((place for place in range(at, len(ids)) if ids[place : place + len(part)] == part), None)
        if found is None:
            return False
        at = found + len(part)
    return True
