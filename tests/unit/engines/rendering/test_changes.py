"""What clients change between turns: tools, texts, the system message; and prompts that go on or are cut."""

from __future__ import annotations

import pytest

from moorage.capture.packing import count, unpack_ids
from moorage.engines.rendering.ask import NeedsRecorded
from moorage.errors import UsageError
from tests.unit.engines.rendering.families import NOW, model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.test_families import TOOLS, contains, reply_with_call

SYSTEM = {"role": "system", "content": "Be good."}
OTHER = [{"type": "function", "function": {"name": "hear", "parameters": {"type": "object"}}}]


def letters(one, text):
    """Ids that no tokenizer would give: one letter at a time."""
    return [token for letter in text for token in one.tokenizer.encode(letter)]


def several_turns(one, turns=3, *, system=True, tools=None):
    talk = Talk(one.renderer)
    messages = [*([SYSTEM] if system else []), {"role": "user", "content": "Go."}]
    said = []
    for turn in range(turns):
        ids = letters(one, f"answer {turn}.") + one.tokenizer.encode(one.family.end)
        said.append(ids)
        reply = {"role": "assistant", "content": f"answer {turn}."}
        talk.commit(messages, talk.plan(messages, tools=tools), ids, reply, tools=tools)
        messages = [*messages, reply, {"role": "user", "content": f"More {turn}."}]
    return talk, messages, said


@pytest.mark.parametrize("name", ["nano", "qwen3", "llama3", "deepseek", "glm"])
@pytest.mark.parametrize("change", ["added", "dropped", "other"])
def test_other_tools_are_a_branch_with_every_sampled_turn_as_it_was(name, change):
    one = model(name)
    before, after = {"added": (None, TOOLS), "dropped": (TOOLS, None), "other": (TOOLS, OTHER)}[change]
    talk, messages, said = several_turns(one, tools=before)
    plan = talk.plan(messages, tools=after)
    if plan.verdict != "exact":  # DeepSeek's template does not write tools at all: then nothing changed
        assert plan.reason == "tools_changed"
    assert (plan.verdict == "exact") == (name == "deepseek")
    for ids in said:
        assert contains(ids_of(plan), ids)
    canonical = one.whole(messages, tools=after)
    decode = one.tokenizer.decode
    assert decode(ids_of(plan), skip_special=False) == decode(canonical, skip_special=False)
    reply = {"role": "assistant", "content": "Yes."}
    node = talk.commit(messages, plan, one.tokenizer.encode("Yes." + one.family.end), reply, tools=after)
    again = talk.plan([*messages, reply, {"role": "user", "content": "Good."}], tools=after)
    assert (again.verdict, again.parent) == ("exact", node)


@pytest.mark.parametrize("name", ["nano", "qwen3", "llama3", "glm", "harmony"])
def test_tool_calls_stay_as_sampled_when_the_tools_are_dropped(name):
    one = model(name)
    talk = Talk(one.renderer)
    user = {"role": "user", "content": "Look."}
    end = one.family.end_of_call or one.family.end
    ids = letters(one, one.family.call("look", '{ "a" : 1 }').partition("{")[0])
    ids = one.tokenizer.encode(one.family.call("look", '{"a":  1}')) + one.tokenizer.encode(end)
    plan = talk.plan([user], tools=TOOLS)
    reply = reply_with_call("", '{"a": 1}')
    talk.commit([user], plan, ids, reply, tools=TOOLS, finish="tool_calls")
    result = {"role": "tool", "tool_call_id": "call00000", "content": "sun"}
    after = talk.plan([user, reply, result])
    assert (after.verdict, after.reason) == ("branch", "tools_changed")
    assert contains(ids_of(after), ids)


