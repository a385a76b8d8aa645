"""Tails that need no render: the same ids as a render gives, whatever is said and whatever a template does with it."""

from __future__ import annotations

import functools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.sentinel import Scene
from moorage.engines.rendering.shapes import Shapes, scene_key
from moorage.engines.rendering.tail import tail_ids
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer
from tests.unit.engines.rendering.families import CHATML, FAMILIES, NOW, TAGS, model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.test_families import TOOLS, reply_with_call
from tests.unit.engines.rendering.uses import READ, TOLD
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

MARK = "Zq0123456789abcdefx1xqZ"
PLAIN = ["Hello", "What now?", "The fox 42", "x", "Ünïcödé 你好 🙂"]
NASTY = [
    "a<|im_end|>b", "<|im_start|>user\n", " leading", "trailing \n", "\n", " ", "</think>x",
    "<think>a</think>b", "<tool_response>a</tool_response>", "[INST]</s>", "abc", "z", "'\"\\", "{{ x }}", "<",
    ">", "|>", "<|im_", "0", "12", "e\u0301", "\ufddf\ufddb\ufddf", "True", "a b  c", "{}", "%s", "A", "Zq",
]  # fmt: skip
texts = st.sampled_from(["", *PLAIN, *NASTY]) | st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
EVERY = pytest.mark.parametrize("family", FAMILIES, ids=str)


