"""A session that is talked through: what a gateway does with plans, without a gateway."""

from __future__ import annotations

from typing import Any

from moorage.capture.call import Call, Draft
from moorage.capture.chain import digest
from moorage.capture.messages import loose_key, message_key, read_conversation, reasoning_of, tools_digest
from moorage.capture.node import Node
from moorage.capture.packing import count, pack_ids, unpack_ids
from moorage.capture.tree import CallTree
from moorage.engines.rendering.ask import NeedsRecorded, PromptAsk, PromptPlan
from moorage.engines.rendering.plan import Renderer
from tests.unit.engines.rendering.families import NOW


class Talk:
    """One session: ask, plan, commit."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.tree = CallTree()
        self.recorded: dict[int, list[dict[str, Any]]] = {}

    def plan(self, messages: list[dict[str, Any]], **settings: Any) -> PromptPlan:
        """The plan, with recorded messages given when they are asked for; checks what holds for every plan."""
        ask = self.ask(messages, **settings)
        plan = self.renderer.plan(self.tree, ask)
        if isinstance(plan, NeedsRecorded):
            plan = self.renderer.plan(self.tree, ask, recorded=self.recorded[plan.node.seq][: plan.covered])
        assert isinstance(plan, PromptPlan)
        self._check(plan)
        return plan

    def ask(self, messages: list[dict[str, Any]], **settings: Any) -> PromptAsk:
        settings.setdefault("now", NOW)
        return PromptAsk(messages=list(messages), conversation=read_conversation(messages), **settings)

    def commit(
        self,
        messages: list[dict[str, Any]],
        plan: PromptPlan,
        sampled: list[int],
        reply: dict[str, Any] | None,
        *,
        tools: Any = None,
        finish: str = "stop",
    ) -> Node:
        """The call as the store would give it back."""
        seq = len(self.tree)
        keys = read_conversation(messages)
        reasoning = reasoning_of(reply) if reply else None
        draft = Draft(
            call_id=f"call-{seq}",
            request_id=f"request-{seq}",
            choice=0,
            session_id="session",
            parent=None if plan.parent is None else plan.parent.seq,
            keep=plan.keep,
            delta=plan.ids[4 * plan.keep :],
            completion=pack_ids(sampled),
            logprobs=None,
            finish_reason=finish,
            stop_token=finish != "length",
            mode="exact",
            verdict=plan.verdict,
            reason=plan.reason,
            prompt_key=keys.keys[-1] if messages else b"",
            reply_key=message_key(keys.keys[-1], reply) if reply else b"",
            loose_reply_key=loose_key(keys.loose_keys[-1], reply) if reply else b"",
            tools_digest=tools_digest(tools),
            reasoning_digest=digest(reasoning.encode()) if reasoning else b"",
        )
        node = self.tree.add(Call(record=draft, seq=seq, step_index=seq, hash=b""))
        self.recorded[seq] = [*messages, reply] if reply else [*messages]
        assert self.tree.path(node) == plan.ids + pack_ids(sampled)
        return node

    def _check(self, plan: PromptPlan) -> None:
        assert count(plan.ids) > 0
        if plan.parent is not None:
            path = self.tree.path(plan.parent)
            assert plan.ids[: 4 * plan.keep] == path[: 4 * plan.keep]
        if plan.verdict == "exact":
            assert plan.parent is not None
            assert plan.keep == plan.parent.path_tokens
        assert (plan.reason is not None) == (plan.verdict == "branch")


def ids_of(plan: PromptPlan) -> list[int]:
    return unpack_ids(plan.ids)