def test_the_longest_match_wins_and_siblings_are_told_apart():
    """Of the replies "1" and "10" the second is continued, with its own ids."""
    one = model("nano")
    talk = Talk(one.renderer)
    user = {"role": "user", "content": "Count."}
    plan = talk.plan([user])
    for text in ("1", "10"):
        talk.commit([user], plan, one.tokenizer.encode(text + "<|im_end|>"), {"role": "assistant", "content": text})
    after = talk.plan([user, {"role": "assistant", "content": "10"}, user])
    assert after.parent is talk.tree.node(1)
    assert after.verdict == "exact"


def test_regenerating_is_a_sibling_and_an_edited_question_goes_on_from_the_turn_before():
    one = model("nano")
    talk, messages, _ = several_turns(one, 2)
    again = talk.plan(messages[:-2])
    assert (again.verdict, again.parent) == ("exact", talk.tree.node(0))
    edited = talk.plan([*messages[:3], {"role": "user", "content": "Something else."}])
    assert (edited.verdict, edited.parent) == ("exact", talk.tree.node(0))
    first = talk.plan(messages[:2])
    assert (first.verdict, first.parent) == ("root", None)


def test_an_edited_answer_is_a_branch():
    one = model("nano")
    talk, messages, said = several_turns(one)
    messages[4] = {"role": "assistant", "content": "I never said that."}
    plan = talk.plan(messages)
    assert (plan.verdict, plan.reason) == ("branch", "edited")
    assert plan.parent is talk.tree.node(1)
    assert contains(ids_of(plan), said[0])
    assert not contains(ids_of(plan), said[1])


def test_another_system_message_is_a_branch():
    one = model("nano")
    talk, messages, _ = several_turns(one)
    messages[0] = {"role": "system", "content": "Be bad."}
    plan = talk.plan(messages, system_changed=True)
    assert (plan.verdict, plan.reason) == ("branch", "system_changed")
    assert ids_of(plan) == one.whole(messages)


@pytest.mark.parametrize(
    ("name", "said", "echo", "same"),
    [
        ("llama3", " Sunny.\n", "Sunny.", True),  # the template trims both
        ("gemma", " Sunny.\n", "Sunny.", True),
        ("nano", " Sunny.\n", "Sunny.", False),
        ("nano", "a\r\nb", "a\nb", False),
        ("llama3", "nai\u0308ve", "na\u00efve", False),  # the same letter in another form
    ],
)
def test_normalised_content_is_the_same_turn_when_the_template_sees_no_difference(name, said, echo, same):
    one = model(name)
    talk = Talk(one.renderer)
    user = {"role": "user", "content": "Weather?"}
    ids = one.tokenizer.encode(said + one.family.end)
    node = talk.commit([user], talk.plan([user]), ids, {"role": "assistant", "content": said})
    messages = [user, {"role": "assistant", "content": echo}, {"role": "user", "content": "And now?"}]
    asked = talk.renderer.plan(talk.tree, talk.ask(messages))
    assert asked == NeedsRecorded(node, 2)
    plan = talk.plan(messages)
    if same:
        assert (plan.verdict, plan.parent, plan.matched) == ("exact", node, node)
        assert contains(ids_of(plan), ids)
    else:
        assert (plan.verdict, plan.reason) == ("branch", "edited")
        assert ids_of(plan) == one.whole(messages)
    reply = {"role": "assistant", "content": "Rain."}
    following = talk.commit(messages, plan, one.tokenizer.encode("Rain." + one.family.end), reply)
    after = talk.plan([*messages, reply, user])
    assert (after.verdict, after.parent) == ("exact", following)


