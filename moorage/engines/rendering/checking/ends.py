"""The first token, the end of a turn, special tokens in texts, and templates that have names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moorage.engines.rendering.checking.finding import Finding, Outcome
from moorage.engines.rendering.checking.parting import parting
from moorage.engines.rendering.checking.rehearsal import Rehearsal
from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, MARK, Subject, answer, call, result
from moorage.engines.rendering.checking.voice import Voice
from moorage.engines.rendering.template import ChatTemplate, TemplateFault

__all__ = ["begins", "call_ends", "named_templates", "speaker_ends", "special_texts", "turn_ends"]


def begins(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`double_bos`, `bos_missing`."""
    del voice
    tokenizer, text = subject.tokenizer, subject.text([ASKED])
    bos, adds = tokenizer.bos_id, tokenizer.encode_fresh("a")
    writes = bos is not None and tokenizer.encode_whole(text)[:1] == [bos]
    if bos is None or not (adds and adds[0] == bos):
        return
    token = tokenizer.named.get("bos_token", "")
    if writes:
        yield Finding(
            "double_bos",
            effect="none",
            title=f"The template writes {token} and the tokenizer adds it too: whoever does both gives the model two.",
            does="Writes one, in chats and in text completions.",
            advice="Send messages. Where a client renders text itself, let it encode without special tokens.",
            example=parting(tokenizer, ("one", text), ("what a careless client sends", token + text)),
            outcomes=[Outcome("a chat", "root")],
        )
        return
    yield Finding(
        "bos_missing",
        effect="none",
        title=f"The tokenizer adds {token} to texts, and the template does not write it in chats.",
        does="Gives chats no such token, as vLLM does; text completions get it.",
        advice="See how the model was trained; a template that should begin with it is missing it.",
        example=parting(tokenizer, ("a chat", text), ("as a text", token + text)),
        outcomes=[Outcome("a chat", "root")],
    )


