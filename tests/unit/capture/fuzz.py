"""Random clients against a random template and a random engine: every boundary is checked against what was sent.

`python -m tests.unit.capture.fuzz --turns 1000000` is the long campaign; the tests run a short one.

The engine renders every prompt itself from the messages (passthrough), so the capture core sees what real engines show
it: text that comes back as other ids, stripped reasoning, closed turns, changed tools. Clients extend, regenerate,
edit, trim, cut, start anew, and go away.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from typing import Any

from moorage.capture.chain import digest
from moorage.capture.messages import loose_key, message_key, read_conversation, reasoning_of, tools_digest
from moorage.capture.packing import count, pack_ids
from moorage.capture.tree import Node
from moorage.capture.verdict import Boundary, Facts, place
from moorage.capture.views.nodes import MASKED, nodes_of
from tests.unit.capture.sessions import Session

BOS, SYSTEM, USER, ASSISTANT, END, THINK, UNTHINK, TOOLS = range(1, 9)
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
WORDS, HEADS, TAILS = 100, 200, 300
"""Word w is one token of 100…; an engine may also sample it as two, of 200… and 300…, which read the same."""

Message = dict[str, Any]


class World:
    """One session with its client, template and engine."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.session = Session()
        self.strips = rng.random() < 0.3
        self.drifts = rng.random() < 0.3
        self.thinks = rng.random() < 0.5
        self.system = self.words()
        self.tools: list[Any] | None = [{"name": "f"}] if rng.random() < 0.3 else None
        self.talks: list[tuple[list[Message], Message]] = []
        """The requests that were answered, and the answers."""
        self.seen: dict[tuple[bytes, bytes, bytes], tuple[tuple[str, str | None], int]] = {}
        """What was said of each request when it was made first, and how many calls there were then."""

    def words(self) -> str:
        return " ".join(f"w{self.rng.randrange(6)}" for _ in range(self.rng.randrange(1, 4)))

    def turn(self) -> tuple[Boundary, Facts]:
        """One request: made, rendered, placed, answered and committed; checked on the way."""
        messages = self.request()
        prompt = pack_ids(self.render(messages))
        conversation = read_conversation(messages)
        tree = self.session.tree
        found = tree.match_either(conversation.keys, conversation.loose_keys, tools=tools_digest(self.tools))
        matched, covered, loose = found or (None, 0, False)
        facts = Facts(
            tools_digest=tools_digest(self.tools),
            replies=sum(message["role"] == "assistant" for message in messages[covered:]),
            loose=loose,
        )
        boundary = place(tree, prompt, matched=matched, facts=facts)
        check(self.session, prompt, matched, boundary, facts)
        said = (boundary.verdict, boundary.reason)
        before, since = self.seen.setdefault((prompt, conversation.keys[-1], facts.tools_digest), (said, len(tree)))
        assert said == before or boundary.parent.seq >= since, "only what was sampled since may change the answer"
        request = f"request-{len(tree)}"
        for choice in range(self.rng.choice([1, 1, 1, 2, 3])):
            self.answer(messages, prompt, boundary, request, choice)
        return boundary, facts

    def request(self) -> list[Message]:
        """What the client sends next."""
        rng = self.rng
        opening = [{"role": "system", "content": self.system}, {"role": "user", "content": self.words()}]
        if not self.talks or rng.random() < 0.05:
            return opening
        asked, reply = self.talks[-1] if rng.random() < 0.7 else rng.choice(self.talks)
        if rng.random() < 0.1:
            return asked
        echo = dict(reply)
        if rng.random() < 0.5:
            echo.pop("reasoning_content", None)
        messages = [*asked, echo, {"role": "user", "content": self.words()}]
        kind = rng.random()
        if kind < 0.05:
            echo["content"] = self.words()
        elif kind < 0.1:
            echo["content"] += rng.choice([" ", "\n", "\r\n"])
        elif kind < 0.15:
            at = rng.randrange(len(messages))
            messages[at] = {**messages[at], "content": self.words()}
        elif kind < 0.18:
            del messages[1:3]
        elif kind < 0.22:
            self.tools = rng.choice([None, [{"name": "f"}], [{"name": "g"}]])
        return messages

    def render(self, messages: list[Message]) -> list[int]:
        """The template: one token a word, turns closed, reasoning of past turns kept or stripped."""
        ids = [BOS]
        if self.tools:
            ids += [TOOLS, *map(ord, self.tools[0]["name"])]
        for message in messages:
            ids.append(ROLES[message["role"]])
            reasoning = reasoning_of(message)
            if reasoning and not self.strips:
                ids += [THINK, *spell(reasoning), UNTHINK]
            ids += [*spell(message["content"]), END]
        return [*ids, ASSISTANT]

    def answer(self, messages: list[Message], prompt: bytes, boundary: Boundary, request: str, choice: int) -> None:
        rng = self.rng
        reply: Message = {"role": "assistant", "content": self.words()}
        ids: list[int] = []
        if self.thinks and rng.random() < 0.8:
            reply["reasoning_content"] = self.words()
            ids += [THINK, *spell(reply["reasoning_content"]), UNTHINK]
        ids += self.sample(reply["content"])
        truncated = rng.random() < 0.1
        if not truncated:
            ids.append(END)
        delivered = rng.random() > 0.05
        conversation = read_conversation(messages)
        reasoning = reasoning_of(reply)
        node = self.session.add(
            parent=boundary.parent.seq if boundary.parent else None,
            keep=boundary.keep,
            delta=memoryview(prompt).cast("I")[boundary.keep :].tolist(),
            completion=ids,
            verdict=boundary.verdict,
            reason=boundary.reason,
            delivered=delivered,
            finish_reason="length" if truncated else "stop",
            stop_token=not truncated,
            request_id=request,
            choice=choice,
            prompt_key=conversation.keys[-1],
            reply_key=message_key(conversation.keys[-1], reply),
            loose_reply_key=loose_key(conversation.loose_keys[-1], reply),
            reasoning_digest=digest(reasoning.encode()) if reasoning else b"",
            tools_digest=tools_digest(self.tools),
        )
        assert self.session.tree.prompt(node) == prompt
        assert node.completion == pack_ids(ids)
        if delivered:
            self.talks.append((messages, reply))

    def sample(self, text: str) -> list[int]:
        ids: list[int] = []
        for token in spell(text):
            if self.drifts and token >= WORDS and self.rng.random() < 0.3:
                ids += [token - WORDS + HEADS, token - WORDS + TAILS]
            else:
                ids.append(token)
        return ids


