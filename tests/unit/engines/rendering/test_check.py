"""What is found of every family, and that a session does what is said of it.

The sessions here are `Talk`s, with texts of their own: nothing of the check's rehearsals is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from moorage.engines.rendering.ask import PromptPlan
from moorage.engines.rendering.checking.check import check_template
from moorage.engines.rendering.checking.finding import Finding, Report
from moorage.engines.rendering.template import TemplateFault
from tests.unit.engines.rendering.families import FAMILIES, NOW, Model, model
from tests.unit.engines.rendering.findings import FOUND
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.test_families import TOOLS, contains, reply_with_call

pytestmark = pytest.mark.slow

EVERY = pytest.mark.parametrize("family", FAMILIES, ids=str)
GO, MORE = {"role": "user", "content": "Where does the fox go?"}, {"role": "user", "content": "And the dog?"}
SYSTEM = {"role": "system", "content": "Be kind."}


@functools.cache
def report_of(name: str) -> Report:
    one = model(name)
    return check_template(one.tokenizer, one.template.source, now=NOW)


@EVERY
def test_what_is_found(family: Any) -> None:
    report = report_of(family.name)
    assert (report.verdict, {finding.code for finding in report.findings}) == FOUND[family.name]
    assert len({finding.code for finding in report.findings} - {"generation_prompt_differs"}) >= 2


@EVERY
def test_every_finding_says_what_it_is_and_shows_it(family: Any) -> None:
    one = model(family.name)
    for finding in report_of(family.name).findings:
        assert finding.title.endswith(".") or "refuses" in finding.title, finding.title
        assert finding.does.endswith(".")
        assert finding.advice.endswith(".")
        if finding.example is None:
            assert finding.effect == "refused" or finding.code in EXAMPLE_FREE, finding.code
            continue
        left, right = finding.example.left, finding.example.right
        assert left.ids == one.tokenizer.encode_whole(left.text)
        assert right.ids == one.tokenizer.encode_whole(right.text)
        at = finding.example.character
        if at is not None:
            assert left.text[:at] == right.text[:at]
            assert left.text[at : at + 1] != right.text[at : at + 1]


EXAMPLE_FREE = {"parts_joined", "turn_end_not_stop", "parallel_calls_refused", "call_ids_refused", "no_stop_token"}


# Each code, shown by a session ------------------------------------------------------------------------------------


def answered(one: Model, said: str, *, end: str | None = None) -> list[int]:
    """As the model would sample it, one letter at a time: no tokenizer gives these ids."""
    letters = [token for letter in said for token in one.tokenizer.encode(letter)]
    return one.tokenizer.encode(one.family.opening) + letters + one.tokenizer.encode(end or one.family.end)


def second(one: Model, first: list[dict[str, Any]], said: str, *after: dict[str, Any], **settings: Any) -> PromptPlan:
    """The plan of the second request; what was sampled is in it whenever the plan is exact."""
    talk, reply = Talk(one.renderer), {"role": "assistant", "content": said}
    tools = settings.get("tools")
    ids = answered(one, said)
    talk.commit(first, talk.plan(first, tools=tools), ids, reply, tools=tools)
    plan = talk.plan([*first, reply, *after], **settings)
    assert plan.verdict != "exact" or contains(ids_of(plan), ids)
    return plan


def judged(plan: PromptPlan) -> tuple[str, str | None]:
    return plan.verdict, plan.reason


def refused(one: Model, messages: list[dict[str, Any]], **settings: Any) -> tuple[str, str | None]:
    with pytest.raises(TemplateFault):
        Talk(one.renderer).plan(messages, **settings)
    return "refused", None


def thought(one: Model, *, preserve: bool, beside: bool) -> PromptPlan:
    talk = Talk(one.renderer)
    begun = "" if "opens" in one.family.flags else "<think>\n"
    ids = answered(one, f"{begun}It runs.\n</think>\n\nHome.")
    content = f"{begun}It runs.\n</think>\n\nHome."
    reply: dict[str, Any] = {"role": "assistant", "content": content}
    if beside:
        reply = {"role": "assistant", "content": "Home.", "reasoning": "It runs."}
    talk.commit([GO], talk.plan([GO]), ids, reply)
    plan = talk.plan([GO, reply, MORE], preserve_think_blocks=preserve)
    assert not preserve or contains(ids_of(plan), ids[:-1])
    assert preserve or "It runs." not in one.tokenizer.decode(ids_of(plan), skip_special=False)
    return plan


def shown_thoughts(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    beside = finding.code == "reasoning_unread"
    return [judged(thought(one, preserve=keeps, beside=beside)) for keeps in (True, False)]


def shown_calls(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    """A call that was written in the model's own spelling, sent back in two others."""
    assert one.family.call is not None
    seen = []
    for echoed in ('{"place":"Rome","when":[1,2]}', '{"when": [1, 2], "place": "Rome"}'):
        talk = Talk(one.renderer)
        end = one.tokenizer.encode(one.family.end_of_call or one.family.end)
        ids = one.tokenizer.encode(one.family.call("look", '{"place":"Rome","when":[1,2]}')) + end
        reply = reply_with_call("", '{"place":"Rome","when":[1,2]}')
        talk.commit([GO], talk.plan([GO], tools=TOOLS), ids, reply, tools=TOOLS, finish="tool_calls")
        result = {"role": "tool", "tool_call_id": "call00000", "content": "sun"}
        plan = talk.plan([GO, reply_with_call("", echoed), result], tools=TOOLS)
        assert contains(ids_of(plan), ids[:-1])
        rendered = one.whole([GO, reply, result], tools=TOOLS)
        assert contains(rendered, ids[:-1]) == (one.family.name == "glm")  # its test writes them as the template does
        seen.append(judged(plan))
    return seen


