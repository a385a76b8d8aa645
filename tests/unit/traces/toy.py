"""Sessions as a gateway records them, with a toy template: a message is a few ids, a reply is sampled at random.

What is said of each boundary comes from `moorage.capture.verdict`, told what the gateway tells it. Clients go on, ask
again, edit, trim, drop reasoning, change tools and system messages, cut the beginning off, ask for several choices,
and go away.
"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec

from moorage.capture.call import Call, Draft, Extras
from moorage.capture.chain import GENESIS, digest, encode_record, next_hash
from moorage.capture.messages import read_conversation, reasoning_of, tools_digest
from moorage.capture.packing import pack_floats, pack_ids
from moorage.capture.tree import CallTree
from moorage.capture.verdict import Facts, place
from moorage.pool.archive import KeptCall, Trace
from moorage.pool.contract import Trajectory

WORDS = ("one", "two ", " three", "naïve", "five\r\n", "six")
TOOLS: list[Any] = [
    [],
    [{"type": "function", "function": {"name": "add"}}],
    [{"function": {"name": "sub"}, "type": "f"}],
]
UID = "toy"


class ToySession:
    """Grows call by call."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.drafts: list[Draft] = []
        self.blobs: dict[bytes, bytes] = {}
        self.tree = CallTree()
        self._system_key: bytes | None = None
        self._conversations: list[list[dict[str, Any]]] = []
        """What clients have in hand after a reply."""

    def grow(self, requests: int) -> ToySession:
        for _ in range(requests):
            self.request()
        return self

    def request(self) -> None:
        """One chat request, placed as a passthrough turn places it."""
        dice = self.dice
        messages = self._messages()
        tools = dice.choice(TOOLS) if dice.random() < 0.2 else []
        conversation = read_conversation(messages)
        digest_of_tools = tools_digest(tools)
        found = self.tree.match_either(conversation.keys, conversation.loose_keys, tools=digest_of_tools)
        matched, covered, loose = found or (None, 0, False)
        new = messages[covered:]
        system_key = _system_key(conversation)
        prompt = pack_ids(_render(messages, tools))
        boundary = place(
            self.tree,
            prompt,
            matched=matched,
            facts=Facts(
                tools_digest=digest_of_tools,
                replies=sum(message["role"] == "assistant" for message in new[:-1]),
                loose=loose,
                system_changed=self._system_key not in (None, system_key),
            ),
        )
        self._system_key = system_key
        if tools:
            self.blobs[digest_of_tools] = msgspec.json.encode(tools)
        number = len(self.drafts)
        sampling = self._blob(msgspec.json.encode({"temperature": dice.random(), "n": 1}))
        delivered = dice.random() < 0.9
        for choice in range(dice.choice((1, 1, 1, 2))):
            self._commit(
                _reply(dice),
                messages,
                session_id=UID,
                call_id=f"call-{number}-{choice}",
                request_id=f"request-{number}",
                choice=choice,
                parent=boundary.parent.seq if boundary.parent else None,
                keep=boundary.keep,
                delta=prompt[4 * boundary.keep :],
                verdict=boundary.verdict,
                reason=boundary.reason,
                delivered=delivered,
                prompt_key=conversation.keys[-1],
                loose=conversation.loose_keys[-1],
                tools_digest=digest_of_tools,
                sampling_digest=sampling,
                extras=Extras(
                    messages=tuple(msgspec.Raw(msgspec.json.encode(message)) for message in new),
                    matched=matched.seq if matched else None,
                ),
            )

    def kept(self) -> list[KeptCall]:
        """As an archive gives them."""
        previous, kept = GENESIS, []
        for seq, draft in enumerate(self.drafts):
            record = encode_record(draft)
            previous = next_hash(previous, seq, record)
            kept.append(
                KeptCall(
                    seq=seq,
                    step_index=seq,
                    late=False,
                    delivered=draft.delivered,
                    policy_version=draft.policy_version,
                    reward=None,
                    hash=previous,
                    record=record,
                    extras=self.blobs[draft.extras_digest],
                )
            )
        return kept

    def trace(self) -> Trace:
        return Trace(1, toy_trajectory(len(self.drafts)))

    def _messages(self) -> list[dict[str, Any]]:
        """A fresh conversation, or one that goes on, its history as it was or changed."""
        dice = self.dice
        if not self._conversations or dice.random() < 0.15:
            system = [{"role": "system", "content": dice.choice(WORDS)}] if dice.random() < 0.5 else []
            return [*system, _question(dice)]
        history = [dict(message) for message in dice.choice(self._conversations)]
        _change(history, dice)
        return [*history, _question(dice)]

    def _commit(
        self, reply: dict[str, Any], messages: list[dict[str, Any]], *, loose: bytes, extras: Extras, **fields: Any
    ) -> None:
        dice = self.dice
        ids = [*_ids(reply), 99]
        answered = read_conversation([reply], after=(fields["prompt_key"], loose))
        reasoning = reasoning_of(reply)
        named = self._blob(
            msgspec.json.encode(msgspec.structs.replace(extras, reply=msgspec.Raw(json.dumps(reply).encode())))
        )
        draft = Draft(
            **fields,
            completion=pack_ids(ids),
            logprobs=pack_floats([-dice.random() for _ in ids]),
            finish_reason="stop",
            stop_token=True,
            reply_key=answered.keys[0],
            loose_reply_key=answered.loose_keys[0],
            reasoning_digest=digest(reasoning.encode()) if reasoning else b"",
            extras_digest=named,
            created_at=1.0 + len(self.drafts),
        )
        self.drafts.append(draft)
        seq = len(self.drafts) - 1
        self.tree.add(Call(record=draft, seq=seq, step_index=seq, hash=b""))
        self._conversations.append([*messages, reply])

    def _blob(self, content: bytes) -> bytes:
        self.blobs[digest(content)] = content
        return digest(content)


