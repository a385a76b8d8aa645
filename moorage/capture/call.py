"""One call: what a model was given and what it sampled, to the token.

A `Draft` is what the gateway knows when the engine has answered; a `Call` is the same once it is durable, with its
place in the session. The record is encoded once, by `encode_record`; the hash chain is over those very bytes, so what
`verify` reads is what was committed.

Token ids are packed little-endian uint32, log probabilities little-endian float64 (`moorage.capture.packing`).
Digests are 16 bytes, hashes 32.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Call", "Draft", "Mode", "Reason", "Source", "Span", "Verdict"]

Mode = Literal["exact", "passthrough"]
"""Who made the prompt's ids: the gateway (sampled ids carried over, the rest rendered) or the engine."""

Source = Literal["model", "submitted", "dummy"]
"""A model call through the gateway; a step that an agent submitted; placeholder tokens of an engine without ids."""

Verdict = Literal["root", "exact", "branch"]
"""How the prompt continues the session: it begins anew; it is the parent's tokens and more; it parts from them."""

Reason = Literal[
    "template",
    "reasoning_stripped",
    "tool_reserialised",
    "tools_changed",
    "edited",
    "truncated",
    "system_changed",
    "unproven_tail",
    "engine_rendered",
]
"""Why a prompt parts from the tokens before it."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """The weights that sampled completion tokens [start, end)."""

    version: str
    start: int
    end: int


class Draft(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One choice of one request, complete but not yet committed.

    The prompt is `path(parent)[:keep] + delta`, where the path of a call is its whole prompt and its completion.
    Fields are encoded by position: new ones go to the end, with a default.
    """

    call_id: str
    request_id: str
    """Shared by the choices of one request (`n > 1`)."""
    choice: int
    session_id: str
    parent: int | None
    """`seq` of the call whose tokens the prompt begins with; None: none of them."""
    keep: int
    """Tokens of the parent's path that the prompt begins with; 0 without a parent."""
    delta: bytes
    """[D] uint32: the rest of the prompt."""
    completion: bytes
    """[C] uint32: what was sampled, end-of-turn token included."""
    logprobs: bytes | None
    """[C] float64; None only for submitted steps that gave none."""
    finish_reason: str
    stop_token: bool
    """The completion ends with a token that ended it."""
    source: Source = "model"
    mode: Mode = "passthrough"
    verdict: Verdict = "root"
    reason: Reason | None = None
    """None unless the verdict is `branch`."""
    delivered: bool = True
    """False: the client went away before the reply was complete. Such a call is never leased."""
    model: str = ""
    policy_version: int = 0
    """Weight version of the first sampled token: the engine's, else `/weights`, else the metadata's, else 0."""
    spans: tuple[Span, ...] = ()
    """Empty: the engine does not say; otherwise they cover the completion."""
    prompt_key: bytes = b""
    """Chained digest of the request's messages (`moorage.capture.messages`); empty for token and text prompts."""
    reply_key: bytes = b""
    """The same with the reply added: what a next request that echoes it will match."""
    tools_digest: bytes = b""
    """Empty: no tools; else the blob of that digest is their JSON."""
    template_digest: bytes = b""
    """Empty: the engine rendered."""
    sampling_digest: bytes = b""
    metadata_digest: bytes = b""
    extras_digest: bytes = b""
    """Digests of blobs kept beside the record: sampling parameters, metadata, and `Extras`."""
    created_at: float = 0.0
    """Unix seconds."""
    step_index: int | None = None
    """Given for submitted steps; None: the store numbers it, 0, 1, 2… in commit order."""
    loose_reply_key: bytes = b""
    """`reply_key` over normalised texts: what an echo that was trimmed or re-normalised will match."""
    reasoning_digest: bytes = b""
    """Digest of the reasoning that the client was given; empty: none."""
    retry_key: bytes = b""
    """Digest of the request's path and body: how a retry finds the call again, after a restart too."""
    idempotency_digest: bytes = b""
    """Digest of the request's `Idempotency-Key`; empty: it had none."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A committed call: its record never changes; what is said of it later stands beside."""

    record: Draft
    seq: int
    """Commit number within the session: 0, 1, 2… without gaps."""
    step_index: int
    hash: bytes
    """[32] of the previous hash and the record (`moorage.capture.chain`)."""
    late: bool = False
    """Committed after the trajectory was complete: kept, never leased."""
    is_last: bool = False
    reward: float | None = None


class Extras(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is read back but not trained on; stored compressed beside the record, JSON.

    `messages` are those that the request added to the ones its matched node already had (`matched`, a seq), so they
    too grow with the turn, not with the session.
    """

    messages: tuple[msgspec.Raw, ...] = ()
    matched: int | None = None
    reply: msgspec.Raw = msgspec.Raw(b"null")
    """The assistant's message as the client got it; a string for text completions."""
    top_logprobs: msgspec.Raw = msgspec.Raw(b"null")
    """As the engine gave them, when the client asked for some."""
    body: msgspec.Raw = msgspec.Raw(b"null")
    """The whole reply as the client got it (of a stream: put together), with the first choice of its request only."""
    prompt_text: str | None = None
    """The prompt of a text completion."""
    multi_modal_data: msgspec.Raw = msgspec.Raw(b"null")
    routed_experts: msgspec.Raw = msgspec.Raw(b"null")