def turn_ends(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`turn_end_missing`, `turn_end_not_stop`, `no_stop_token`."""
    traits, tokenizer = subject.traits(), subject.tokenizer
    around = subject.around([ASKED, answer(MARK), ASKED_AGAIN])
    if around is None:
        return
    if not tokenizer.eos_ids:
        yield Finding(
            "no_stop_token",
            effect="none",
            title="Neither the tokenizer nor the generation settings name a token that ends a turn.",
            does="Takes what the engine samples; a turn may run to its length limit.",
            advice="Set `eos_token` in tokenizer_config.json, or `eos_token_id` in generation_config.json.",
        )
    if traits.closer is None and not traits.openers:
        yield Finding(
            "turn_end_missing",
            effect="none",
            title="No special token stands at the end of an assistant's turn.",
            does="Ends turns with the tokenizer's own end token; see `tail_unproven` for what follows them.",
            advice="Let the template write its end token after each answer.",
            example=parting(tokenizer, ("an answer", around[0] + MARK), ("what follows", around[0] + MARK + around[1])),
        )
        return
    ends = {traits.closer} if traits.closer is not None else set(traits.openers)
    if ends & tokenizer.eos_ids or not tokenizer.eos_ids:
        return
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([ASKED], voice.says("Two."), reply)
    written = " ".join(tokenizer.token_text(one) for one in sorted(ends))
    stops = " ".join(tokenizer.token_text(one) for one in sorted(tokenizer.eos_ids))
    yield Finding(
        "turn_end_not_stop",
        effect="none",
        title=f"Turns are written with {written} at their end, and the engine stops at {stops}.",
        does="Goes on from the end that was sampled, and writes no second one.",
        advice="If this model ends its answers with the first, add its id to `eos_token_id` in generation_config.json: "
        "else it speaks on for the user.",
        outcomes=[session.outcome("the second turn", [ASKED, reply, ASKED_AGAIN])],
    )


def call_ends(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`call_end_not_stop`: the token that the template writes after a tool call is none that the engine stops at."""
    tokenizer, name = subject.tokenizer, subject.tool_name
    called = call(name, '{"a": 1}')
    if not tokenizer.eos_ids or subject.refusal([ASKED, called, result(name)], tools=True) is not None:
        return
    tail = subject.tail([ASKED, called, result(name)], 1, tools=True)
    if not tail or tail[0] in tokenizer.eos_ids or tail[0] not in tokenizer.atomic_ids:
        return
    session = Rehearsal(subject, tools=True)
    session.take([ASKED], voice.calls('{"a": 1}'), called)
    written = tokenizer.token_text(tail[0])
    stops = " ".join(tokenizer.token_text(one) for one in sorted(tokenizer.eos_ids))
    yield Finding(
        "call_end_not_stop",
        effect="none",
        title=f"After a tool call {written} is written, and the engine stops at {stops}.",
        does="Goes on from the end that was sampled.",
        advice="If this model ends its calls with the first, add its id to `eos_token_id` in generation_config.json: "
        "else it writes the tool's answer itself.",
        outcomes=[session.outcome("a result", [ASKED, called, result(name)])],
    )


def speaker_ends(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`end_names_speaker`: a turn ends with the header of whoever speaks next, and another one does."""
    traits, tokenizer = subject.traits(tools=True), subject.tokenizer
    others = [one for one in sorted(traits.openers & tokenizer.eos_ids)]
    if traits.closer is not None or len(others) < 2:
        return
    around = subject.around([ASKED, answer(MARK), ASKED_AGAIN])
    asked = around and tokenizer.encode(around[1])[:1]
    other = next((one for one in others if [one] != asked), None)
    if not around or other is None:
        return
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([ASKED], [*tokenizer.encode(voice.opening + "Two."), other], reply)
    token = tokenizer.token_text(other)
    yield Finding(
        "end_names_speaker",
        effect="branch",
        title=f"A turn ends with the header of the next speaker: after {token} no user can speak.",
        does="Takes that last token off when another one speaks: a branch, `template`, that keeps all the rest.",
        advice="Nothing to do: it happens only when a model waits for a tool and a user speaks.",
        example=parting(
            tokenizer,
            ("as it was sampled", f"{around[0]}Two.{token}"),
            ("as it goes on", f"{around[0]}Two.{around[1]}"),
        ),
        outcomes=[session.outcome("a user speaks instead", [ASKED, reply, ASKED_AGAIN])],
    )


def special_texts(subject: Subject, voice: Voice) -> Iterator[Finding]:
    """`special_text`: the text of a special token in a user's message is that token."""
    tokenizer = subject.tokenizer
    ends = sorted(subject.traits().end_ids & tokenizer.special_ids) or sorted(tokenizer.special_ids)
    if not ends:
        return
    token = tokenizer.token_text(ends[0])
    asked = {"role": "user", "content": f"What is {token}?"}
    text = subject.tried([asked])
    if text is None:
        return
    harmless = subject.text([{"role": "user", "content": "What is it?"}])
    if tokenizer.encode_whole(text).count(ends[0]) <= tokenizer.encode_whole(harmless).count(ends[0]):
        return
    session, reply = Rehearsal(subject), answer("Two.")
    session.take([asked], voice.says("Two."), reply)
    escaped = Rehearsal(subject)
    escaped.take([asked], voice.says("Two."), reply, escape_special=True)
    yield Finding(
        "special_text",
        effect="none",
        title=f"{token} in a user's message becomes the token itself, as with the model's own tokenizer.",
        does="Encodes it as the engine would; with `--escape-special` it is plain text.",
        advice="Start the gateway with `--escape-special` where users may write what they like.",
        example=parting(tokenizer, ("without", harmless), ("with", text)),
        outcomes=[
            session.outcome("the second turn", [asked, reply, asked]),
            escaped.outcome("with --escape-special", [asked, reply, asked], escape_special=True),
        ],
    )


def named_templates(subject: Subject, others: Mapping[str, str]) -> Iterator[Finding]:
    """`template_by_name`: an engine uses the template `tool_use` for requests with tools, a session its only one."""
    source = others.get("tool_use")
    if source is None or source == subject.template.source:
        return
    ours = subject.tried([ASKED], tools=True)
    try:
        theirs = subject.scene(tools=True).render(ChatTemplate(source, subject.tokenizer.named), [ASKED])
    except TemplateFault:
        return
    if ours == theirs:
        return
    yield Finding(
        "template_by_name",
        effect="passthrough",
        title="There is another template for requests with tools (tool_use), which engines use then.",
        does="Renders every request with the one that is checked here, so with tools its ids are not the engine's.",
        advice="Use passthrough for sessions with tools, or put the template that you want into chat_template.jinja, "
        "for the engine too.",
        example=parting(subject.tokenizer, ("the session's", ours or ""), ("the engine's", theirs)),
    )
