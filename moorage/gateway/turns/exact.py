"""A call whose prompt the gateway makes: sampled ids carried over to the token, only what is new is rendered."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.messages import tools_digest
from moorage.capture.packing import unpack_ids
from moorage.engines.contract import Directed, Generation, Sampled
from moorage.engines.rendering.ask import NeedsRecorded, PromptAsk, PromptPlan
from moorage.engines.rendering.textual import text_plan
from moorage.engines.vllm.generate import PATH as GENERATE
from moorage.engines.vllm.generate import SAMPLING, generate_body, is_closed
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import read_completion, read_generate
from moorage.engines.vllm.token_texts import without_token_texts
from moorage.errors import FailedError
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.turns import placeholders
from moorage.gateway.turns.bodies import CompletionAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.commit import Asked, Placed, commit
from moorage.gateway.turns.constraining import constrained
from moorage.gateway.turns.exact_stream import check_prompt, frames
from moorage.gateway.turns.passthrough import note_conversation
from moorage.gateway.turns.reading import ChatRead
from moorage.gateway.turns.recorded import recorded_messages
from moorage.gateway.turns.retelling import retold
from moorage.gateway.turns.saying import needs_parser, say, shown_logprobs
from moorage.gateway.turns.several import all_of
from moorage.gateway.turns.upstream import learning_of_ids, refuse_error, relay_error
from moorage.gateway.turns.usable import renderer_of
from moorage.gateway.turns.whole import whole_reply

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import Answer
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = ["answer", "plan_chat"]

COMPLETIONS = "/v1/completions"
TOKENS_FIELDS = (
    frozenset(SAMPLING) - {"stop", "include_stop_str_in_output", "skip_special_tokens", "spaces_between_special_tokens"}
) | {
    *("messages", "tools", "tool_choice", "model", "n", "max_tokens", "max_completion_tokens", "user", "metadata"),
    *("chat_template_kwargs", "add_generation_prompt", "return_token_ids", "prompt", "stream", "store"),
}
"""Fields that `/inference/v1/generate` is told of, or need not be told of; a request with others does not go there."""


async def answer(call: ModelCall) -> Reply | Stream:
    """Plan the prompt, ask the engine for tokens, record, reply. Raises as `passthrough.answer` does."""
    if placeholders.wanted(call):
        return await placeholders.answer(call)
    asked = call.asked()
    call = await constrained(call)
    plan = await _plan(call, asked)
    if call.ask.stream:
        return await _stream(call, asked, plan)
    known = _known(call, plan)
    if needs_parser(call):
        call.gateway.warm_parser()
    generation = await call.request.while_connected(_generate(call, known))
    spoken = [await say(call, choice) for choice in generation.choices]
    generation = msgspec.structs.replace(generation, choices=tuple(spoken))
    body = whole_reply(call, generation, logprobs=shown_logprobs(call, generation), extra=call.extra_fields())
    await commit(call.gateway, call.live, asked, generation, placed(call.gateway, plan), body=body)
    call.live.known = known
    return Reply(200, body)


async def plan_chat(gateway: Gateway, live: LiveSession, read: ChatRead, asked: Asked | None = None) -> PromptPlan:
    """The prompt's ids and where they stand in the session's tree. Raises UsageError for a template that fails."""
    renderer = renderer_of(gateway, live)
    if renderer is None:
        gateway.refuse_unready()
        raise FailedError("no tokenizer is loaded", code="tokenizer_missing", hint="start with --tokenizer-path DIR")
    ask, kwargs = read.ask, read.ask.chat_template_kwargs or {}
    prompt_ask = PromptAsk(
        messages=ask.messages,
        conversation=read.conversation,
        tools=ask.tools,
        tools_digest=tools_digest(ask.tools),
        now=datetime.fromtimestamp(gateway.clock()),
        system_changed=live.system_key not in (None, read.system_key),
        add_generation_prompt=ask.add_generation_prompt is not False,
        continue_final_message=bool(ask.continue_final_message),
        template_kwargs=kwargs,
        kwargs_changed=live.kwargs not in (None, kwargs),
        preserve_think_blocks=live.trajectory.options.get("preserve_think_blocks", True),
        escape_special=gateway.settings.escape_special,
        prompt_limit=gateway.settings.prompt_length,
    )
    plan = renderer.plan(live.tree, prompt_ask)
    if isinstance(plan, NeedsRecorded):
        recorded = await recorded_messages(gateway.store, live.trajectory.uid, plan.node.seq)
        plan = renderer.plan(live.tree, prompt_ask, recorded=recorded)
    if isinstance(plan, NeedsRecorded):  # pragma: no cover - it was given what it asked for
        raise FailedError("the prompt could not be planned", code="internal")
    if asked is not None:
        note_conversation(asked, read, plan.covered)
        live.takes_system(asked.system_key)
        live.kwargs = kwargs
    return plan


def placed(gateway: Gateway, plan: PromptPlan) -> Placed:
    """The plan as the record keeps it."""
    return Placed(
        parent=plan.parent.seq if plan.parent else None,
        keep=plan.keep,
        delta=plan.ids[4 * plan.keep :],
        verdict=plan.verdict,
        reason=plan.reason,
        mode="exact",
        matched=plan.matched.seq if plan.matched else None,
        template_digest=gateway.renderer.tokenizer.template_digest if gateway.renderer else b"",
    )


async def _plan(call: ModelCall, asked: Asked) -> PromptPlan:
    if call.read is not None:
        return await plan_chat(call.gateway, call.live, call.read, asked)
    renderer = call.gateway.renderer
    if renderer is None:
        call.gateway.refuse_unready()
        raise FailedError("no tokenizer is loaded", code="tokenizer_missing", hint="start with --tokenizer-path DIR")
    prompt: Any = getattr(call.ask, "prompt", None)
    asked.prompt_text = prompt if isinstance(prompt, str) else None
    limit = call.gateway.settings.prompt_length
    return text_plan(renderer.tokenizer, call.live.tree, prompt, prompt_limit=limit)


async def _generate(call: ModelCall, known: Known) -> Generation:
    """Ask until there are `n` choices: an engine may give fewer than it was asked for."""
    generation = await _ask_once(call, known, call.ask.choices)
    choices = list(generation.choices[: call.ask.choices])
    missing = call.ask.choices - len(choices)
    if missing:
        more = await all_of(_ask_once(call, known, 1) for _ in range(missing))
        choices += [one.choices[0] for one in more]
    numbered = [
        choice if choice.index == index else msgspec.structs.replace(choice, index=index)
        for index, choice in enumerate(choices)
    ]
    return msgspec.structs.replace(generation, choices=tuple(numbered), usage=None)


async def _ask_once(call: ModelCall, known: Known, n: int) -> Generation:
    generation = await _ask_for_tokens(call, known, n) if _suits_tokens(call) else None
    if generation is not None:
        return generation
    state, answered = await call.gateway.fleet.ask(
        COMPLETIONS,
        lambda state: _body(call, known, state, n),
        model=call.model,
        session=call.uid,
        pin=call.pin,
        lane=call.lane,
    )
    refuse_error(answered)
    return _read(call, known, state, answered)


def _read(call: ModelCall, known: Known, state: EndpointState, answered: Answer) -> Generation:
    """A text completion's reply, in whatever words."""
    raw = answered.body
    with learning_of_ids(state):
        if state.dialect.retelling is not None:
            raw = retold(call, state, raw, prompt=known)
        lean = raw if call.wants_logprobs else without_token_texts(raw)
        generation = read_completion(lean, known=known, top_logprobs=call.wants_logprobs)
    check_prompt(known.ids, generation)
    return generation