def shown_odd_call(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    """What the template refuses to render, a session goes on from; without it, the template's refusal is told."""
    reply, results = odd_call(finding.code)
    talk = Talk(one.renderer)
    talk.commit([GO], talk.plan([GO], tools=TOOLS), answered(one, "calls"), reply, tools=TOOLS, finish="tool_calls")
    messages = [GO, reply, *results]
    refused(one, messages, tools=TOOLS)
    return [judged(talk.plan(messages, tools=TOOLS))]


def odd_call(code: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    reply = reply_with_call("Let me see.", '{"place": "Rome"}') if code == "call_content_dropped" else None
    if reply is not None:
        return reply, [{"role": "tool", "tool_call_id": "call00000", "content": "sun"}]
    function = {"name": "look", "arguments": "{}"}
    names = ["call00001", "call00002"] if code == "parallel_calls_refused" else ["chatcmpl-tool-17"]
    calls = [{"id": one, "type": "function", "function": function} for one in names]
    results = [{"role": "tool", "tool_call_id": one, "content": "sun"} for one in names]
    return {"role": "assistant", "content": None, "tool_calls": calls}, results


def shown_dropped_content(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    reply, results = odd_call(finding.code)
    talk, ids = Talk(one.renderer), answered(one, "Let me see. look")
    talk.commit([GO], talk.plan([GO], tools=TOOLS), ids, reply, tools=TOOLS, finish="tool_calls")
    plan = talk.plan([GO, reply, *results], tools=TOOLS)
    assert contains(ids_of(plan), ids[:-1])
    assert "Let me see." not in one.template.render([GO, reply, *results], tools=TOOLS, now=NOW)
    return [judged(plan)]


def shown_trimmed(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    said = " \n Home.\n "
    whole = second(one, [GO], said, MORE)
    talk, reply = Talk(one.renderer), {"role": "assistant", "content": said}
    talk.commit([GO], talk.plan([GO]), answered(one, said), reply)
    trimmed = talk.plan([GO, {"role": "assistant", "content": "Home."}, MORE])
    return [judged(whole), judged(trimmed)]


def shown_date(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    talk, reply = Talk(one.renderer), {"role": "assistant", "content": "Home."}
    plan = talk.plan([GO])
    talk.commit([GO], plan, answered(one, "Home."), reply)
    later = NOW + timedelta(days=3)
    after = talk.plan([GO, reply, MORE], now=later)
    assert ids_of(after)[: len(ids_of(plan))] == ids_of(plan)
    assert one.template.render([GO], now=later) != one.template.render([GO], now=NOW)
    return [judged(after)]


def shown_speaker(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    talk, reply = Talk(one.renderer), {"role": "assistant", "content": "Home."}
    talk.commit([GO], talk.plan([GO]), answered(one, "Home.", end=one.family.end_of_call), reply)
    return [judged(talk.plan([GO, reply, MORE]))]


def shown_prefill(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    begun = [GO, {"role": "assistant", "content": "To the "}]
    plan = Talk(one.renderer).plan(begun, continue_final_message=True, add_generation_prompt=False)
    text, header = one.tokenizer.decode(ids_of(plan), skip_special=False), one.template.render([GO], now=NOW)
    if finding.code == "prefill_trimmed":
        assert text.endswith("To the")
    else:
        assert not text.startswith(header)
    return [judged(plan)]


def shown_special(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    seen = []
    for escape in (False, True):
        asked = {"role": "user", "content": f"a {one.family.end} b"}
        talk, reply = Talk(one.renderer), {"role": "assistant", "content": "Home."}
        plan = talk.plan([asked], escape_special=escape)
        end = one.tokenizer.encode(one.family.end)[0]
        harmless = one.whole([{"role": "user", "content": "a b"}])
        assert (ids_of(plan).count(end) > harmless.count(end)) is not escape
        talk.commit([asked], plan, answered(one, "Home."), reply)
        seen.append(judged(talk.plan([asked, reply, asked], escape_special=escape)))
    return seen


def shown_header(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    assert finding.example is not None
    off = {"template_kwargs": {"enable_thinking": False}} if "enable_thinking" in finding.title else {}
    talk, reply = Talk(one.renderer), {"role": "assistant", "content": "Home."}
    first = talk.plan([GO], **off)
    talk.commit([GO], first, answered(one, "Home."), reply)
    plan = talk.plan([GO, reply, MORE], **off)
    assert ids_of(plan)[: len(ids_of(first))] == ids_of(first)
    assert one.whole([GO, reply, MORE])[: len(ids_of(first))] != ids_of(first)
    return [judged(plan)]


def shown_last(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    last, earlier = (
        one.template.render(messages, add_generation_prompt=False, now=NOW)
        for messages in ([GO, SAID], [GO, SAID, MORE])
    )
    assert not earlier.startswith(last)
    return [judged(second(one, [GO], "Home.", MORE))]


def shown_parts(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    plan = Talk(one.renderer).plan([parts])
    assert ids_of(plan) == one.whole([{"role": "user", "content": "a\nb"}])
    return [judged(plan)]


def shown_unwritten_calls(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    reply, result = reply_with_call("", "{}"), {"role": "tool", "tool_call_id": "call00000", "content": "sun"}
    talk = Talk(one.renderer)
    talk.commit([GO], talk.plan([GO], tools=TOOLS), answered(one, "look"), reply, tools=TOOLS, finish="tool_calls")
    return [judged(talk.plan([GO, reply, result], tools=TOOLS))]


def no_session(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
    """Tools that are not written, input that is trimmed: nothing happens to a session."""
    if finding.code == "tools_unwritten":
        assert one.whole([GO], tools=TOOLS) == one.whole([GO])
    else:
        spaced = {"role": "user", "content": f" \n{GO['content']}\n "}
        assert one.whole([spaced]) == one.whole([GO])
    return []


def alone(*messages: dict[str, Any], **settings: Any) -> Callable[[Model, Finding], list[tuple[str, str | None]]]:
    return lambda one, finding: [refused(one, list(messages), **settings)]


def follows(
    first: list[dict[str, Any]], *after: dict[str, Any], **settings: Any
) -> Callable[[Model, Finding], list[tuple[str, str | None]]]:
    def shown(one: Model, finding: Finding) -> list[tuple[str, str | None]]:
        try:
            return [judged(second(one, first, "Home.", *after, **settings))]
        except TemplateFault:
            return [("refused", None)]

    return shown


SAID = {"role": "assistant", "content": "Home."}
SHOWN: dict[str, Callable[[Model, Finding], list[tuple[str, str | None]]]] = {
    "thoughts_stripped": shown_thoughts,
    "reasoning_unread": shown_thoughts,
    "generation_prompt_differs": shown_header,
    "last_turn_differs": shown_last,
    "tool_calls_reserialised": shown_calls,
    "call_content_dropped": shown_dropped_content,
    "parallel_calls_refused": shown_odd_call,
    "call_ids_refused": shown_odd_call,
    "tool_calls_unwritten": shown_unwritten_calls,
    "content_trimmed": shown_trimmed,
    "date_in_prompt": shown_date,
    "end_names_speaker": shown_speaker,
    "prefill_trimmed": shown_prefill,
    "prefill_opened_otherwise": shown_prefill,
    "special_text": shown_special,
    "parts_joined": shown_parts,
    "tools_unwritten": no_session,
    "input_trimmed": no_session,
    "system_moved": follows([SYSTEM, GO], MORE),
    "tools_moved": follows([GO], MORE, tools=TOOLS),
    "system_midway_moved": follows([GO], SYSTEM, MORE),
    "system_midway_refused": follows([GO], SYSTEM, MORE),
    "system_invented": follows([GO], MORE),
    "turn_end_not_stop": follows([GO], MORE),
    "system_refused": alone(SYSTEM, GO),
    "consecutive_users_refused": alone(GO, MORE),
    "consecutive_assistants_refused": alone(GO, SAID, SAID, MORE),
    "assistant_first_refused": alone(SAID, GO),
    "tool_results_refused": alone(
        GO, reply_with_call("", "{}"), {"role": "tool", "tool_call_id": "call00000", "content": "sun"}, tools=TOOLS
    ),
}


@EVERY
def test_a_session_does_what_is_said_of_it(family: Any) -> None:
    one = model(family.name)
    for finding in report_of(family.name).findings:
        said = [(outcome.verdict, outcome.reason) for outcome in finding.outcomes]
        assert SHOWN[finding.code](one, finding) == said, finding.code
        branches = any(verdict == "branch" for verdict, _ in said[:1])
        assert (finding.effect == "branch") == branches, finding.code
        assert (finding.effect == "refused") == (said[:1] == [("refused", None)]), finding.code


@EVERY
def test_ordinary_sessions_are_those_that_a_gateway_would_have(family: Any) -> None:
    """Talked through again, with other words."""
    one = model(family.name)
    rows = {row.name: [turn.verdict for turn in row.turns] for row in report_of(family.name).sessions}
    for name, first in (("chat", [GO]), ("chat with a system message", [SYSTEM, GO])):
        talk, messages, seen = Talk(one.renderer), [*first], []
        for turn in range(len(rows["chat"])):
            try:
                plan = talk.plan(messages)
            except TemplateFault:
                seen.append("refused")
                break
            seen.append(plan.verdict)
            reply = {"role": "assistant", "content": f"To {turn} houses."}
            talk.commit(messages, plan, answered(one, reply["content"]), reply)
            messages = [*messages, reply, {"role": "user", "content": f"And after {turn}, where does the dog go to?"}]
        assert seen[:2] == rows[name][:2]
        assert ("branch" in seen) == ("branch" in rows[name])
