"""What a request asks of the renderer, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from moorage.capture.call import Reason, Verdict
from moorage.capture.messages import Conversation
from moorage.capture.node import Node

__all__ = ["NeedsRecorded", "PromptAsk", "PromptPlan"]


class PromptAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One chat request of an exact session."""

    messages: list[dict[str, Any]]
    conversation: Conversation
    """The keys of those messages."""
    tools: list[Any] | None = None
    """None and [] are the same. What `tool_choice` leaves of them is the caller's to say."""
    add_generation_prompt: bool = True
    template_kwargs: Mapping[str, Any] | None = None
    """The client's `chat_template_kwargs`."""
    preserve_think_blocks: bool = True
    """False: earlier turns as the template renders them, which may leave out what the model thought."""
    escape_special: bool = False
    """The text of special tokens in user and tool messages is encoded as plain text."""
    prompt_limit: int | None = None
    """Keep at most so many tokens, the last ones."""
    continue_final_message: bool = False
    """The last message is the beginning of the reply."""
    now: datetime | None = None
    """For templates that write today's date; such a template fails without it."""
    tools_digest: bytes | None = None
    """`moorage.capture.messages.tools_digest(tools)`; None: not computed yet."""
    system_changed: bool = False
    """The leading system messages are not those of the session's last request."""
    kwargs_changed: bool = False
    """`template_kwargs` are not those of the session's last request. Templates may write them (a reasoning effort)
    before everything else: then it is looked whether the continued call's prompt begins as this one has to."""


class PromptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The prompt to send, and how it continues the session."""

    ids: bytes
    """[P] uint32."""
    parent: Node | None
    keep: int
    """The first `keep` tokens are those of the parent's path."""
    verdict: Verdict
    reason: Reason | None
    matched: Node | None
    """The call whose reply the messages continue; None: none."""
    covered: int
    """How many of the messages the matched call and those before it account for."""


class NeedsRecorded(msgspec.Struct, frozen=True):
    """The messages are only loosely those of a call: ask again with what was recorded of it."""

    node: Node
    covered: int
    """The first `covered` messages, as they were recorded, are needed: the node's request and its reply."""
