"""A session that is talked through without a gateway and without an engine: what a record of it would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from moorage.capture.call import Call, Draft
from moorage.capture.chain import digest
from moorage.capture.messages import loose_key, message_key, read_conversation, reasoning_of, tools_digest
from moorage.capture.packing import pack_ids, unpack_ids
from moorage.capture.tree import CallTree
from moorage.engines.rendering.ask import NeedsRecorded, PromptAsk, PromptPlan
from moorage.engines.rendering.checking.finding import Outcome
from moorage.engines.rendering.checking.subject import Subject
from moorage.engines.rendering.template import TemplateFault

__all__ = ["Rehearsal"]


class Rehearsal:
    """One session of a subject; its calls are recorded as a gateway records them."""

    def __init__(
        self,
        subject: Subject,
        *,
        tools: bool = False,
        preserve_think_blocks: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._subject, self._preserve = subject, preserve_think_blocks
        self._tools = subject.tools if tools else None
        self._kwargs = {**subject.kwargs, **(extra or {})}
        self._tree = CallTree()
        self._recorded: list[list[dict[str, Any]]] = []
        self._system: list[Any] | None = None

    def plan(self, messages: Sequence[dict[str, Any]], *, now: datetime | None = None, **settings: Any) -> PromptPlan:
        """What the request would be sent as. Raises TemplateFault."""
        system = [message.get("content") for message in messages if message.get("role") == "system"][:1]
        ask = PromptAsk(
            messages=list(messages),
            conversation=read_conversation(messages),
            tools=self._tools,
            template_kwargs=self._kwargs,
            preserve_think_blocks=self._preserve,
            now=now or self._subject.now,
            system_changed=self._system not in (None, system),
            **settings,
        )
        plan = self._subject.renderer.plan(self._tree, ask)
        if isinstance(plan, NeedsRecorded):
            recorded = self._recorded[plan.node.seq][: plan.covered]
            plan = self._subject.renderer.plan(self._tree, ask, recorded=recorded)
        if isinstance(plan, NeedsRecorded):  # pragma: no cover - it was given what it asked for
            raise TypeError(plan)
        self._system = system
        return plan

    def commit(
        self, messages: Sequence[dict[str, Any]], plan: PromptPlan, sampled: Sequence[int], reply: dict[str, Any]
    ) -> None:
        """The engine sampled [C] ids, and the client was given `reply`."""
        seq, known, reasoning = len(self._tree), read_conversation(messages), reasoning_of(reply)
        draft = Draft(
            call_id=f"call-{seq}",
            request_id=f"request-{seq}",
            choice=0,
            session_id="rehearsal",
            parent=None if plan.parent is None else plan.parent.seq,
            keep=plan.keep,
            delta=plan.ids[4 * plan.keep :],
            completion=pack_ids(sampled),
            logprobs=None,
            finish_reason="tool_calls" if reply.get("tool_calls") else "stop",
            stop_token=True,
            mode="exact",
            verdict=plan.verdict,
            reason=plan.reason,
            prompt_key=known.keys[-1],
            reply_key=message_key(known.keys[-1], reply),
            loose_reply_key=loose_key(known.loose_keys[-1], reply),
            tools_digest=tools_digest(self._tools),
            reasoning_digest=digest(reasoning.encode()) if reasoning else b"",
        )
        self._tree.add(Call(record=draft, seq=seq, step_index=seq, hash=b""))
        self._recorded.append([*messages, reply])

    def take(
        self, messages: Sequence[dict[str, Any]], sampled: Sequence[int], reply: dict[str, Any], **settings: Any
    ) -> PromptPlan:
        """A whole turn: planned, sampled, recorded. Raises TemplateFault."""
        plan = self.plan(messages, **settings)
        self.commit(messages, plan, sampled, reply)
        return plan

    def outcome(self, case: str, messages: Sequence[dict[str, Any]], **settings: Any) -> Outcome:
        """What the record would say of this request, which is not recorded."""
        try:
            plan = self.plan(messages, **settings)
        except TemplateFault:
            return Outcome(case, "refused")
        return Outcome(case, plan.verdict, plan.reason)

    def continued(self, plan: PromptPlan) -> str:
        """The text of the call that the plan's messages continue, with what it sampled; empty: none."""
        path = b"" if plan.matched is None else self._tree.path(plan.matched)
        return self._subject.tokenizer.decode(unpack_ids(path), skip_special=False)

    def text(self, plan: PromptPlan) -> str:
        """The prompt's text, special tokens as their text."""
        return self._subject.tokenizer.decode(unpack_ids(plan.ids), skip_special=False)
