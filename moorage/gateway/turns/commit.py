"""Making what an engine sampled durable: drafts from a generation, into the store, then into the session's tree."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from moorage.capture.call import Draft, Extras, Mode, Reason, Source, Span, Verdict
from moorage.capture.chain import digest
from moorage.capture.messages import read_conversation, reasoning_of, tools_digest
from moorage.capture.tree import Node
from moorage.engines.contract import Generation, Sampled

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = ["Asked", "Placed", "commit", "metadata_version", "to_its_end"]

T = TypeVar("T")

RAW_NULL = msgspec.Raw(b"null")


class Asked(msgspec.Struct, kw_only=True):
    """What was asked, as far as the record keeps it."""

    request_id: str
    sampling: bytes
    retry_key: bytes
    idempotency_digest: bytes
    prompt_key: bytes = b""
    loose_prompt_key: bytes = b""
    messages: list[dict[str, Any]] = []
    """Those that the matched node does not cover."""
    tools: list[dict[str, Any]] | None = None
    prompt_text: str | None = None
    weight_version: int | None = None
    """What `/weights` said when the call began; None: nothing."""
    system_key: bytes = b""
    """The key after the leading system messages; empty: there are none."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a prompt stands in the session's tree."""

    parent: int | None
    keep: int
    delta: bytes
    verdict: Verdict
    reason: Reason | None
    mode: Mode
    matched: int | None = None
    template_digest: bytes = b""
    source: Source = "model"


async def commit(
    gateway: Gateway,
    live: LiveSession,
    asked: Asked,
    generation: Generation,
    placed: Placed,
    *,
    body: bytes | None = None,
    delivered: bool = True,
) -> list[Node]:
    """Store every choice, or none: raises StoreFault. Then the session knows them.

    `body`: the client's reply, kept so that a retry gets it again; None when there was none.
    """
    drafting = _Drafting(gateway, live, asked, placed)
    drafts = [
        drafting.draft(choice, generation.model, body if position == 0 else None, delivered=delivered)
        for position, choice in enumerate(generation.choices)
    ]
    appended = await gateway.store.append(live.trajectory.uid, drafts, drafting.blobs)
    try:
        nodes = live.take(appended)
    except ValueError:  # another worker wrote between: this copy is stale
        gateway.sessions.forget(live.trajectory.uid)
        nodes = []
    gateway.sessions.grew(live)
    gateway.metrics.captured(drafts)
    return nodes


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which goes on to its end even when the waiting is cancelled: within a stream, whose
    client may go at any moment, a call is committed and then known, or neither."""
    return await asyncio.shield(asyncio.get_running_loop().create_task(work))


def metadata_version(metadata: dict[str, Any]) -> int:
    """`policy_version` of a trajectory's metadata; 0 when it says none that is a whole number."""
    value = metadata.get("policy_version")
    if (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value)) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else 0


class _Drafting:
    """What the drafts of one request share, and the blobs that they name."""

    def __init__(self, gateway: Gateway, live: LiveSession, asked: Asked, placed: Placed) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self._gateway, self._trajectory, self._asked, self._placed = gateway, live.trajectory, asked, placed
        self._now = gateway.clock()
        self._tools = tools_digest(asked.tools)
        if asked.tools:
            self.blobs[self._tools] = msgspec.json.encode(asked.tools)
        metadata = live.trajectory.metadata
        if placed.source == "dummy":
            metadata = {**metadata, "dummy": True}
        self._metadata = self._blob(msgspec.json.encode(metadata, order="sorted") if metadata else b"")
        self._sampling = self._blob(asked.sampling)

    def draft(self, choice: Sampled, model: str, body: bytes | None, *, delivered: bool) -> Draft:
        """The record of one choice."""
        asked, placed = self._asked, self._placed
        reply_key, loose_reply_key = _keys_after(asked, choice)
        return Draft(
            call_id=self._gateway.new_id(),
            request_id=asked.request_id,
            choice=choice.index,
            session_id=self._trajectory.uid,
            parent=placed.parent,
            keep=placed.keep,
            delta=placed.delta,
            completion=choice.ids,
            logprobs=choice.logprobs,
            finish_reason=choice.finish_reason,
            stop_token=_ended_by_token(choice),
            source=placed.source,
            mode=placed.mode,
            verdict=placed.verdict,
            reason=placed.reason,
            delivered=delivered,
            model=model,
            policy_version=_policy_version(choice.spans, asked.weight_version, self._trajectory.metadata),
            spans=choice.spans,
            prompt_key=asked.prompt_key,
            reply_key=reply_key,
            loose_reply_key=loose_reply_key,
            reasoning_digest=_reasoning(choice),
            tools_digest=self._tools,
            template_digest=placed.template_digest,
            sampling_digest=self._sampling,
            metadata_digest=self._metadata,
            extras_digest=self._blob(_extras(asked, choice, placed, body)),
            retry_key=asked.retry_key,
            idempotency_digest=asked.idempotency_digest,
            created_at=self._now,
        )

    def _blob(self, content: bytes) -> bytes:
        if not content or content == b"{}":
            return b""
        name = digest(content)
        self.blobs[name] = content
        return name


def _extras(asked: Asked, choice: Sampled, placed: Placed, body: bytes | None) -> bytes:
    """Its JSON, to be kept. Messages are put in as they are: encoded once, with all the rest."""
    return msgspec.json.encode(
        Extras(
            messages=tuple(asked.messages),  # type: ignore[arg-type]
            matched=placed.matched,
            reply=choice.message if choice.message is not None else choice.text,  # type: ignore[arg-type]
            top_logprobs=choice.top_logprobs or RAW_NULL,
            body=msgspec.Raw(body) if body is not None else RAW_NULL,
            prompt_text=asked.prompt_text,
            routed_experts=choice.routed_experts or RAW_NULL,
        )
    )


def _keys_after(asked: Asked, choice: Sampled) -> tuple[bytes, bytes]:
    """The key and the loose key of the conversation with the reply; empty for what is no chat."""
    if not asked.prompt_key or choice.message is None:
        return b"", b""
    after = read_conversation([choice.message], after=(asked.prompt_key, asked.loose_prompt_key))
    return after.keys[0], after.loose_keys[0]


def _reasoning(choice: Sampled) -> bytes:
    reasoning = reasoning_of(choice.message) if choice.message else None
    return digest(reasoning.encode()) if reasoning else b""


def _ended_by_token(choice: Sampled) -> bool:
    return choice.finish_reason in ("stop", "tool_calls") and not isinstance(choice.stop_reason, str)


def _policy_version(spans: tuple[Span, ...], told: int | None, metadata: dict[str, Any]) -> int:
    """The engine's own, else what `/weights` said, else the metadata's."""
    named = re.fullmatch(r"v?([0-9]{1,18})", spans[0].version) if spans else None
    if named is not None:
        return int(named[1])
    return told if told is not None else metadata_version(metadata)
