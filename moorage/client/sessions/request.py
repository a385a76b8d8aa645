"""The keyword arguments of Atropos's calls as a request's body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.client.gateway.asks.body import encoded
from moorage.errors import UsageError

__all__ = ["Request", "chat_request", "completion_request", "logprobs_request"]


class Request(NamedTuple):
    content: bytes
    """JSON."""
    lane: str
    """`train` or `eval`."""
    timeout_s: float | None
    n: int


def chat_request(given: Mapping[str, Any], *, keep_model: bool = False) -> Request:
    """Of `chat_completion`. Raises UsageError."""
    if not given.get("messages"):
        raise UsageError("messages is missing: it takes at least one", code="messages_empty")
    return _request(given, keep_model=keep_model)


def completion_request(given: Mapping[str, Any], *, keep_model: bool = False) -> Request:
    """Of `completion`; ids may also be called `input_ids`."""
    fields = dict(given)
    ids = fields.pop("input_ids", None)
    if ids is not None:
        fields["prompt"] = list(ids)
    if not fields.get("prompt"):
        raise UsageError("prompt is missing", code="prompt_empty")
    return _request(fields, keep_model=keep_model)


def logprobs_request(given: Mapping[str, Any]) -> Request:
    """Of `get_logprobs`; `top_k` may also be called `top_logprobs`."""
    fields = {name: given[name] for name in ("input_ids", "prompt", "messages", "tools") if given.get(name) is not None}
    if len(fields.keys() & {"input_ids", "prompt", "messages"}) != 1:
        raise UsageError("exactly one of input_ids, prompt and messages", code="body_wrong")
    top_k = given.get("top_k", given.get("top_logprobs"))
    fields["top_k"] = max(1, int(top_k)) if top_k is not None else 1
    return _request({**fields, "split": given.get("split", "train")}, keep_model=False)


def _request(given: Mapping[str, Any], *, keep_model: bool) -> Request:
    fields = dict(given)
    lane = fields.pop("split", "train")
    if lane not in ("train", "eval"):
        raise UsageError(f"split is {lane!r}: train or eval", code="bad_value")
    timeout_s = fields.pop("timeout", None)
    for name in ("extra_headers", "extra_query"):
        if fields.pop(name, None):
            raise UsageError(f"{name} is not passed on", code="bad_value", hint="fields of the body go in extra_body")
    fields.update(fields.pop("extra_body", None) or {})
    if not keep_model:
        for name in ("model", "skip_reasoning"):
            fields.pop(name, None)
    if fields.get("stream"):
        hint = "managed.get_url() is for OpenAI's client, which streams"
        raise UsageError("a managed server's reply is whole: stream is not for it", code="stream_not_here", hint=hint)
    fields = {name: value for name, value in fields.items() if value is not None}
    n = fields.get("n", 1)
    return Request(
        encoded(fields), lane, None if timeout_s is None else float(timeout_s), n if isinstance(n, int) else 1
    )
