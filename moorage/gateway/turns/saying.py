"""From sampled ids to what the client reads: content, reasoning, tool calls, log probabilities."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.engines.parsing.forced import forced_calls
from moorage.engines.parsing.told import Hidden
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall
from moorage.gateway.turns.constraining import asked_of, is_forced

if TYPE_CHECKING:
    from moorage.engines.parsing.process import ParserProcess
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["finish_of", "hidden_of", "is_held", "needs_parser", "say", "shown_logprobs"]


async def say(call: ModelCall, choice: Sampled) -> Sampled:
    """The choice with its message; a text completion stays as it is."""
    if not isinstance(call.ask, ChatAsk):
        return choice
    parser = call.gateway.parser
    if parser is None or not needs_parser(call):
        return _with_message(choice, {"role": "assistant", "content": _plain_text(call, choice)})
    message = await _split(call, parser, choice)
    if is_forced(call) and not message.get("tool_calls"):
        calls = forced_calls(message["content"], call.ask.tool_choice, new_id=call.gateway.new_id)
        if calls:
            message |= {"content": None, "tool_calls": calls}
    return _with_message(choice, message)


def finish_of(choice: Sampled) -> str:
    """The finish reason that the client reads; the record keeps the engine's."""
    called = choice.finish_reason == "stop" and choice.message is not None and choice.message.get("tool_calls")
    return "tool_calls" if called else choice.finish_reason


def needs_parser(call: ModelCall) -> bool:
    """Whether the text has to be split before the client can read it."""
    if not isinstance(call.ask, ChatAsk):
        return False
    return call.tool_parser is not None or call.reasoning_parser is not None or is_forced(call)


def is_held(call: ModelCall) -> bool:
    """Whether a stream's text is not told as it is: it will be split, or read as a demanded call."""
    return needs_parser(call) and (call.gateway.parses or is_forced(call))


def hidden_of(call: ModelCall) -> Hidden:
    """The special tokens that no content shows."""
    parser, renderer = call.gateway.parser, call.gateway.renderer
    if parser is None or renderer is None:
        return Hidden([])
    if parser.hidden is None:
        parser.hidden = Hidden(renderer.tokenizer.special_texts)
    return parser.hidden


async def _split(call: ModelCall, parser: ParserProcess, choice: Sampled) -> dict[str, Any]:
    """The assistant's message; all of it content where it cannot be split."""
    asked = asked_of(call)
    parsed = await parser.parse(_marked_text(call, choice), asked=asked, ids=unpack_ids(choice.ids))
    if parsed.error is not None:  # with tools the reply says so (`tool_parsing`)
        if parser.enabled:  # else it was said once
            call.gateway.log.warning("not_parsed", request_id=call.request.id, why=parsed.error)
        return {"role": "assistant", "content": _plain_text(call, choice)}
    hidden = hidden_of(call)
    content = None if parsed.content is None else hidden.out_of(parsed.content)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if parsed.reasoning is not None:
        message["reasoning"] = hidden.out_of(parsed.reasoning)
    if parsed.tool_calls:
        message["tool_calls"] = parsed.tool_calls[:1] if asked.parallel_tool_calls is False else parsed.tool_calls
    return message


def shown_logprobs(call: ModelCall, generation: Generation) -> list[Any] | None:
    """`logprobs` of each choice as chat or text completions have it; None: not asked for."""
    renderer = call.gateway.renderer
    if not call.wants_logprobs or renderer is None:
        return None
    if isinstance(call.ask, ChatAsk):
        return [{"content": _token_logprobs(renderer.tokenizer, choice)} for choice in generation.choices]
    return [_text_logprobs(renderer.tokenizer, choice) for choice in generation.choices]


def _token_logprobs(tokenizer: Tokenizer, choice: Sampled) -> list[dict[str, Any]]:
    tops = msgspec.json.decode(choice.top_logprobs) if choice.top_logprobs else []
    rows = []
    pairs = zip(unpack_ids(choice.ids), unpack_floats(choice.logprobs), strict=True)
    for position, (token, logprob) in enumerate(pairs):
        top = tops[position] if position < len(tops) and tops[position] else {}
        rows.append({**_token(tokenizer, token, logprob), "top_logprobs": _tops(tokenizer, top)})
    return rows


def _text_logprobs(tokenizer: Tokenizer, choice: Sampled) -> dict[str, Any]:
    """As text completions have it: lists by token, offsets in characters."""
    texts = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in unpack_ids(choice.ids)]
    return {
        "tokens": texts,
        "token_logprobs": [_finite(logprob) for logprob in unpack_floats(choice.logprobs)],
        "top_logprobs": choice.top_logprobs,
        "text_offset": list(itertools.accumulate(map(len, texts), initial=0))[:-1],
    }


def _tops(tokenizer: Tokenizer, top: dict[str, float]) -> list[dict[str, Any]]:
    """Highest first. The engine names tokens `token_id:17`, so none is lost where two have the same text."""
    pairs = [(int(name.rpartition(":")[2]), value) for name, value in top.items() if name.startswith("token_id:")]
    return [_token(tokenizer, token, value) for token, value in sorted(pairs, key=lambda pair: -pair[1])]


def _token(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = tokenizer.token_bytes(token)
    return {
        "token": text.decode("utf-8", "replace"),
        "logprob": _finite(logprob),
        "bytes": list(text),
    }


def _finite(logprob: float) -> float:
    """JSON has no infinity: OpenAI's floor instead."""
    return logprob if math.isfinite(logprob) else -9999.0


def _with_message(choice: Sampled, message: dict[str, Any]) -> Sampled:
    return msgspec.structs.replace(choice, message=message)


def _plain_text(call: ModelCall, choice: Sampled) -> str:
    if choice.text is None:
        return call.gateway.decode_text(unpack_ids(choice.ids), skip_special=True)
    # Of a stream that was to be parsed the engine left them in.
    return hidden_of(call).out_of(choice.text) if call.ask.stream and needs_parser(call) else choice.text


def _marked_text(call: ModelCall, choice: Sampled) -> str:
    """The text with its special tokens, which some parsers go by; without the one that ended it."""
    renderer = call.gateway.renderer
    if renderer is None:
        return choice.text or ""
    ids = unpack_ids(choice.ids)
    if ids and choice.finish_reason == "stop" and ids[-1] in renderer.tokenizer.special_ids:
        ids.pop()
    text = renderer.tokenizer.decode(ids, skip_special=False)
    return text.partition(choice.stop_reason)[0] if isinstance(choice.stop_reason, str) else text
