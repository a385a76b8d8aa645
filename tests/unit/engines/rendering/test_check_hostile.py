"""Templates and tokenizers that no family has: each shows a finding, and a session does what is said of it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.rendering.checking.check import check_template
from moorage.engines.rendering.checking.finding import Finding, Report
from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer
from tests.unit.engines.rendering.families import CHATML, LLAMA, NOW, TAGS
from tests.unit.engines.rendering.talk import Talk
from tests.unit.engines.rendering.uses import READ, TOLD
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

pytestmark = pytest.mark.slow

TEMPLATES = Path(__file__).parent / "templates"
GO, MORE = {"role": "user", "content": "Where does the fox go?"}, {"role": "user", "content": "And the dog?"}
HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML_CONFIG = {"eos_token": "<|im_end|>"}
PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}" + HEADER


@functools.cache
def chatml() -> bytes:
    return byte_level(CHATML, TAGS)


def tokenizer_of(source: str, spec: bytes | None = None, **config: Any) -> Tokenizer:
    return Tokenizer.from_json(spec or chatml(), config or CHATML_CONFIG, source)


def checked(source: str, spec: bytes | None = None, **config: Any) -> tuple[Report, dict[str, Finding], Renderer]:
    tokenizer = tokenizer_of(source, spec, **config)
    report = check_template(tokenizer, source, now=NOW)
    found = {finding.code: finding for finding in report.findings}
    return report, found, Renderer(tokenizer, ChatTemplate(source, tokenizer.named))


def chat(one: Renderer, turns: int, *, end: str = "<|im_end|>", said: str = "Answer", **settings: Any) -> list[Any]:
    """(verdict, reason) of each request of a session with that many answers."""
    talk, messages, seen = Talk(one), [GO], []
    for turn in range(turns):
        plan = talk.plan(messages, **settings)
        seen.append((plan.verdict, plan.reason))
        reply = {"role": "assistant", "content": f"{said} {turn}"}
        talk.commit(messages, plan, one.tokenizer.encode(f"{said} {turn}{end}"), reply)
        messages = [*messages, reply, {"role": "user", "content": f"More {turn}."}]
    plan = talk.plan(messages, **settings)
    return [*seen, (plan.verdict, plan.reason)]


def outcomes(finding: Finding) -> list[tuple[str, str | None]]:
    return [(one.verdict, one.reason) for one in finding.outcomes]


def test_a_template_that_rewrites_everything_is_for_the_engine() -> None:
    report, found, one = checked((TEMPLATES / "hostile.jinja").read_text())
    assert report.verdict == "engine"
    assert {"history_rewritten", "content_trimmed", "content_changed", "date_in_prompt"} <= set(found)
    assert outcomes(found["history_rewritten"]) == [("branch", "template")]
    assert chat(one, 4)[1:] == [("branch", "template")] * 4
    assert found["history_rewritten"].effect == "every_turn"
    assert "system_moved" not in found  # told once is enough


def test_an_unproven_tail_is_for_the_engine() -> None:
    spec = sentence_piece(["<s>", "</s>"], scheme="first")
    report, found, one = checked((TEMPLATES / "unspaced.jinja").read_text(), spec, bos_token="<s>", eos_token="</s>")
    assert report.verdict == "engine"
    assert outcomes(found["tail_unproven"]) == [("branch", "unproven_tail")]
    assert {"turn_end_missing", "tail_unproven"} <= set(found)
    assert chat(one, 3, end="</s>")[1:] == [("branch", "unproven_tail")] * 3


def test_far_history() -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'user' and not loop.first %}{{ messages[2].content }}: {% endif %}{{ m.content }}<|im_end|>"
        "{% endfor %}" + HEADER
    )
    report, found, one = checked(source)
    assert report.verdict == "exact"
    assert found["far_history"].effect == "render"
    assert outcomes(found["far_history"]) == [("exact", None)]
    assert found["far_history"].example is not None
    assert found["far_history"].example.character is not None
    assert chat(one, 6)[1:] == [("exact", None)] * 6


def test_a_template_that_counts() -> None:
    report, found, one = checked("{{ messages | length }}" + PLAIN)
    assert report.verdict == "engine"
    assert outcomes(found["history_rewritten"]) == [("branch", "template")]
    assert chat(one, 3)[1:] == [("branch", "template")] * 3


def test_a_header_that_is_written_otherwise_later() -> None:
    source = PLAIN.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant says\n{%")
    report, found, one = checked(source)
    finding = found["generation_prompt_differs"]
    assert report.verdict == "exact"
    assert (finding.effect, outcomes(finding)) == ("none", [("exact", None)])
    assert chat(one, 3)[1:] == [("exact", None)] * 3


def test_a_time_in_the_header() -> None:
    source = PLAIN.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant at {{ strftime_now('%H:%M') }}\n{%")
    _, found, _ = checked(source)
    assert "writes the minute" in found["date_in_prompt"].title
    _, found, one = checked("{{ strftime_now('%Y-%m-%d') }}<|im_end|>" + PLAIN)
    assert "writes the date" in found["date_in_prompt"].title
    assert outcomes(found["date_in_prompt"]) == [("exact", None)]
    assert chat(one, 2)[1:] == [("exact", None)] * 2


@pytest.mark.parametrize(("writes", "code"), [(True, "double_bos"), (False, "bos_missing")])
def test_a_bos_that_the_tokenizer_adds(writes: bool, code: str) -> None:
    spec = json.loads(byte_level(LLAMA))
    single = [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    bos = next(one["id"] for one in spec["added_tokens"] if one["content"] == "<|begin_of_text|>")
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": single,
        "special_tokens": {
            "<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [bos], "tokens": ["<|begin_of_text|>"]}
        },
    }
    source = ("{{ bos_token }}" if writes else "") + (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
    )
    config = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    report, found, one = checked(source, json.dumps(spec).encode(), **config)
    assert report.verdict == "exact"
    assert {"double_bos", "bos_missing"} & set(found) == {code}
    assert Talk(one).plan([GO]).ids.count(bos.to_bytes(4, "little")) == writes
    example = found[code].example
    assert example is not None
    assert example.right.ids.count(bos) == 1 + writes


def test_ends_of_turns() -> None:
    """The template's end is no token that stops; no token stops at all; there is no end."""
    _, found, one = checked(PLAIN, eos_token="<|endoftext|>")
    assert outcomes(found["turn_end_not_stop"]) == [("exact", None)]
    assert chat(one, 2, end="<|endoftext|>")[1:] == [("exact", None)] * 2
    _, found, _ = checked(PLAIN, pad_token="<|endoftext|>")
    assert "no_stop_token" in found
    assert "turn_end_not_stop" not in found


