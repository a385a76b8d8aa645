"""The prompt of one chat request: the ids of the call it continues, as they are, and what it adds, rendered.

| the request | the prompt | verdict |
| --- | --- | --- |
| answers no call of the session | rendered whole | as `moorage.capture.verdict` places it |
| continues a call | that call's path and the tail | exact |
| continues it loosely, and the template sees no difference | the same | exact |
| continues it loosely, and the template does; or echoes it with other reasoning | from the call before it on, the \
edited text in the tail | branch, edited |
| has other tools, or the template changes what it wrote before | rendered around the sampled turns | exact where it \
is all the same, else branch: tools_changed, template |
| wants thoughts left out that the template leaves out | rendered around what is left of the turns | exact, or branch: \
reasoning_stripped |
| has a tail that does not begin at a special token | rendered whole | branch, unproven_tail |
| is longer than the limit | its last tokens | branch, truncated |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.capture.call import Reason
from moorage.capture.chain import digest
from moorage.capture.messages import reasoning_of, tools_digest
from moorage.capture.node import Node
from moorage.capture.packing import ID_BYTES, count, pack_ids, unpack_ids
from moorage.capture.strand import read_path
from moorage.capture.tree import CallTree
from moorage.capture.verdict import Boundary, Facts, place
from moorage.engines.rendering.ask import NeedsRecorded, PromptAsk, PromptPlan
from moorage.engines.rendering.escaping import Escape
from moorage.engines.rendering.sentinel import Scene, mark_of
from moorage.engines.rendering.shapes import Question, Shapes, scene_key
from moorage.engines.rendering.splice import SampledTurn, Splicer
from moorage.engines.rendering.tail import MOST_OVERLAP_TOKENS, joint, moves_head, tail_ids, window_of
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.textual import text_plan
from moorage.engines.rendering.thoughts import thinks
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.rendering.traits import Traits, probe
from moorage.errors import UsageError

__all__ = ["NeedsRecorded", "PromptAsk", "PromptPlan", "Renderer"]

CHECKED_TURNS = 4
"""The first tails of a session are compared with full renders, and then those of its calls 8, 16, 32 …

What a full render gives may be known from a shape (`moorage.engines.rendering.shapes`), as in most short sessions: that
is the same comparison, since a shape holds for the very texts it is filled with.
"""

BEFORE_TOKENS = 256
"""How much of the prompt before a sampled turn is looked at to prove where the turn begins."""

_ENDS = ID_BYTES * MOST_OVERLAP_TOKENS
"""How much of a turn and of its tail is looked at to see how they meet."""


class Renderer:
    """Plans prompts for one model; serves any number of sessions."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.shapes = Shapes(template, tokenizer)
        self._traits = {
            (with_tools, with_system): probe(template, tokenizer, with_tools=with_tools, with_system=with_system)
            for with_tools in (False, True)
            for with_system in (False, True)
        }
        self._windows = True

    def plan(
        self, tree: CallTree, ask: PromptAsk, *, recorded: Sequence[Mapping[str, Any]] | None = None
    ) -> PromptPlan | NeedsRecorded:
        """The prompt for `ask`. `recorded`: what an earlier NeedsRecorded asked for.

        Raises TemplateFault when the template refuses the messages, UsageError for a request without messages.
        """
        if not ask.messages:
            raise UsageError("messages is empty", code="messages_empty", hint="send at least one message")
        tools = tools_digest(ask.tools) if ask.tools_digest is None else ask.tools_digest
        return _Planning(self, tree, ask, tools).run(recorded)

    def text_plan(self, tree: CallTree, prompt: str | Sequence[int], *, prompt_limit: int | None = None) -> PromptPlan:
        """The prompt of a text completion (`moorage.engines.rendering.textual`)."""
        return text_plan(self.tokenizer, tree, prompt, prompt_limit=prompt_limit)

    def traits(self, ask: PromptAsk, new: Sequence[Mapping[str, Any]] = ()) -> Traits:
        """What is known of the template for requests like this one, which adds `new` messages."""
        with_tools = bool(ask.tools) or "tool" in [message.get("role") for message in new]
        return self._traits[with_tools, ask.messages[0].get("role") in ("system", "developer")]

    @property
    def windows(self) -> bool:
        """Whether tails are rendered from windows; a single difference to a full render ends that for good."""
        return self._windows

    def stop_windows(self) -> None:
        """A tail from a window was not that of the full render."""
        self._windows = False