def spell(text: str) -> list[int]:
    """A token a word, one for each white space that is more than a single blank between words."""
    outer = [ord(char) for char in text if char in "\r\n"] + [32] * text.endswith(" ")
    return [WORDS + int(word[1:]) for word in text.split()] + outer


def check(session: Session, prompt: bytes, matched: Node | None, boundary: Boundary, facts: Facts) -> None:
    """What holds of every boundary, whatever the client did."""
    tree = session.tree
    parent, keep = boundary.parent, boundary.keep
    assert (parent is None) == (keep == 0)
    if parent is not None:
        assert tree.path(parent).startswith(prompt[: 4 * keep])
    kept = matched is not None and any(
        node.reply_key == matched.reply_key and prompt.startswith(tree.path(node)) for node in tree.nodes()
    )
    if boundary.verdict == "exact":
        assert parent is not None and keep == parent.path_tokens and boundary.reason is None
        assert matched is None or kept
        if facts.replies:
            assert not any(parts_from(session, prompt, node, parent.path_tokens) for node in tree.nodes())
    elif boundary.verdict == "root":
        assert parent is None and boundary.reason is None
        assert matched is None and (len(tree) == 0 or not facts.replies)
    else:
        assert boundary.reason is not None
        assert not kept or facts.replies
        assert keep < (count(tree.path(parent)) if parent else 1)
    if kept and facts.replies == 0:
        assert boundary.verdict == "exact" and parent.reply_key == matched.reply_key


def parts_from(session: Session, prompt: bytes, node: Node, beyond: int) -> bool:
    """The prompt has the node's whole prompt, and then something else than it sampled."""
    shared = session.tree.shared(node, prompt)
    return beyond < node.prompt_tokens <= shared < node.path_tokens and node.prompt_tokens < count(prompt)


def check_views(session: Session) -> None:
    """Every sampled token of a delivered call is unmasked, at its place, in every leaf that goes on from it."""
    paths = session.paths()
    for node in nodes_of(session.calls, lambda _ids: ""):
        leaf = int(node["metadata"]["call_id"].removeprefix("call-"))
        assert node["tokens"] == paths[leaf]
        at = session.tree.node(leaf)
        upto = at.path_tokens
        while at is not None:
            place_ = slice(at.prompt_tokens, at.path_tokens)
            whole = at.path_tokens <= upto and at.delivered
            if whole:
                assert node["masked_tokens"][place_] == node["tokens"][place_]
            upto = min(upto, at.keep)
            at = at.parent
        for token, masked, logprob in zip(node["tokens"], node["masked_tokens"], node["logprobs"], strict=True):
            assert (masked == MASKED) == (logprob == 1.0)
            assert masked in (MASKED, token)


def campaign(seed: int, turns: int) -> Counter[tuple[str, str | None]]:
    """`turns` turns in sessions of up to forty; how often each verdict and reason came."""
    rng = random.Random(seed)
    tally: Counter[tuple[str, str | None]] = Counter()
    while tally.total() < turns:
        world = World(rng)
        for _ in range(min(rng.randrange(1, 40), turns - tally.total())):
            boundary, _ = world.turn()
            tally[(boundary.verdict, boundary.reason)] += 1
        check_views(world.session)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for (verdict, reason), times in campaign(arguments.seed, arguments.turns).most_common():
        sys.stdout.write(f"{times:9} {verdict} {reason or ''}\n")


if __name__ == "__main__":
    main()
