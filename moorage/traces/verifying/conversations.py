"""What the extras say of a call's request, checked against the keys in its record."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.capture.call import Call, Extras
from moorage.capture.messages import START, message_key, read_conversation
from moorage.capture.tree import CallTree, Node
from moorage.traces.verifying.faults import Findings

__all__ = ["Said", "Saids"]


class Said(msgspec.Struct, frozen=True):
    """The request of one call, as far as it was kept."""

    matched: Node | None
    """The call whose reply its messages continue."""
    new: list[dict[str, Any]]
    """The messages after that reply; all of them when nothing matched."""
    loose: bool
    """The messages before them are only loosely those of the matched call."""
    system_key: bytes | None
    """After the leading system messages; empty: there are none; None: not known."""


class Saids:
    """The requests of one session's calls, by `seq`."""

    def __init__(self) -> None:
        self._said: dict[int, Said] = {}
        self._system_keys: dict[bytes | None, int] = {}
        """Each with the first call that had it."""

    def of(self, seq: int) -> Said | None:
        return self._said.get(seq)

    def system_keys(self, seq: int) -> set[bytes | None]:
        """Those of calls before `seq`."""
        return {key for key, first in self._system_keys.items() if first < seq}

    def read(self, tree: CallTree, node: Node, call: Call, extras: Extras | None, findings: Findings) -> Said | None:
        """The request of a chat call; None: it is none, or its messages were not kept."""
        if extras is None or not call.record.prompt_key:
            return None
        matched = self._matched(tree, call, extras, findings)
        if matched is None and extras.matched is not None:
            return None
        new = [msgspec.json.decode(message) for message in extras.messages]
        said = self._check(call, extras, matched, new, findings)
        if said is not None:
            self._said[node.seq] = said
            self._system_keys.setdefault(said.system_key, node.seq)
        return said

    def _matched(self, tree: CallTree, call: Call, extras: Extras, findings: Findings) -> Node | None:
        if extras.matched is None:
            return None
        if 0 <= extras.matched < call.seq and extras.matched < len(tree):
            return tree.node(extras.matched)
        findings.fault(call.record.session_id, call.seq, "matched", f"call {extras.matched} is no earlier call")
        return None

    def _check(
        self, call: Call, extras: Extras, matched: Node | None, new: list[dict[str, Any]], findings: Findings
    ) -> Said | None:
        record = call.record
        after = (START, START) if matched is None else (matched.reply_key, matched.loose_reply_key)
        conversation = read_conversation(new, after=after)
        key, loose_key = (conversation.keys[-1], conversation.loose_keys[-1]) if new else after
        strict = key == record.prompt_key
        reply = msgspec.json.decode(extras.reply)
        if not isinstance(reply, dict):
            return None
        answered = read_conversation([reply], after=(record.prompt_key, loose_key)).loose_keys[0]
        if not strict and (matched is None or answered != record.loose_reply_key):
            findings.fault(record.session_id, call.seq, "prompt_key", "it is not that of the messages in the extras")
            return None
        if message_key(record.prompt_key, reply) != record.reply_key:
            findings.fault(record.session_id, call.seq, "reply_key", "it is not that of the reply in the extras")
            return None
        return Said(matched, new, not strict, self._system_key(matched, conversation.keys, new, strict=strict))

    def _system_key(
        self, matched: Node | None, keys: list[bytes], new: list[dict[str, Any]], *, strict: bool
    ) -> bytes | None:
        if matched is not None:
            before = self._said.get(matched.seq)
            # Of a loose match only the recorded words are kept, not those that were sent.
            known = before is not None and (strict or not before.system_key)
            return before.system_key if before is not None and known else None
        leading = b""
        for message, key in zip(new, keys, strict=True):
            if message.get("role") not in ("system", "developer"):
                break
            leading = key
        return leading