class _Planning:
    """One request's way through the table above."""

    def __init__(self, renderer: Renderer, tree: CallTree, ask: PromptAsk, tools: bytes) -> None:
        self._renderer, self._tree, self._ask, self._tools = renderer, tree, ask, tools
        self._tokenizer, self._template = renderer.tokenizer, renderer.template
        self._traits = renderer.traits(ask)
        self._encoded: dict[str, bytes] = {}
        self._scene = Scene(
            tools=ask.tools or None,
            add_generation_prompt=ask.add_generation_prompt,
            continue_final=ask.continue_final_message,
            extra=ask.template_kwargs,
            now=ask.now,
        )
        self._scene_key = scene_key(self._scene)

    def run(self, recorded: Sequence[Mapping[str, Any]] | None) -> PromptPlan | NeedsRecorded:
        matched, covered = self._tree.match(self._ask.conversation.keys, tools=self._tools) or (None, 0)
        loosely = None
        if self._replies(covered):
            loosely = self._tree.match_loose(self._ask.conversation.loose_keys, tools=self._tools)
        if loosely is not None and loosely[1] > covered:
            if recorded is None:
                return NeedsRecorded(*loosely)
            if self._reads_as(recorded, loosely[1]):
                matched, covered = loosely
        while matched is not None and self._thought_otherwise(matched, covered):
            earlier = self._ask.conversation.keys[: covered - 1]
            matched, covered = self._tree.match(earlier, tools=self._tools) or (None, 0)
        return self._whole(None, 0, None) if matched is None else self._continue(matched, covered)

    def _continue(self, matched: Node, covered: int) -> PromptPlan:
        ask = self._ask
        new = ask.messages[covered:]
        self._traits = self._renderer.traits(ask, new)
        if covered == len(ask.messages) and ask.continue_final_message:
            return self._reopen(matched, covered)
        if matched.tools_digest != self._tools:
            return self._splice(matched, covered, "tools_changed", as_rendered=False)
        if not ask.preserve_think_blocks and self._has_thoughts(matched):
            return self._splice(matched, covered, "reasoning_stripped", as_rendered=True)
        if (
            not self._traits.steady
            or self._moves(covered, new)
            or (ask.kwargs_changed and self._begins_otherwise(matched))
        ):
            return self._splice(matched, covered, "template", as_rendered=False)
        tail = self._tail(covered - 1)
        if tail is None:
            return self._whole(matched, covered, "unproven_tail")
        off, skip = self._joint(_last_ids(matched), unpack_ids(tail[:_ENDS]))
        if off:
            path = self._tree.path(matched)[: -ID_BYTES * off]
            return self._planned(path + tail[ID_BYTES * skip :], matched, covered, "template")
        ids = self._tree.path(matched, more=tail[ID_BYTES * skip :])
        return self._planned(ids, matched, covered, None, extends=True)

    def _moves(self, covered: int, new: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the new messages change what was rendered before; questions and results never do, probes have it."""
        if all(message.get("role") in ("user", "tool") for message in new):
            return False
        mark = mark_of(self._ask.conversation.keys[-1], covered - 1)
        return moves_head(self._template, self._scene, self._ask.messages, covered - 1, mark=mark)

    def _begins_otherwise(self, matched: Node) -> bool:
        """Whether the template now writes another beginning than the continued call was given."""
        messages, given = self._ask.messages, self._scene
        users = (place for place, message in enumerate(messages[:4]) if message.get("role") == "user")
        scene = Scene(tools=given.tools, add_generation_prompt=False, extra=given.extra, now=given.now)
        try:
            ids = self._tokenizer.encode_whole(scene.render(self._template, messages[: next(users, 0) + 1]))
        except TemplateFault:
            return True
        while ids and ids[-1] not in self._tokenizer.atomic_ids:
            ids.pop()  # what comes after the last special token may be encoded otherwise in its place
        return not read_path((matched.strand, matched.path_tokens)).startswith(pack_ids(ids))

    def _tail(self, at: int) -> bytes | None:
        """[D] uint32 what stands after the content of message `at`; None: its beginning is not proven."""
        turns = self._traits.window if self._renderer.windows else None
        window = None if turns is None else window_of(self._ask.messages, at, turns)
        if window is None:
            return self._tail_of(self._ask.messages, at)
        short = self._tail_of(*window)
        if not _is_checked(len(self._tree)):
            return short
        whole = self._tail_of(self._ask.messages, at)
        if whole != short:
            self._renderer.stop_windows()
        return whole

    def _tail_of(self, messages: Sequence[Mapping[str, Any]], at: int) -> bytes | None:
        shapes = self._renderer.shapes
        asked = self._question(messages, at)
        known = None if asked is None else shapes.tail(asked, self._encoded)
        if known is not None:
            return known
        tail = tail_ids(
            self._template,
            self._tokenizer,
            self._scene,
            messages,
            at,
            mark=mark_of(self._ask.conversation.keys[-1], at),
            end_ids=self._traits.end_ids,
            escape=self._ask.escape_special,
        )
        if tail is None:
            return None
        if asked is not None:
            shapes.learn(asked, tail)
        return pack_ids(tail)

    def _question(self, messages: Sequence[Mapping[str, Any]], at: int | None) -> Question | None:
        return self._renderer.shapes.question(
            self._scene,
            self._scene_key,
            messages,
            at,
            mark=mark_of(self._ask.conversation.keys[-1], at or 0),
            end_ids=self._traits.end_ids,
            escape=self._ask.escape_special,
        )

    def _joint(self, completion: list[int], tail: list[int]) -> tuple[int, int]:
        traits = self._traits
        return joint(completion, tail, eos_ids=self._tokenizer.eos_ids, closer=traits.closer, openers=traits.openers)

    def _reopen(self, matched: Node, covered: int) -> PromptPlan:
        """Go on with a sampled turn: its path, without the token that ended it."""
        path = self._tree.path(matched)
        completion = unpack_ids(matched.completion[-4:])
        ended = bool(completion) and completion[-1] in self._traits.end_ids
        return self._planned(path[:-4] if ended else path, matched, covered, "template" if ended else None)

    def _splice(self, matched: Node, covered: int, reason: Reason, *, as_rendered: bool) -> PromptPlan:
        escape = self._escape()
        messages = self._ask.messages if escape is None else escape.messages
        splicer = Splicer(self._template, self._tokenizer, self._scene, self._traits, escape)
        turns = self._sampled_turns(matched, covered)
        ids = splicer.splice(messages, turns, self._ask.conversation.keys[-1], as_rendered=as_rendered)
        return self._planned(pack_ids(ids), matched, covered, reason)

    def _sampled_turns(self, matched: Node, covered: int) -> list[SampledTurn]:
        """The calls that sampled the assistant's messages up to the matched one."""
        on_way: dict[bytes, Node] = {}
        node: Node | None = matched
        while node is not None:
            on_way.setdefault(node.reply_key, node)
            node = node.parent
        turns = []
        keys = self._ask.conversation.keys
        for at in range(covered):
            if self._ask.messages[at].get("role") != "assistant":
                continue
            sampled = matched if at == covered - 1 else on_way.get(keys[at]) or self._exactly(keys[: at + 1])
            if sampled is not None:
                end = sampled.prompt_tokens
                before = read_path((sampled.strand, end), max(0, end - BEFORE_TOKENS))
                turns.append(SampledTurn(at, unpack_ids(sampled.completion), unpack_ids(before)))
        return turns

    def _exactly(self, keys: list[bytes]) -> Node | None:
        found = self._tree.match(keys)
        return found[0] if found is not None and found[1] == len(keys) else None

    def _has_thoughts(self, matched: Node) -> bool:
        """Whether any turn on the way thought; what began in one call's prompt may end in its completion."""
        node: Node | None = matched
        while node is not None:
            if node.reasoning_digest or thinks(self._tokenizer, unpack_ids(node.completion)):
                return True
            node = node.parent
        return False

    def _whole(self, matched: Node | None, covered: int, reason: Reason | None) -> PromptPlan:
        """Rendered whole, as the engine would."""
        shapes = self._renderer.shapes
        asked = self._question(self._ask.messages, None)
        known = None if asked is None else shapes.tail(asked, {})
        if known is not None:
            return self._planned(known, matched, covered, reason)
        escape = self._escape()
        if escape is None:
            ids = self._tokenizer.encode_whole(self._scene.render(self._template, self._ask.messages))
        else:
            ids = escape.encode_whole(self._scene.render(self._template, escape.messages))
        if asked is not None:
            shapes.learn(asked, ids)
        return self._planned(pack_ids(ids), matched, covered, reason)

    def _escape(self) -> Escape | None:
        return Escape(self._tokenizer, self._ask.messages) if self._ask.escape_special else None

    def _planned(
        self, ids: bytes, matched: Node | None, covered: int, reason: Reason | None, *, extends: bool = False
    ) -> PromptPlan:
        """`extends`: the ids begin with the whole path of `matched`."""
        limit = self._ask.prompt_limit
        cut = limit is not None and count(ids) > limit
        if cut and limit is not None:
            ids = ids[len(ids) - 4 * limit :]
            reason = "truncated"
        if extends and not cut and matched is not None and not self._replies(covered):
            # Known by how it was made: no need to compare a long path with itself.
            boundary = Boundary(matched, matched.path_tokens, "exact", None)
        else:
            boundary = self._boundary(ids, matched, covered, cut)
        return PromptPlan(
            ids=ids,
            parent=boundary.parent,
            keep=boundary.keep,
            verdict=boundary.verdict,
            reason=(reason or boundary.reason) if boundary.verdict == "branch" else None,
            matched=matched,
            covered=covered,
        )

    def _boundary(self, ids: bytes, matched: Node | None, covered: int, cut: bool) -> Boundary:
        facts = Facts(
            tools_digest=self._tools,
            replies=self._replies(covered),
            cut=cut,
            system_changed=self._ask.system_changed,
        )
        return place(self._tree, ids, matched=matched, facts=facts)

    def _replies(self, covered: int) -> int:
        """How many assistant's messages no call accounts for; one that is to be continued is no reply yet."""
        rest = self._ask.messages[covered:]
        if self._ask.continue_final_message:
            rest = rest[:-1]
        return [message.get("role") for message in rest].count("assistant")

    def _thought_otherwise(self, matched: Node, covered: int) -> bool:
        """The client gives back the reply with reasoning that is not what it was given."""
        if not matched.reasoning_digest:
            return False
        echoed = reasoning_of(self._ask.messages[covered - 1])
        return echoed is not None and digest(echoed.encode(errors="surrogatepass")) != matched.reasoning_digest

    def _reads_as(self, recorded: Sequence[Mapping[str, Any]], covered: int) -> bool:
        """Whether the template writes the client's messages as it writes the recorded ones."""
        given = self._scene
        scene = Scene(tools=given.tools, add_generation_prompt=False, extra=given.extra, now=given.now)
        try:
            mine = scene.render(self._template, self._ask.messages[:covered])
            return mine == scene.render(self._template, recorded)
        except TemplateFault:
            return False


def _last_ids(node: Node) -> list[int]:
    """The end of what was sampled."""
    start = max(node.prompt_tokens, node.path_tokens - MOST_OVERLAP_TOKENS)
    return unpack_ids(read_path((node.strand, node.path_tokens), start))


def _is_checked(calls: int) -> bool:
    return calls <= CHECKED_TURNS or calls & (calls - 1) == 0
