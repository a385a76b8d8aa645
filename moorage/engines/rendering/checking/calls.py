"""Tools, tool calls and their results."""

from __future__ import annotations

import json
from collections.abc import Iterator

from moorage.engines.rendering.checking.finding import Finding, Outcome
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, Subject, answer, call, result
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import TemplateFault

__all__ = ["call_contents", "calls", "parallel", "respelt", "tools"]

ARGUMENTS = '{"b":"x y","a":[1,2]}'
"""As a model may write them: keys in no order, no spaces."""
UNLIKE = '{"b": 1e3, "a": "\\u00e9 <b>", "c": {"z": [1.0, null]}}'
"""Numbers, letters and objects that JSON can spell in several ways."""
SAID = "zqsaidqz"


def tools(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tools_refused` and `tools_unwritten`."""
    del voice
    refusal = subject.refusal([ASKED], tools=True)
    if refusal is not None:
        yield _refused("tools_refused", "requests with tools", refusal, "Use a template that knows tools.")
        return
    with_tools, without = subject.text([ASKED], tools=True), subject.text([ASKED])
    if subject.tool_name in with_tools:
        return
    yield Finding(
        "tools_unwritten",
        effect="none",
        title="The tools of a request are not written: the model is never told of them.",
        does="Sends the same prompt as without tools.",
        advice="Describe the tools in the system message, or use the model's template for tools.",
        example=parting(subject.tokenizer, ("without tools", without), ("with tools", with_tools)),
    )


def calls(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tool_calls_refused`, `tool_calls_unwritten`, `tool_results_refused`, `tool_results_unwritten`."""
    name = subject.tool_name
    called = [ASKED, call(name, ARGUMENTS)]
    if subject.refusal([ASKED], tools=True) is not None:
        return
    refusal = subject.refusal(called, tools=True)
    if refusal is not None:
        yield _refused("tool_calls_refused", "assistant's messages with tool calls", refusal, "Use another template.")
        return
    refusal = subject.refusal([*called, result(name, SAID)], tools=True)
    if refusal is not None:
        yield _refused(
            "tool_results_refused", "messages of the role tool", refusal, "Send results as a user's message."
        )
        return
    text = subject.text([*called, result(name, SAID)], tools=True)
    bare = subject.text([*called[:1], answer(None), result(name, SAID)], tools=True) if _takes_bare(subject) else None
    if text == bare:
        yield _unwritten(
            subject, voice, "tool_calls_unwritten", "Tool calls of earlier turns are not written.", text, text
        )
    if SAID not in text:
        without = subject.tried(called, tools=True) or ""
        yield _unwritten(subject, voice, "tool_results_unwritten", "Results of tools are not written.", without, text)


def respelt(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`tool_calls_reserialised`: arguments are written in another spelling than the model's."""
    name = subject.tool_name
    written = subject.tried([ASKED, call(name, ARGUMENTS), result(name)], tools=True)
    other = subject.tried([ASKED, call(name, UNLIKE), result(name)], tools=True)
    if written is None or other is None or "x y" not in written:
        return
    changes = [
        *(["spaces"] if "[1,2]" not in written or "[1, 2]" not in written else []),
        *(["the order of keys"] if 0 <= written.rfind('"a"') < written.rfind('"b"') else []),
        *(["numbers"] if "1e3" not in other else []),
        *(["letters"] if "\\u00e9" not in other else []),
    ]
    if not changes:
        return
    prompt = subject.tried([ASKED], tools=True) or ""
    sampled = voice.calls(ARGUMENTS, respelt=True)
    said = prompt + subject.tokenizer.decode(sampled, skip_special=False)
    session, reply = Rehearsal(subject, tools=True), call(name, ARGUMENTS)
    try:
        session.take([ASKED], sampled, reply)
        outcomes = [
            session.outcome("sent back as it was", [ASKED, reply, result(name)]),
            session.outcome(
                "sent back in another spelling", [ASKED, call(name, '{"a": [1, 2], "b": "x y"}'), result(name)]
            ),
        ]
    except TemplateFault:
        outcomes = [Outcome("a call", "refused")]
    yield Finding(
        "tool_calls_reserialised",
        effect="none",
        title=f"Arguments of earlier calls are written anew: {', '.join(changes)} may differ from the model's own.",
        does="Keeps the call as it was sampled, whatever spelling the client sends back.",
        advice="Train on the ids of the session: a new render of its messages has other tokens here.",
        example=parting(subject.tokenizer, ("as a model may write it", said), ("as the template does", written)),
        outcomes=outcomes,
    )


def call_contents(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`call_content_dropped`: what a model says beside a call is left out of earlier turns."""
    name = subject.tool_name
    reply = call(name, ARGUMENTS, content=SAID)
    text = subject.tried([ASKED, reply, result(name)], tools=True)
    silent = subject.tried([ASKED, call(name, ARGUMENTS), result(name)], tools=True)
    if text is None or silent is None or SAID in text:
        return
    session = Rehearsal(subject, tools=True)
    session.take([ASKED], voice.calls(ARGUMENTS, said=SAID), reply)
    outcome = session.outcome("sent back as it was", [ASKED, reply, result(name)])
    yield Finding(
        "call_content_dropped",
        effect="none",
        title="What a model says beside a tool call is left out of earlier turns.",
        does="Keeps it as it was sampled.",
        advice="Train on the ids of the session: a new render of its messages lacks the text.",
        example=parting(
            subject.tokenizer,
            ("as it was sampled", (subject.tried([ASKED], tools=True) or "") + SAID),
            ("as it is written", text),
        ),
        outcomes=[outcome],
    )


def parallel(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`parallel_calls_refused`, `call_ids_refused`: calls of a kind that the template does not take."""
    name = subject.tool_name
    if subject.refusal([ASKED, call(name, ARGUMENTS), result(name)], tools=True) is not None:
        return
    both = [ASKED, call(name, '{"a": 1}', '{"a": 2}'), result(name), result(name, number=1)]
    refusal = subject.refusal(both, tools=True)
    if refusal is not None:
        session, reply = Rehearsal(subject, tools=True), both[1]
        session.take([ASKED], voice.calls(ARGUMENTS), reply)
        yield _refused(
            "parallel_calls_refused",
            "turns with two tool calls",
            refusal,
            "Ask for one call a turn (`parallel_tool_calls: false`).",
            session.outcome("two calls in one turn", both),
        )
    odd = call(name, ARGUMENTS)
    odd["tool_calls"][0]["id"] = "chatcmpl-tool-0123456789abcdef"
    given = [ASKED, odd, {**result(name), "tool_call_id": odd["tool_calls"][0]["id"]}]
    refusal = subject.refusal(given, tools=True)
    if refusal is not None:
        session = Rehearsal(subject, tools=True)
        session.take([ASKED], voice.calls(ARGUMENTS), odd)
        yield _refused(
            "call_ids_refused",
            "ids of tool calls as engines make them",
            refusal,
            "Have the client write ids of nine letters and digits.",
            session.outcome("a call with an engine's id", given),
        )


def _takes_bare(subject: Subject) -> bool:
    name = subject.tool_name
    return subject.refusal([ASKED, answer(None), result(name, SAID)], tools=True) is None


def _unwritten(subject: Subject, voice: Voice, code: str, title: str, left: str, right: str) -> Finding:
    name = subject.tool_name
    session, reply = Rehearsal(subject, tools=True), call(name, json.dumps({"a": 1}))
    session.take([ASKED], voice.calls('{"a": 1}'), reply)
    outcome = session.outcome("a result", [ASKED, reply, result(name)])
    return Finding(
        code,
        effect="none",
        title=title,
        does="Keeps what was sampled.",
        advice="Send calls and results as text, in assistant's and user's messages.",
        example=parting(subject.tokenizer, ("without", left), ("with", right)),
        outcomes=[outcome],
    )


def _refused(code: str, what: str, refusal: str, advice: str, outcome: Outcome | None = None) -> Finding:
    goes_on = outcome is not None and outcome.verdict == "exact"
    return Finding(
        code,
        effect="none" if goes_on else "refused",
        title=f"The template refuses {what}: {refusal}",
        does="Goes on exactly after such a turn, which is not rendered again; what has to be rendered anew (a branch, "
        "another session) is refused: 400 `template_failed`."
        if goes_on
        else "Answers 400 `template_failed`, with the template's own words; the session stays as it was.",
        advice=advice,
        outcomes=[outcome or Outcome(what, "refused")],
    )