def _suits_tokens(call: ModelCall) -> bool:
    """Whether `/inference/v1/generate` may be asked: it says which weights sampled, but has no text of its own."""
    home = call.gateway.fleet.home(call.uid)
    if home is None or home.generates_from_ids is False or call.wants_logprobs:
        return False
    fields = msgspec.json.decode(call.small_body, type=dict[str, msgspec.Raw])
    return fields.keys() <= TOKENS_FIELDS


async def _ask_for_tokens(call: ModelCall, known: Known, n: int) -> Generation | None:
    """The engine's tokens; None: it does not offer the route, which is noted."""
    offered = False

    def body(state: EndpointState) -> bytes | Directed:
        nonlocal offered
        offered = state.generates_from_ids is not False
        if not offered:  # another endpoint than the session's home
            made = _body(call, known, state, n)
            return made if isinstance(made, Directed) else Directed(COMPLETIONS, made)
        room = _room(call, known, state)
        return generate_body(call.small_body, known, model=state.name_for(call.model), n=n, max_tokens=room)

    state, answered = await call.gateway.fleet.ask(
        GENERATE, body, model=call.model, session=call.uid, pin=call.pin, lane=call.lane
    )
    if not offered:
        refuse_error(answered)
        return _read(call, known, state, answered)
    state.generates_from_ids = not is_closed(answered.status)
    if not state.generates_from_ids:
        return None
    refuse_error(answered)
    with learning_of_ids(state):
        generation = read_generate(answered.body, known.ids)
    choices = [msgspec.structs.replace(choice, text=_text_of(call, choice)) for choice in generation.choices]
    model = generation.model or state.name_for(call.model) or ""
    return msgspec.structs.replace(generation, choices=tuple(choices), model=model)


def _text_of(call: ModelCall, choice: Sampled) -> str:
    return call.gateway.decode_text(unpack_ids(choice.ids), skip_special=True)


def _known(call: ModelCall, plan: PromptPlan) -> Known:
    """The prompt with its JSON text, of which the last turn has written most."""
    return call.live.known.up_to(plan.ids) if call.live.known is not None else Known.of(plan.ids)


def _body(call: ModelCall, known: Known, state: EndpointState, n: int) -> bytes | Directed:
    return state.dialect.from_tokens(
        call.small_body,
        known,
        model=state.name_for(call.model),
        n=1 if state.ignores_n and not call.ask.stream else n,
        max_tokens=_room(call, known, state),
    )


def _room(call: ModelCall, known: Known, state: EndpointState) -> int | None:
    """`max_tokens` where the request names none: a chat may fill the context, a text completion has its own default."""
    if isinstance(call.ask, CompletionAsk):
        return None
    if call.gateway.settings.response_length is not None:
        return call.gateway.settings.response_length
    if state.max_model_len is None:
        return None
    return max(1, state.max_model_len - len(known.ids) // 4)


async def _stream(call: ModelCall, asked: Asked, plan: PromptPlan) -> Stream:
    known = _known(call, plan)
    if needs_parser(call):
        call.gateway.warm_parser()
    state, streamed = await call.request.while_connected(
        call.gateway.fleet.open(
            COMPLETIONS,
            lambda state: _body(call, known, state, call.ask.choices),
            model=call.model,
            session=call.uid,
            pin=call.pin,
            lane=call.lane,
        )
    )
    await relay_error(streamed)
    stream = Stream(200, frames(call, asked, known, placed(call.gateway, plan), state, streamed))
    stream.at_end.append(streamed.abort)
    return stream