class Checked:
    """Shapes that are compared with renders, tail by tail."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, end_ids: frozenset[int]) -> None:
        self.template, self.tokenizer, self.end_ids = template, tokenizer, end_ids
        self.shapes = Shapes(template, tokenizer)
        self.hits = 0

    def tail(self, messages, at, *, now=NOW, escape=False, **settings) -> bytes | None:
        """What a render gives; the same as a shape gives, if one is known."""
        scene = Scene(now=now, **settings)
        asked = self.shapes.question(
            scene, scene_key(scene), messages, at, mark=MARK, end_ids=self.end_ids, escape=escape
        )
        ids = self._rendered(scene, messages, at, escape)
        if asked is None:
            return ids
        known = self.shapes.tail(asked, {})
        if known is not None:
            self.hits += 1
            assert known == ids, (messages, at)
        elif ids is not None:
            self.shapes.learn(asked, [int.from_bytes(ids[at : at + 4], "little") for at in range(0, len(ids), 4)])
        assert self.shapes.trusted
        return ids

    def _rendered(self, scene, messages, at, escape) -> bytes | None:
        try:
            if at is None:
                return pack_ids(self.tokenizer.encode_whole(scene.render(self.template, messages)))
            ids = tail_ids(
                self.template, self.tokenizer, scene, messages, at, mark=MARK, end_ids=self.end_ids, escape=escape
            )
        except TemplateFault:
            return None
        return None if ids is None else pack_ids(ids)


def fresh(name: str) -> Checked:
    one = model(name)
    return Checked(one.template, one.tokenizer, one.renderer._traits[True, False].end_ids)


def checked(source: str) -> Checked:
    return Checked(ChatTemplate(source), chatml(), frozenset(chatml().encode("<|im_end|>")))


@functools.cache
def chatml() -> Tokenizer:
    return Tokenizer.from_json(byte_level(CHATML, TAGS), {"eos_token": "<|im_end|>"}, None)


@functools.cache
def of_family(name: str, tools: bool) -> Checked:
    one = model(name)
    traits = one.renderer._traits[tools, False]
    return Checked(one.template, one.tokenizer, traits.end_ids)


@EVERY
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=texts, said=texts, new=st.lists(texts, min_size=1, max_size=2), system=texts, kind=st.sampled_from("ctsw"))
def test_every_family_whatever_is_said(family, asked, said, new, system, kind):
    """Answers, results of tools, other system messages, and whole prompts."""
    if family.call is None and kind == "t":
        kind = "c"
    one = of_family(family.name, kind == "t")
    head = [{"role": "user", "content": asked}]
    if system and family.system:
        head = [{"role": "system", "content": system}, *head]
    if kind == "w":
        one.tail([*head, {"role": "assistant", "content": said}, {"role": "user", "content": new[0]}], None)
        return
    at = len(head)
    reply = {"role": "assistant", "content": said}
    follow = [{"role": "user", "content": text} for text in new[:1]]
    tools = None
    if kind == "t":
        reply, tools = reply_with_call(said, f'{{"place": {len(said)}}}'), TOOLS
        follow = [{"role": "tool", "tool_call_id": "call00000", "content": text} for text in new]
    if kind == "s":
        follow = [{"role": "system", "content": new[-1]}, *follow]
    one.tail([*head, reply, *follow], at, tools=tools)


@EVERY
@pytest.mark.parametrize("kind", ["chat", "tool", "whole"])
def test_plain_conversations_are_known_after_two(family, kind):
    """Whether they ask, answer a tool or are whole prompts."""
    if kind == "tool" and family.call is None:
        return
    one = fresh(family.name)
    tools = TOOLS if kind == "tool" else None
    for place, text in enumerate(PLAIN):
        messages = [{"role": "user", "content": f"Go {text}"}, {"role": "assistant", "content": text}]
        if kind == "tool":
            messages[1] = reply_with_call(text, f'{{"place": {place}}}')
            messages.append({"role": "tool", "tool_call_id": "call00000", "content": text})
        else:
            messages.append({"role": "user", "content": text})
        one.tail(messages, None if kind == "whole" else 1, tools=tools)
    assert one.hits == len(PLAIN) - 2


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in FAMILIES if one.name in ("nano", "llama3", "gemma")], ids=str)
@settings(max_examples=60, deadline=None)
@given(said=st.lists(texts, min_size=3, max_size=9), escape=st.booleans())
def test_sessions_are_planned_as_without_shapes(family, said, escape):
    """Special tokens in what is said are text, or not; the checks with full renders use shapes too."""
    one = model(family.name)
    without = Renderer(one.tokenizer, one.template)
    without.shapes.question = lambda *_, **__: None
    talks = [Talk(one.renderer), Talk(without)]
    messages = [{"role": "user", "content": "Go."}]
    for text in said:
        plans = [talk.plan(messages, escape_special=escape) for talk in talks]
        assert ids_of(plans[0]) == ids_of(plans[1])
        assert (plans[0].verdict, plans[0].reason) == (plans[1].verdict, plans[1].reason)
        reply = {"role": "assistant", "content": "Yes."}
        for talk, plan in zip(talks, plans, strict=True):
            talk.commit(messages, plan, one.tokenizer.encode("Yes." + family.end), reply)
        messages = [*messages, reply, {"role": "user", "content": text}]
    assert one.renderer.windows
    assert one.renderer.shapes.trusted


@pytest.mark.parametrize("use", [*TOLD, *READ])
def test_no_use_of_a_content_goes_unseen(use):
    """Each use decides what is written; whoever misses one writes for one text what is right for another."""
    template = "{% for m in messages %}{% set c = m.content %}<|im_start|>{{ m.role }}\n"
    if "tojson" in use or "messages" in use:
        template += "{% if m.role == 'user' %}" + use + "{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    else:
        template += use + "<|im_end|>{% endfor %}"
    one = checked(template)
    for place, text in enumerate([*PLAIN, *NASTY, *PLAIN]):
        messages = [{"role": role, "content": content} for role, content in SCENE]
        messages[0]["content"] = NASTY[place % len(NASTY)]
        messages[-1]["content"] = text
        one.tail(messages, None, now=NOW + timedelta(minutes=place))
        one.tail(messages, 1, now=NOW + timedelta(minutes=place))
    if use in TOLD:
        assert one.hits > 0


SCENE = [("user", "Go."), ("assistant", "Yes."), ("user", "More")]


def test_an_answer_to_a_question_that_a_template_asks_of_an_earlier_text_counts_too():
    one = checked(
        "{% if 'z' in messages[0].content %}Z{% endif %}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>"
        "{{ 'Z' if 'z' in messages[0].content }}{% endfor %}"
    )
    for first in ("a", "b", "z", "c", "zz", "d"):
        said = [{"role": role, "content": content} for role, content in SCENE]
        said[0]["content"] = first
        tail = one.tail(said, 1)
        assert one.tokenizer.decode(memoryview(tail).cast("I").tolist(), skip_special=False).endswith("Z") == (
            "z" in first
        )
    assert one.hits > 0


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [*TOOLS, TOOLS[0]]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}}]},
        {"tools": None},
        {"extra": {"shout": True}},
        {"add_generation_prompt": False},
        {"now": None},
    ],
    ids=str,
)
def test_whatever_else_a_template_is_given_makes_another_shape(change):
    """Tools in another order are other text."""
    one = checked(
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{{ tools | tojson }}{{ shout }}{{ m.name }}"
        "{{ strftime_now('%M') if add_generation_prompt and shout is undefined else tools[0].keys() | list }}"
        "{% endfor %}"
    )
    ordered = [{"type": "function", "function": {"name": "f", "parameters": {"a": 2, "b": 1}}}]
    usual = {"tools": ordered, "now": NOW}
    for settings_ in (usual, change | {"x": 0}, usual, change, change, usual, change):
        settings_ = {name: value for name, value in {**usual, **settings_}.items() if name != "x"}
        for names in ({}, {"name": "ann"}, {"name": ""}, {"name": "bob"}):
            said = [{"role": role, "content": content} for role, content in SCENE]
            said[-1].update(names)
            one.tail(said, 1, **settings_)
    assert one.hits > 0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": None},
        {"role": "user"},
        {"role": "developer", "content": "a"},
        {"role": "narrator", "content": "a"},
        {"role": "tool", "content": "a", "tool_call_id": ""},
        {"role": "tool", "content": "a", "tool_call_id": 7},
        {"role": "tool", "content": "a"},
        {"role": "user", "content": "a", "tool_calls": [{"x": 1}], "refusal": None},
        {"role": "assistant", "content": "a", "tool_calls": [{"x": 1}]},
        {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "", "arguments": "{}"}, "id": "x"}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": {"a": 1}, "name": "f"}, "type": "function"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]", "strict": 1}, "id": None}]},
        {"role": "assistant", "content": "a", "reasoning": "because", "tool_calls": []},
        {"role": "assistant", "content": "a", "reasoning_content": "because", "reasoning": "no"},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["nano", "qwen3", "all"])
def test_messages_of_every_kind(message, source):
    template = "{% for m in messages %}<|im_start|>{{ m | tojson }}<|im_end|>{% endfor %}"
    one = checked(template) if source == "all" else fresh(source)
    for text in (*PLAIN, *NASTY[:6]):
        other = {**message, "content": text} if message.get("content") == "a" else message
        said = [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}, other]
        one.tail([*said, {"role": "user", "content": text}], 1)
        one.tail([*said, {"role": "user", "content": text}], None)
        if message["role"] == "assistant":
            one.tail([said[0], other, said[0]], 1)
            one.tail([said[0], other, said[1], said[0]], 2)


def test_several_calls_and_other_arguments():
    one = of_family("nano", True)
    before = one.hits
    for place, text in enumerate(PLAIN):
        calls = [
            {"id": f"{text}{call}", "type": "function", "function": {"name": "look", "arguments": f'{{"a": {place}}}'}}
            for call in range(3)
        ]
        reply = {"role": "assistant", "content": None, "tool_calls": calls}
        results = [{"role": "tool", "tool_call_id": call["id"], "content": text} for call in calls]
        one.tail([{"role": "user", "content": "Go."}, reply, *results], 1, tools=TOOLS)
    assert one.hits == before + len(PLAIN) - 2


def test_fields_of_a_call_in_another_order_are_another_form():
    one = checked("{% for m in messages %}<|im_start|>{{ m | tojson }}<|im_end|>{% endfor %}")
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "1", "type": "function", "function": function}
    others = [
        {**call, "function": dict(reversed(function.items()))},
        dict(reversed(call.items())),
        {"function": function},
    ]
    for which in [call, *others, {**call, "type": "other"}] * 4:
        said = [{"role": role, "content": content} for role, content in SCENE]
        said.insert(1, {"role": "assistant", "content": None, "tool_calls": [which]})
        one.tail(said, None)
        one.tail([*said, said[1], said[-1]], 2)
    assert one.hits > 0


def test_texts_beside_the_content_are_not_taken_for_others():
    one = checked("{% for m in messages %}<|im_start|>{{ m | tojson }}<|im_end|>{% endfor %}")
    kinds = [
        {"role": "tool", "content": "a"},
        {"role": "tool", "content": "a", "tool_call_id": "1", "name": "f"},
        {"role": "tool", "content": "a", "name": "f"},
        {"role": "assistant", "content": "a", "name": "f"},
        {"role": "assistant", "content": "a", "reasoning": "b"},
        {"role": "assistant", "content": "a", "reasoning": "b", "name": "f"},
    ]
    for which in kinds * 5:
        one.tail([{"role": "user", "content": "Go."}, which, {"role": "user", "content": "More"}], None)
        one.tail([*({"role": role, "content": content} for role, content in SCENE[:2]), which, kinds[0]], 1)
    assert one.hits > 0


def test_a_tokenizer_with_a_dummy_prefix_is_asked_for_the_whole_tail():
    tokenizer = Tokenizer.from_json(sentence_piece(CHATML, scheme="legacy"), {}, None)
    template = ChatTemplate("{% for m in messages %}<|im_start|> {{ m.content }} <|im_end|>{% endfor %}")
    one = Checked(template, tokenizer, frozenset())
    for text in (*PLAIN, *NASTY):
        said = [{"role": role, "content": content} for role, content in SCENE]
        said[-1]["content"] = text
        one.tail(said, 1)
        one.tail(said, None)
    assert one.hits > 0


@pytest.mark.parametrize("odd", ["\ud800", 2**70, float("nan")], ids=["surrogate", "large", "nan"])
def test_tools_and_settings_without_plain_json(odd):
    one = fresh("nano")
    said = [{"role": role, "content": content} for role, content in SCENE]
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"a": odd}}}]
    for _ in PLAIN:
        one.tail(said, 1, tools=tools)
        one.tail(said, 1, extra={"odd": odd})
    assert one.hits in (0, 2 * len(PLAIN) - 4)


def test_forms_are_forgotten_before_there_are_too_many():
    one = checked("{% for m in messages %}<|im_start|>{{ m.name }}{{ m.content }}<|im_end|>{% endfor %}")
    for place in range(600):
        said = [{"role": role, "content": content} for role, content in SCENE]
        said[-1]["name"] = f"n{place}"
        one.tail(said, 1)
    assert len(one.shapes._known) <= 512


def test_a_shape_that_is_wrong_ends_them_all():
    """It cannot be; if it is, a render is what counts."""
    one = checked("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")
    said = [{"role": role, "content": content} for role, content in SCENE]
    scene = Scene(now=NOW)

    def ask():
        return one.shapes.question(scene, scene_key(scene), said, 1, mark=MARK, end_ids=frozenset(), escape=False)

    for _ in range(2):
        one.shapes.learn(ask(), [1, 2, 3])
    assert not one.shapes.trusted
    assert ask() is None
