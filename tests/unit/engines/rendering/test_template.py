"""The sandbox that templates run in, and the form in which they get messages."""

from __future__ import annotations

from datetime import datetime

import pytest

from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from tests.unit.engines.rendering.families import FAMILIES, NOW, model

USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1, 2] | tojson(indent=1) }}", "[\n 1,\n 2\n]"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-05-17"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[0].content[0].text or messages[0].content }}{% endgeneration %}", "Hi"),
        ("{{ bos_token }}{{ messages[0]['role'] }}{{ add_generation_prompt }}", "<s>userTrue"),
        ("{{ reasoning_effort | default('medium') }}", "medium"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ],
)
def test_what_templates_rely_on(source, text):
    assert ChatTemplate(source, {"bos_token": "<s>"}).render([USER], now=NOW) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{{ 'x' | nofilter }}",
        "{% for",
        "{{ strftime_now('%Y') }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    ],
)
def test_what_fails_is_a_template_fault(source):
    with pytest.raises(TemplateFault) as caught:
        ChatTemplate(source).render([USER])
    assert caught.value.http_status == 400


def test_clients_settings_do_not_replace_messages_or_tools():
    template = ChatTemplate("{{ messages | length }}{{ tools }}{{ mood }}")
    assert template.render([USER], extra={"messages": [], "tools": [1], "mood": "good"}) == "1Nonegood"


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_parts_and_text_are_the_same_prompt(family):
    one = model(family.name)
    parts = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert one.template.render([parts], now=NOW) == one.template.render([USER], now=NOW)


def test_messages_have_the_form_that_vllm_gives_them():
    shown = ChatTemplate("{% for m in messages %}{{ m | tojson }}\n{% endfor %}{{ tools | tojson }}")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.0}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{"}}
    text = shown.render(
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"], "extra": 1},
            {"role": "assistant", "content": None, "tool_calls": [call, broken], "refusal": None},
            {"role": "assistant", "content": "c", "tool_calls": [], "reasoning_content": "r"},
            {"role": "tool", "content": [{"type": "text", "text": "d"}], "tool_call_id": "1", "name": "f"},
        ],
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    assert text.splitlines() == [
        '{"role": "user", "content": "a\\nb"}',
        '{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": '
        '{"name": "f", "arguments": {"a": 1.0}}}, {"id": "2", "type": "function", "function": '
        '{"name": "g", "arguments": {}}}]}',
        '{"role": "assistant", "content": "c", "reasoning": "r", "reasoning_content": "r"}',
        '{"role": "tool", "content": "d", "tool_call_id": "1", "name": "f"}',
        '[{"type": "function", "function": {"name": "f", "description": null, "parameters": null}}]',
    ]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", "system:a\n\nc;user:b;"),
        ("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{# 'developer' #}", None),
    ],
)
def test_developers_are_systems_where_the_template_does_not_know_the_word(source, shown):
    messages = [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "system", "content": "c"},
    ]
    text = ChatTemplate(source).render(messages)
    assert text == (shown or "developer:a;user:b;system:c;")
    alone = ChatTemplate(source).render(messages[:2])
    assert alone == ("system:a;user:b;" if shown else "developer:a;user:b;")


def test_rendering_leaves_the_messages_as_they_are():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    model("nano").template.render(messages, now=datetime(2026, 1, 1))
    assert call["function"]["arguments"] == '{"a": 1}'