def test_a_model_with_a_template_for_tools() -> None:
    tokenizer = tokenizer_of(PLAIN)
    others = {"default": PLAIN, "tool_use": "{{ tools | tojson }}<|im_end|>" + PLAIN}
    report = check_template(tokenizer, PLAIN, others=others, now=NOW)
    [finding] = [one for one in report.findings if one.code == "template_by_name"]
    assert (report.verdict, finding.effect) == ("exact with branches", "passthrough")
    same = check_template(tokenizer, PLAIN, others={"default": PLAIN, "tool_use": PLAIN}, now=NOW)
    assert "template_by_name" not in {one.code for one in same.findings}


def test_a_tokenizer_that_normalises() -> None:
    spec = json.loads(chatml())
    spec["normalizer"] = {"type": "NFC"}
    report, found, one = checked(PLAIN, json.dumps(spec).encode(), **CHATML_CONFIG)
    assert report.verdict == "exact"
    assert outcomes(found["tokenizer_normalises"]) == [("exact", None)]
    assert chat(one, 2, said="cafe\u0301")[1:] == [("exact", None)] * 2


REFUSALS = [
    ("{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}", "tool_results_refused"),
    ("{% if m.tool_calls %}{{ raise_exception('no calls') }}{% endif %}", "tool_calls_refused"),
    ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}", "tools_refused"),
    ("{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}", "system_refused"),
    ("{% if m.role == 'system' and loop.last %}{{ raise_exception('no user') }}{% endif %}", "system_alone_refused"),
    ("{% if not m.content %}{{ raise_exception('says nothing') }}{% endif %}", "empty_content_refused"),
    (
        "{% if m.role == 'assistant' and loop.last %}{{ raise_exception('a user is last') }}{% endif %}",
        "prefill_refused",
    ),
]