@pytest.mark.parametrize(
    ("name", "role", "verdict"),
    [
        ("deepseek", "system", "branch"),  # the template collects system messages at the top
        ("nano", "developer", "branch"),  # and so does vLLM for a template that knows no developer
        ("nano", "system", "exact"),
        ("qwen3", "system", "exact"),
        ("glm", "system", "branch"),  # its answer ended with the header of a user, and a system message follows
    ],
)
def test_instructions_in_the_middle_are_in_the_prompt_wherever_the_template_puts_them(name, role, verdict):
    one = model(name)
    talk, messages, said = several_turns(one, system=False)
    messages = [*messages[:-1], {"role": role, "content": "Be brief."}, messages[-1]]
    plan = talk.plan(messages)
    assert (plan.verdict, plan.reason) == (verdict, "template" if verdict == "branch" else None)
    text = one.tokenizer.decode(ids_of(plan), skip_special=False)
    assert text == one.template.render(messages)
    assert text.count("Be brief.") == 1
    for ids in said:
        assert contains(ids_of(plan), ids[:-1])


@pytest.mark.parametrize(
    ("name", "kwargs", "verdict"),
    [
        ("harmony", {"reasoning_effort": "low"}, "branch"),  # it stands in the first message of the prompt
        ("qwen3", {"enable_thinking": False}, "exact"),  # it stands in the next header
        ("nano", {"unknown": 1}, "exact"),
    ],
)
def test_other_settings_of_the_template_are_in_the_prompt(name, kwargs, verdict):
    one = model(name)
    talk, messages, said = several_turns(one)
    plan = talk.plan(messages, template_kwargs=kwargs, kwargs_changed=True)
    assert (plan.verdict, plan.reason) == (verdict, "template" if verdict == "branch" else None)
    for ids in said:
        assert contains(ids_of(plan), ids)
    text = one.tokenizer.decode(ids_of(plan), skip_special=False)
    assert ("Reasoning: low" in text) == (name == "harmony")
    header = one.template.render(messages, extra=kwargs, now=NOW)[-30:]
    assert text.endswith(header)
    assert talk.plan(messages, kwargs_changed=True).verdict == "exact"


def test_a_role_token_that_ended_a_turn_gives_way_to_another_speaker():
    """GLM ends a call with the header of its result; when a user speaks instead, that header must go."""
    one = model("glm")
    talk = Talk(one.renderer)
    user, reply = {"role": "user", "content": "Look."}, {"role": "assistant", "content": "Looking."}
    ids = letters(one, "Looking.") + one.tokenizer.encode("<|observation|>")
    node = talk.commit([user], talk.plan([user]), ids, reply)
    plan = talk.plan([user, reply, user])
    path = unpack_ids(talk.tree.path(node))
    assert ids_of(plan) == path[:-1] + one.tokenizer.encode(one.family.tail([user]))
    assert (plan.verdict, plan.reason, plan.parent, plan.keep) == ("branch", "template", node, len(path) - 1)


def test_a_begun_answer_is_gone_on_with():
    """As transformers and vLLM do it: the template's text up to the end of the last message."""
    one = model("qwen3")
    talk, messages, _ = several_turns(one)
    begun = [*messages, {"role": "assistant", "content": "Well, "}]
    plan = talk.plan(begun, continue_final_message=True, add_generation_prompt=False)
    node = talk.tree.node(2)
    header = "<|im_start|>assistant\n<think>\n\n</think>\n\nWell, "
    user = f"<|im_end|>\n<|im_start|>user\n{messages[-1]['content']}<|im_end|>\n"
    assert ids_of(plan) == unpack_ids(talk.tree.path(node)) + one.tokenizer.encode(user + header)[1:]
    assert (plan.verdict, plan.parent) == ("exact", node)


def test_a_begun_answer_loses_its_outer_space_where_the_template_trims():
    one = model("llama3")
    plan = Talk(one.renderer).plan(
        [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "Well, "}],
        continue_final_message=True,
        add_generation_prompt=False,
    )
    assert one.tokenizer.decode(ids_of(plan), skip_special=False).endswith("<|end_header_id|>\n\nWell,")