def toy_trajectory(calls: int) -> Trajectory:
    return Trajectory(
        uid=UID,
        kind="trajectory",
        prompt_uid="p",
        channel=None,
        channel_fixed=True,
        state="open",
        metadata={},
        options={},
        created_at=1.0,
        completed_at=None,
        calls=calls,
        version=calls,
    )


def _change(history: list[dict[str, Any]], dice: random.Random) -> None:
    """What clients do to what they were given."""
    how = dice.choice(("as it is", "as it is", "as it is", "edit", "trim", "unreason", "cut", "system"))
    replies = [message for message in history if message["role"] == "assistant"]
    if how == "edit":
        dice.choice(history)["content"] = "edited"
    elif how == "trim":
        one = dice.choice(history)
        one["content"] = one["content"].strip()
    elif how == "unreason" and replies:
        dice.choice(replies).pop("reasoning", None)
    elif how == "cut" and len(history) > 2:
        del history[: dice.randrange(1, len(history) - 1)]
    elif how == "system" and history[0]["role"] == "system":
        history[0]["content"] = "another system"


def _question(dice: random.Random) -> dict[str, Any]:
    return {"role": "user", "content": dice.choice(WORDS)}


def _reply(dice: random.Random) -> dict[str, Any]:
    reply = {"role": "assistant", "content": " ".join(dice.choices(WORDS, k=2))}
    if dice.random() < 0.3:
        reply["reasoning"] = dice.choice(WORDS)
    return reply


def _render(messages: list[dict[str, Any]], tools: list[Any]) -> list[int]:
    """The last reply keeps its reasoning, as templates that strip earlier thoughts have it."""
    ids = [1, *([7, len(json.dumps(tools))] if tools else [])]
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    for at, message in enumerate(messages):
        said = message if at == last else {**message, "reasoning": None}
        ids += [2, len(message["role"]), *_ids(said), 99]
    return [*ids, 2, 9]


def _ids(message: dict[str, Any]) -> list[int]:
    thought = [3, *map(ord, message.get("reasoning") or ""), 4] if message.get("reasoning") else []
    return [*thought, *map(ord, message["content"].strip())]


def _system_key(conversation: Any) -> bytes:
    key = b""
    for message, after in zip(conversation.messages, conversation.keys, strict=True):
        if message["role"] != "system":
            break
        key = after
    return key
