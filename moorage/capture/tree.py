"""The calls of one session as a tree: which node a request continues, by messages and by tokens.

Every call is a node. Its token path is its whole prompt and its completion; `parent` and `keep` say which part of it
is another call's. Tokens live once, in strands (`moorage.capture.strand`); a node only knows where its path ends.
Adding, finding and reading cost what the new turn adds, and one pass over the prompt's memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from moorage.capture.call import Call
from moorage.capture.node import Node
from moorage.capture.packing import ID_BYTES, common_prefix, count
from moorage.capture.strand import Place, Strand, begins, insert, read_path, walk

__all__ = ["CallTree", "Node"]


class CallTree:
    """The committed calls of a session, by `seq`. Not for several threads."""

    __slots__ = ("_by_reply", "_nodes", "_root")

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._root = Strand(None, 0, b"")
        self._by_reply: dict[bytes, Node | list[Node]] = {}
        """Reply keys, strict and loose, and whose they are."""

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, call: Call, *, loose_reply_key: bytes = b"", reasoning_digest: bytes = b"") -> Node:
        """Take a committed call; the two digests are for records that do not hold them themselves.

        Raises ValueError, and takes nothing, when the call is not the next one, its parent is unknown, or it keeps
        more than the parent's path has.
        """
        record = call.record
        parent = self._parent(call)
        place: Place = (parent.strand, record.keep) if parent is not None else (self._root, 0)
        strand = insert(place, record.delta + record.completion)
        prompt_tokens = record.keep + count(record.delta)
        node = Node(call, parent, strand, prompt_tokens, prompt_tokens + count(record.completion))
        if loose_reply_key:
            node.loose_reply_key = node.reply_key if loose_reply_key == node.reply_key else loose_reply_key
        node.reasoning_digest = reasoning_digest or node.reasoning_digest
        self._nodes.append(node)
        strand.seqs.insert(self._ending_by(strand, node.path_tokens), node.seq)
        self._index(node)
        return node

    def node(self, seq: int) -> Node:
        """Raises KeyError for a `seq` that was not added."""
        if not 0 <= seq < len(self._nodes):
            raise KeyError(seq)
        return self._nodes[seq]

    def nodes(self) -> Sequence[Node]:
        """All nodes by `seq`."""
        return tuple(self._nodes)

    def path(self, node: Node, *, more: bytes = b"") -> bytes:
        """[path_tokens] uint32: the node's prompt and completion, and [M] `more` ids after them."""
        return read_path((node.strand, node.path_tokens), more=more)

    def prompt(self, node: Node) -> bytes:
        """[prompt_tokens] uint32."""
        return read_path((node.strand, node.prompt_tokens))

    def begins(self, node: Node, prompt: bytes) -> bool:
        """Whether [P] `prompt` begins with the node's whole path."""
        return begins((node.strand, node.path_tokens), prompt)

    def shared(self, node: Node, prompt: bytes) -> int:
        """How many leading tokens of [P] `prompt` are the node's path's."""
        return node.path_tokens if self.begins(node, prompt) else common_prefix(self.path(node), prompt)

    def match(self, keys: Sequence[bytes], *, tools: bytes | None = None) -> tuple[Node, int] | None:
        """The node whose conversation is the longest beginning of the request's, and its length in messages.

        `keys[j - 1]` is the key after the request's first j messages. Among nodes of one conversation: delivered ones
        first, then those with these `tools` (a digest; None: any), then the request that was committed last, and of
        one request the lowest choice.
        """
        return self._match(keys, tools, loose=False)

    def match_loose(self, loose_keys: Sequence[bytes], *, tools: bytes | None = None) -> tuple[Node, int] | None:
        """The same over loose keys. That texts are only loosely equal is for the caller to settle."""
        return self._match(loose_keys, tools, loose=True)

    def match_either(
        self, keys: Sequence[bytes], loose_keys: Sequence[bytes], *, tools: bytes | None = None
    ) -> tuple[Node, int, bool] | None:
        """The longer one of the two matches, and whether it is only a loose one; of equal length the strict one."""
        for length in range(len(keys), 0, -1):
            node = self._at(keys[length - 1], tools, loose=False)
            if node is not None:
                return node, length, False
            node = self._at(loose_keys[length - 1], tools, loose=True)
            if node is not None:
                return node, length, True
        return None

    def longest_prefix(self, prompt: bytes) -> tuple[Node | None, int]:
        """The node that [P] `prompt` goes on from, and how many leading tokens it shares with that node's path.

        1. The deepest node whose whole path begins the prompt,
        2. but the deepest one that the prompt parts from, if that is further down: the prompt has its whole prompt
           and then something else than it sampled (an edited reply, a template that strips);
        3. the one that shares the most when there is neither, though it be a part of its prompt only.
        (None, 0): no node begins with the prompt's first token. The same prompt again has the same answer, unless
        calls that were added since are closer.
        """
        steps = walk((self._root, 0), prompt)
        strand, shared = steps[-1]
        if shared == 0:
            return None, 0
        whole = self._deepest(steps)
        parted = self._parted(steps, whole.path_tokens if whole is not None else 0, count(prompt))
        if parted is not None:
            return parted
        if whole is not None:
            return whole, whole.path_tokens
        return self._best_at(strand, self._ending_by(strand, shared)), shared

    def whole_prefix(self, prompt: bytes) -> Node | None:
        """The deepest node whose whole path begins the prompt; None: there is none."""
        return self._deepest(walk((self._root, 0), prompt))

    def leaves(self, *, include_undelivered: bool = True) -> list[Node]:
        """The last node of every chain, in the place of the chain's first node.

        A node goes on its parent's chain when it keeps the parent's whole path. The first to do so takes the parent's
        place; every other one has a place of its own, after all that are there. Without undelivered nodes, what went
        on from one of them goes on from the delivered node before it.
        """
        places: list[Node | None] = []
        held: dict[int, int] = {}
        for node in self._nodes:
            if not (node.delivered or include_undelivered):
                continue
            before = _chain_before(node, include_undelivered)
            at = held.pop(before.seq, None) if before is not None else None
            if at is None:
                at = len(places)
                places.append(None)
            places[at] = node
            held[node.seq] = at
        return [node for node in places if node is not None]

    def _parent(self, call: Call) -> Node | None:
        record = call.record
        if call.seq != len(self._nodes):
            raise ValueError(f"the next call's seq is {len(self._nodes)}, not {call.seq}")
        if len(record.delta) % ID_BYTES or len(record.completion) % ID_BYTES:
            raise ValueError(f"call {call.seq} has ids of {len(record.delta)} and {len(record.completion)} bytes")
        if record.parent is None:
            if record.keep:
                raise ValueError(f"call {call.seq} keeps {record.keep} tokens of no parent")
            return None
        if not 0 <= record.parent < call.seq:
            raise ValueError(f"call {call.seq} has the parent {record.parent}, which is no earlier call")
        parent = self._nodes[record.parent]
        if not 0 <= record.keep <= parent.path_tokens:
            raise ValueError(f"call {call.seq} keeps {record.keep} tokens of a path of {parent.path_tokens}")
        return parent

    def _index(self, node: Node) -> None:
        strict, loose = node.reply_key, node.loose_reply_key
        for key in (strict,) if loose == strict else (strict, loose):
            if not key:
                continue
            known = self._by_reply.get(key)
            if known is None:
                self._by_reply[key] = node
            elif isinstance(known, list):
                known.append(node)
            else:
                self._by_reply[key] = [known, node]

    def _match(self, keys: Sequence[bytes], tools: bytes | None, *, loose: bool) -> tuple[Node, int] | None:
        for length in range(len(keys), 0, -1):
            node = self._at(keys[length - 1], tools, loose=loose)
            if node is not None:
                return node, length
        return None

    def _at(self, key: bytes, tools: bytes | None, *, loose: bool) -> Node | None:
        """The preferred one of the nodes with that reply key, be it only loosely; None: there is none."""
        known = self._by_reply.get(key)
        if known is None:
            return None
        nodes = known if isinstance(known, list) else [known]
        if not loose:
            nodes = [node for node in nodes if node.reply_key == key]
        return _preferred(nodes, tools) if nodes else None

    def _end_of(self, seq: int) -> int:
        return self._nodes[seq].path_tokens

    def _ending_by(self, strand: Strand, position: int) -> int:
        """How many of the strand's nodes end at or before `position`."""
        seqs = strand.seqs
        if not seqs or self._nodes[seqs[-1]].path_tokens <= position:
            return len(seqs)  # as always when a conversation goes on
        return bisect_right(seqs, position, key=self._end_of)

    def _deepest(self, steps: list[Place]) -> Node | None:
        for strand, left_at in reversed(steps):
            at = self._ending_by(strand, left_at)
            if at and strand.parent is not None:
                return self._best_at(strand, at - 1)
        return None

    def _parted(self, steps: list[Place], beyond: int, length: int) -> tuple[Node, int] | None:
        """The deepest node from whose completion a prompt of `length` tokens parts, and where.

        Only nodes whose prompt is longer than `beyond`: what parts from others is another sample of theirs.
        """
        for strand, left_at in reversed(steps):
            if left_at <= beyond:
                break
            # A strand ends where a node does, and none ends here: there is one further on.
            node = self._best_at(strand, self._ending_by(strand, left_at))
            if beyond < node.prompt_tokens <= left_at and node.prompt_tokens < length:
                return node, left_at
        return None

    def _best_at(self, strand: Strand, at: int) -> Node:
        """The preferred one of the nodes that end where the strand's node number `at` does."""
        nodes, seqs = self._nodes, strand.seqs
        end = nodes[seqs[at]].path_tokens
        first, last = at, at
        while first > 0 and nodes[seqs[first - 1]].path_tokens == end:
            first -= 1
        while last + 1 < len(seqs) and nodes[seqs[last + 1]].path_tokens == end:
            last += 1
        return _preferred([nodes[seq] for seq in seqs[first : last + 1]], None)


def _preferred(nodes: Sequence[Node], tools: bytes | None) -> Node:
    if len(nodes) == 1:
        return nodes[0]
    last = max(nodes, key=lambda node: (node.delivered, node.tools_digest == tools, node.seq))
    same = [
        node
        for node in nodes
        if node.request_id == last.request_id
        and node.delivered == last.delivered
        and (node.tools_digest == tools) == (last.tools_digest == tools)
    ]
    return min(same, key=lambda node: node.choice)


def _chain_before(node: Node, include_undelivered: bool) -> Node | None:
    """The node whose chain this one goes on; None: it begins one."""
    while node.extends and node.parent is not None:
        node = node.parent
        if node.delivered or include_undelivered:
            return node
    return None