@pytest.mark.parametrize(("refusal", "code"), REFUSALS, ids=[code for _, code in REFUSALS])
def test_refusals_are_told_in_the_templates_own_words(refusal: str, code: str) -> None:
    _, found, _ = checked(PLAIN.replace("{% for m in messages %}", "{% for m in messages %}" + refusal))
    finding = found[code]
    assert finding.effect == "refused"
    assert outcomes(finding) == [("refused", None)]
    assert refusal.partition("exception('")[2].partition("'")[0] in finding.title


def test_results_that_are_not_written() -> None:
    source = PLAIN.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    _, found, _ = checked(source)
    assert outcomes(found["tool_results_unwritten"]) == [("exact", None)]


def test_settings_and_tools_of_ones_own() -> None:
    source = "{% if mood %}{{ raise_exception('no moods') }}{% endif %}{{ tools | tojson if tools }}<|im_end|>" + PLAIN
    tokenizer = tokenizer_of(source)
    with pytest.raises(TemplateFault, match="no moods"):
        check_template(tokenizer, source, kwargs={"mood": 1}, now=NOW)
    tools = [{"type": "function", "function": {"name": "dig_a_hole", "parameters": {}}}]
    report = check_template(tokenizer, source, kwargs={"other": 1}, tools=tools, now=NOW)
    assert "tools_unwritten" not in {one.code for one in report.findings}
    found = next(one for one in report.findings if one.code == "tool_calls_unwritten")
    assert found.effect == "none"


@pytest.mark.parametrize(
    "source",
    ["{% for", "{{ raise_exception('never') }}", "{{ 1 / 0 }}", "{{ nothing.at.all }}", "{{ messages[7].x }}", ""],
)
def test_what_cannot_be_used_says_why(source: str) -> None:
    with pytest.raises(TemplateFault):
        check_template(tokenizer_of(source), source, now=NOW)


@pytest.mark.parametrize("source", ["always the same", "{{ messages[-1].content }}", "{{ messages }}", "<|im_end|>"])
def test_strange_templates_are_reported_as_they_are(source: str) -> None:
    """They can be used, and nothing can be told of them but what a session does."""
    report, _, one = checked(source)
    assert [turn.verdict for turn in report.sessions[0].turns] == [verdict for verdict, _ in chat(one, 4)]
    assert "messages_unwritten" in {one.code for one in report.findings} or source == "{{ messages }}"


@pytest.mark.parametrize("use", [*TOLD, *READ][::3], ids=str)
def test_whatever_a_template_does_with_texts_the_verdict_is_what_a_session_shows(use: str) -> None:
    source = (
        "{% for m in messages %}{% set c = m.content or 'x' %}<|im_start|>{{ m.role }}\n" + use + "<|im_end|>"
        "{% endfor %}" + HEADER
    )
    try:
        report, _, one = checked(source)
    except TemplateFault:
        return
    if "refused" in [turn.verdict for turn in report.sessions[0].turns]:
        return
    verdicts = {verdict for verdict, _ in chat(one, 4)[1:]}
    if report.verdict == "exact":
        assert verdicts == {"exact"}
    if report.verdict == "engine":
        assert verdicts == {"branch"}
