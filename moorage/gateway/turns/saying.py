"""From sampled ids to what the client reads: content, reasoning, tool calls, log probabilities."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import unpack_floats, unpack_ids
from moorage.engines.contract import Generation, Sampled
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall

if TYPE_CHECKING:
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["finish_of", "needs_parser", "say", "shown_logprobs"]


async def say(call: ModelCall, choice: Sampled) -> Sampled:
    """The choice with its message; a text completion stays as it is."""
    if not isinstance(call.ask, ChatAsk):
        return choice
    parser = call.gateway.parser
    if parser is None or not needs_parser(call):
        return _with_message(choice, {"role": "assistant", "content": _plain_text(call, choice)})
    parsed = await parser.parse(
        _marked_text(call, choice),
        tool_parser=call.tool_parser,
        reasoning_parser=call.reasoning_parser,
        tools=call.ask.tools,
        ids=unpack_ids(choice.ids),
        template_kwargs=call.ask.chat_template_kwargs,
    )
    if parsed.error is not None:  # with tools the reply says so (`tool_parsing`)
        call.gateway.log.warning("not_parsed", request_id=call.request.id, why=parsed.error)
        return _with_message(choice, {"role": "assistant", "content": _plain_text(call, choice)})
    message: dict[str, Any] = {"role": "assistant", "content": _without_special(call, parsed.content)}
    if parsed.reasoning is not None:
        message["reasoning"] = _without_special(call, parsed.reasoning)
    if not parsed.tool_calls:
        return _with_message(choice, message)
    message["tool_calls"] = parsed.tool_calls
    return _with_message(choice, message)


def finish_of(choice: Sampled) -> str:
    """The finish reason that the client reads; the record keeps the engine's."""
    called = choice.finish_reason == "stop" and choice.message is not None and choice.message.get("tool_calls")
    return "tool_calls" if called else choice.finish_reason


def needs_parser(call: ModelCall) -> bool:
    """Whether the text has to be split before the client can read it."""
    return call.tool_parser is not None or call.reasoning_parser is not None


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
    if choice.text is not None:
        return choice.text
    return call.gateway.decode_text(unpack_ids(choice.ids), skip_special=True)


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


def _without_special(call: ModelCall, text: str | None) -> str | None:
    """Content never holds special tokens."""
    renderer = call.gateway.renderer
    if text is None or renderer is None:
        return text
    for token in renderer.tokenizer.special_texts:
        text = text.replace(token, "")
    return text