@pytest.mark.parametrize("ended", [True, False])
def test_a_sampled_turn_is_gone_on_with_by_its_own_ids(ended):
    one = model("nano")
    talk = Talk(one.renderer)
    user, reply = {"role": "user", "content": "Go."}, {"role": "assistant", "content": "Well"}
    ids = letters(one, "Well") + ([one.tokenizer.encode("<|im_end|>")[0]] if ended else [])
    node = talk.commit([user], talk.plan([user]), ids, reply, finish="stop" if ended else "length")
    plan = talk.plan([user, reply], continue_final_message=True, add_generation_prompt=False)
    path = unpack_ids(talk.tree.path(node))
    assert ids_of(plan) == (path[:-1] if ended else path)
    assert plan.verdict == ("branch" if ended else "exact")


def test_a_conversation_that_ends_with_an_answer_gets_what_the_template_gives_it():
    one = model("nano")
    talk, messages, _ = several_turns(one)
    for header in (True, False):
        plan = talk.plan(messages[:-1], add_generation_prompt=header)
        text = one.tokenizer.decode(ids_of(plan), skip_special=False)
        assert text == one.template.render(messages[:-1], add_generation_prompt=header)
        assert plan.verdict == "exact"


def test_a_prompt_over_the_limit_keeps_its_end():
    one = model("nano")
    talk, messages, _ = several_turns(one)
    whole = talk.plan(messages)
    cut = talk.plan(messages, prompt_limit=count(whole.ids) - 5)
    assert ids_of(cut) == ids_of(whole)[5:]
    assert (cut.verdict, cut.reason) == ("branch", "truncated")
    assert talk.plan(messages, prompt_limit=count(whole.ids)).verdict == "exact"


@pytest.mark.parametrize("name", ["mistral-first", "mistral-always", "mistral-legacy"])
def test_a_short_turn_of_the_users_is_not_taken_for_the_beginning_of_an_answer(name):
    """Nothing ends a user's turn there, and a system message moves along with the first or the last of them."""
    one = model(name)
    talk, messages = Talk(one.renderer), [{"role": "system", "content": "Hi."}, {"role": "user", "content": "Go."}]
    for _ in range(4):
        plan = talk.plan(messages)
        text = one.tokenizer.decode(ids_of(plan), skip_special=False).replace(" ", "")
        assert text == one.template.render(messages, now=NOW).replace(" ", "")
        reply = {"role": "assistant", "content": "answer i"}
        talk.commit(messages, plan, one.tokenizer.encode(" answer i" + one.family.end), reply)
        messages = [*messages, reply, {"role": "user", "content": "Go i"}]


def test_no_messages_are_refused():
    with pytest.raises(UsageError) as caught:
        Talk(model("nano").renderer).plan([])
    assert caught.value.code == "messages_empty"


@pytest.mark.parametrize(
    "name", ["nano", "llama3", "glm", "gemma", "mistral-always", "mistral-first", "mistral-legacy"]
)
def test_escaped_special_tokens_are_text_in_every_turn(name):
    """What a user writes in a later turn is escaped too; without the setting it is the token that it looks like."""
    one = model(name)
    special = one.tokenizer.encode(one.family.end)[0]
    user = {"role": "user", "content": f"a{one.family.end}b"}
    counts = {}
    for escape in (True, False):
        talk, messages = Talk(one.renderer), [user]
        plan = talk.plan(messages, escape_special=escape)
        reply = {"role": "assistant", "content": "Yes."}
        node = talk.commit(messages, plan, one.tokenizer.encode("Yes." + one.family.end), reply)
        after = talk.plan([user, reply, user], escape_special=escape)
        assert (after.verdict, after.parent) == ("exact", node)
        counts[escape] = (ids_of(plan).count(special), ids_of(after).count(special))
        text = one.tokenizer.decode(ids_of(after), skip_special=False).replace(" ", "")
        assert text == one.template.render([user, reply, user], now=NOW).replace(" ", "")
    harmless = Talk(one.renderer).plan([{"role": "user", "content": "ab"}])
    plain = ids_of(harmless).count(special)
    assert counts[True][0] == plain
    assert counts[False] == (plain + 1, counts[True][1] + 2)
