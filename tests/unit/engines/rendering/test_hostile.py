"""Templates that no family has: what cannot be proven is rendered whole, as a branch with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.packing import unpack_ids
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer
from tests.unit.engines.rendering.families import CHATML, NOW, TAGS, model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

TEMPLATES = Path(__file__).parent / "templates"
USER = {"role": "user", "content": "Go."}


def renderer(source: str, spec: bytes | None = None, **config) -> Renderer:
    spec = spec or byte_level(CHATML, TAGS)
    config = config or {"eos_token": "<|im_end|>"}
    tokenizer = Tokenizer.from_json(spec, config, source)
    return Renderer(tokenizer, ChatTemplate(source, tokenizer.named))


def turns(one: Renderer, count: int, *, end: str = "<|im_end|>"):
    """(talk, messages, plans) of a session with that many answers."""
    talk, messages, plans = Talk(one), [USER], []
    for turn in range(count):
        plan = talk.plan(messages)
        plans.append(plan)
        reply = {"role": "assistant", "content": f"Answer {turn}"}
        talk.commit(messages, plan, one.tokenizer.encode(f"Answer {turn}{end}"), reply)
        messages = [*messages, reply, {"role": "user", "content": f"More {turn}."}]
    plans.append(talk.plan(messages))
    return talk, messages, plans


def test_a_template_that_rewrites_everything_is_rendered_whole_each_time():
    source = (TEMPLATES / "hostile.jinja").read_text()
    one = renderer(source)
    _, messages, plans = turns(one, 6)
    assert plans[0].verdict == "root"
    assert {(plan.verdict, plan.reason) for plan in plans[1:]} == {("branch", "template")}
    assert ids_of(plans[-1]) == one.tokenizer.encode_whole(one.template.render(messages, now=NOW))


def test_a_tail_that_begins_with_no_special_token_is_not_proven():
    source = (TEMPLATES / "unspaced.jinja").read_text()
    one = renderer(source, sentence_piece(["<s>", "</s>"], scheme="first"), bos_token="<s>", eos_token="</s>")
    _, messages, plans = turns(one, 3, end="</s>")
    assert {(plan.verdict, plan.reason) for plan in plans[1:]} == {("branch", "unproven_tail")}
    assert ids_of(plans[-1]) == one.tokenizer.encode_whole(one.template.render(messages))


def test_what_a_template_writes_between_an_answer_and_its_close_is_not_proven():
    close = "{{ '\\n' if m.role == 'assistant' }}<|im_end|>{% endfor %}<|im_start|>"
    one = renderer("{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}" + close)
    _, _, plans = turns(one, 2)
    assert plans[-1].reason == "unproven_tail"


def test_turns_without_proven_ends_are_text_when_the_conversation_is_rendered_anew():
    """A template that counts, and ends an answer with a line: nothing sampled can be left as it is."""
    close = "{{ '\\n' if m.role == 'assistant' }}<|im_end|>{% endfor %}<|im_start|>"
    one = renderer("{{ messages | length }}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}" + close)
    talk = Talk(one)
    letters = [token for letter in "The fox" for token in one.tokenizer.encode(letter)]
    reply = {"role": "assistant", "content": "The fox"}
    talk.commit([USER], talk.plan([USER]), letters, reply, finish="length")
    plan = talk.plan([USER, reply, USER])
    assert (plan.verdict, plan.reason) == ("branch", "template")
    assert ids_of(plan) == one.tokenizer.encode_whole(one.template.render([USER, reply, USER]))


def test_a_template_that_looks_far_back_is_rendered_whole_from_the_start():
    """The probes see that a tail from a window is another one."""
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'user' and not loop.first %}{{ messages[1].content }}: {% endif %}{{ m.content }}<|im_end|>"
        "{% endfor %}<|im_start|>assistant{{ '\\n' }}"
    )
    one = renderer(source)
    _, messages, plans = turns(one, 7)
    assert one.traits(Talk(one).ask(messages)).window is None
    assert {plan.verdict for plan in plans[1:]} == {"exact"}
    assert ids_of(plans[-1]) == one.tokenizer.encode_whole(one.template.render(messages))


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_template_that_waits_for_a_word_is_found_out_by_the_sessions_own_checks(turn):
    """No probe says the word; the next full render does, and windows are not used again."""
    source = (
        "{% set ns = namespace(seen=false) %}{% for m in messages %}"
        "{% if 'zebra' in m.content %}{% set ns.seen = true %}"
        "{% endif %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
        "<|im_start|>assistant{{ ' seen' if ns.seen }}"
    )
    one = renderer(source)
    assert one.traits(Talk(one).ask([USER])).window == 0
    talk, messages = Talk(one), [USER]
    for at in range(12):
        plan = talk.plan(messages)
        text = one.tokenizer.decode(ids_of(plan), skip_special=False)
        if at == turn + 1 or at >= 8:  # in the window still, or checked since
            assert text.endswith("assistant seen")
        reply = {"role": "assistant", "content": "Yes."}
        talk.commit(messages, plan, one.tokenizer.encode("Yes.<|im_end|>"), reply)
        said = "A zebra!" if at == turn else f"More {at}."
        messages = [*messages, reply, {"role": "user", "content": said}]
    assert not one.windows


def test_a_template_that_refuses_is_told_to_the_client():
    one = model("gemma").renderer
    with pytest.raises(TemplateFault) as caught:
        Talk(one).plan([{"role": "system", "content": "Be good."}, USER])
    assert (caught.value.code, caught.value.http_status) == ("template_failed", 400)
    assert "System role not supported" in caught.value.message
    talk, messages, _ = turns(one, 3, end="<end_of_turn>")
    with pytest.raises(TemplateFault):
        talk.plan([*messages, {"role": "user", "content": "Two users in a row."}])


@pytest.mark.parametrize("name", ["nano", "llama3", "glm", "mistral-first"])
def test_no_client_can_write_a_mark_or_break_out_of_its_message(name):
    """Marks are made of a digest of the conversation that they stand in."""
    one = model(name)
    talk = Talk(one.renderer)
    messages = [{"role": "user", "content": "Zq" + "0" * 16 + "x1xqZ MoorageContinuesHere"}]
    plan = talk.plan(messages)
    reply = {"role": "assistant", "content": "Zq" + "0" * 16 + "x1xqZ"}
    ids = one.tokenizer.encode(reply["content"] + one.family.end)
    node = talk.commit(messages, plan, ids, reply)
    after = talk.plan([*messages, reply, messages[0]])
    assert (after.verdict, after.parent) == ("exact", node)
    tail = one.tokenizer.encode(one.family.tail([messages[0]]))
    assert ids_of(after) == unpack_ids(talk.tree.path(node)) + tail[1:]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "tool", "system"]), st.text(max_size=6)), min_size=1, max_size=9
    )
)
def test_any_order_of_roles_is_planned_or_refused(said):
    """Never another exception, and always the same prompt for the same request."""
    one = model("qwen3")
    messages = [{"role": role, "content": content} for role, content in said]
    talk = Talk(one.renderer)
    first = talk.plan(messages)
    assert ids_of(first) == one.whole(messages)
    reply = {"role": "assistant", "content": "x"}
    talk.commit(messages, first, one.tokenizer.encode("x<|im_end|>"), reply)
    after = talk.plan([*messages, reply, *messages])
    assert ids_of(after) == ids_of(talk.plan([*messages, reply, *messages]))
    assert after.verdict == "exact"
