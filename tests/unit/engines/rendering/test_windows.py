"""Tails from windows: the same as from the whole conversation, at a cost that does not grow with it."""

from __future__ import annotations

import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.engines.rendering.sentinel import Scene
from moorage.engines.rendering.tail import tail_ids, window_of
from tests.unit.engines.rendering.families import FAMILIES, NOW, model
from tests.unit.engines.rendering.talk import Talk
from tests.unit.engines.rendering.test_families import EVERY, TOOLS, reply_with_call

MARK = "Zqmarkxq"
TOO_MUCH = 1.3
"""What a plan at turn 200 may cost against one at turn 5."""


def conversation(family, steps, *, system):
    """Steps: "chat" is an answer and a question, "call" a tool call and its result."""
    messages = [{"role": "system", "content": "Be good."}] if system else []
    messages.append({"role": "user", "content": "Go."})
    for place, step in enumerate(steps):
        if step == "chat":
            messages.append({"role": "assistant", "content": f"Answer {place}."})
            messages.append({"role": "user", "content": f"Question {place}?"})
        else:
            messages.append(reply_with_call("", f'{{"place": {place}}}'))
            messages.append({"role": "tool", "tool_call_id": "call00000", "content": f"Result {place}."})
    return messages


@EVERY
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(["chat", "call"]), min_size=1, max_size=12), system=st.booleans())
def test_the_tail_from_a_window_is_the_tail_of_the_whole(family, steps, system):
    one = model(family.name)
    if family.call is None:
        steps = ["chat"] * len(steps)
    tools = TOOLS if "call" in steps else None
    messages = conversation(family, steps, system=system and family.system)
    traits = one.renderer.traits(Talk(one.renderer).ask(messages, tools=tools))
    scene = Scene(tools=tools, now=NOW)
    at = len(messages) - 2
    assert traits.window is not None
    window = window_of(messages, at, traits.window)
    if window is None:
        return
    assert len(window[0]) <= 9
    assert window[0][window[1]] is messages[at]
    both = [
        tail_ids(one.template, one.tokenizer, scene, said, place, mark=MARK, end_ids=traits.end_ids)
        for said, place in ((messages, at), window)
    ]
    if both[0] is None:  # Mistral refuses a question right after a tool's result
        return
    assert both[0] == both[1]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_family_may_use_windows(family):
    one = model(family.name)
    assert one.renderer.traits(Talk(one.renderer).ask([{"role": "user", "content": "Go."}])).window is not None


@pytest.mark.parametrize("tools", [None, TOOLS])
def test_turn_200_costs_what_turn_5_does(tools):
    """CPU of this thread, the two interleaved; each pair is taken close together, since the machine has other work."""
    one = model("nano")
    early, late = [talked(one, turns, tools) for turns in (5, 200)]
    ratios = []
    for _ in range(60):
        spent = [cpu_s(lambda talk=talk, ask=ask: one.renderer.plan(talk.tree, ask)) for talk, ask in (early, late)]
        ratios.append(spent[1] / spent[0])
    assert statistics.median(ratios) <= TOO_MUCH, statistics.quantiles(ratios)


def talked(one, turns, tools):
    """A session of that many turns, and what is asked next."""
    talk, messages = Talk(one.renderer), [{"role": "user", "content": "Go."}]
    for turn in range(turns):
        plan = talk.plan(messages, tools=tools)
        reply = {"role": "assistant", "content": f"Answer {turn}: " + "the dog jumps " * 20}
        sampled = one.tokenizer.encode(reply["content"] + "<|im_end|>")
        talk.commit(messages, plan, sampled, reply, tools=tools)
        messages = [*messages, reply, {"role": "user", "content": f"Question {turn}: " + "the fox " * 16}]
    return talk, talk.ask(messages, tools=tools)


def cpu_s(work):
    began = time.thread_time()
    for _ in range(5):
        work()
    return time.thread_time() - began
