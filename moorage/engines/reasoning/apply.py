"""A request's body with what its endpoint is to be told of thinking. Nothing else in it is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import msgspec

from moorage.engines.reasoning.config import ReasoningConfig
from moorage.engines.reasoning.fields import reasoning_fields
from moorage.engines.reasoning.providers import Provider

__all__ = ["apply", "without_skip"]

SKIP = "skip_reasoning"
"""Atropos's way to say: not for this request. No engine knows it, so it never goes on."""

MARK = b'"skip_reasoning"'
NULL = msgspec.Raw(b"null")
FALSE = frozenset((b"false", b"null", b"0", b'""'))


@overload
def apply(body: bytes, config: ReasoningConfig | None, provider: Provider) -> bytes: ...
@overload
def apply(body: Mapping[str, Any], config: ReasoningConfig | None, provider: Provider) -> dict[str, Any]: ...
def apply(
    body: bytes | Mapping[str, Any], config: ReasoningConfig | None, provider: Provider
) -> bytes | dict[str, Any]:
    """A chat request's body, JSON text or decoded, for that provider.

    Ours stand in place of the caller's fields of the same name. `skip_reasoning` is taken out; where it is true nothing
    is put in. For OpenAI the temperature becomes 1 and `max_tokens` is called `max_completion_tokens`, as its thinking
    models demand; for Anthropic a temperature that was given becomes 1. None, or a config that asks for nothing: the
    body as it came, but for `skip_reasoning`. `body` must be a JSON object.
    Raises InvalidReasoning for a budget that the provider does not take.
    """
    asks = config is not None and config.enabled
    if isinstance(body, bytes):
        if not asks and MARK not in body:
            return body
        raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        skipped = bytes(raw.pop(SKIP, NULL)) not in FALSE
        if asks and not skipped:
            ours = _ours(config, provider, raw)
            _put(raw, {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in ours.items()})
        return msgspec.json.encode(raw)
    fields = dict(body)
    skipped = bool(fields.pop(SKIP, None))
    if asks and not skipped:
        _put(fields, _ours(config, provider, fields))
    return fields


def without_skip(body: bytes) -> bytes:
    """The body of a request that is no chat: only `skip_reasoning` goes."""
    return apply(body, None, "other")


def _ours(config: ReasoningConfig | None, provider: Provider, given: Mapping[str, Any]) -> dict[str, Any]:
    assert config is not None
    ours = reasoning_fields(config, provider)
    thinks = provider == "anthropic" and ours["thinking"]["type"] == "enabled"
    if provider == "openai" or (thinks and "temperature" in given):
        ours["temperature"] = 1.0
    return ours


def _put(fields: dict[str, Any], ours: Mapping[str, Any]) -> None:
    fields.update(ours)
    if "reasoning_effort" in ours and "max_tokens" in fields:
        limit = fields.pop("max_tokens")
        if _is_set(limit) and not _is_set(fields.get("max_completion_tokens")):
            fields["max_completion_tokens"] = limit


def _is_set(value: Any) -> bool:
    """Whether a limit was given: neither nothing, null nor 0."""
    return (bytes(value) not in FALSE) if isinstance(value, msgspec.Raw) else bool(value)
