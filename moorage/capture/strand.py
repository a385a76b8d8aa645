"""The token paths of a session as a trie whose edges are long runs of ids.

A strand is a run of tokens that begins where it parts from another one. A conversation that only grows is one strand,
so its path is one copy and matching a prompt against it one comparison of memory, whatever the number of turns.
Siblings that were given one prompt share it.
"""

from __future__ import annotations

from moorage.capture.packing import ID_BYTES, common_prefix, count

__all__ = ["Place", "Strand", "begins", "insert", "read_path", "walk"]


class Strand:
    """Tokens from position `start` on; those before are the parent's. The strand without parent is empty, and the root.

    Two continuations of one place differ in their first token, so there is one way down for every prompt. The empty
    strand never grows; any other grows at its end, where it has no branches.
    """

    __slots__ = ("branches", "ids", "parent", "seqs", "start")

    def __init__(self, parent: Strand | None, start: int, ids: bytes | memoryview) -> None:
        self.parent = parent
        self.start = start
        self.ids = bytearray(ids)
        """[S] uint32."""
        self.branches: dict[tuple[int, bytes], Strand] | None = None
        """(position, first id packed) → strand; None: none, as for most strands."""
        self.seqs: list[int] = []
        """The calls whose paths end on this strand, by where they end."""

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.ids) // ID_BYTES


Place = tuple[Strand, int]
"""A strand and a position on it, start ≤ position ≤ end."""


def walk(place: Place, ids: bytes) -> list[Place]:
    """Follow [N] ids down from `place`: the strands gone through, each with the position where it was left.

    The last position minus the first one is how many of the ids were found.
    """
    strand, position = place
    steps: list[Place] = []
    done = 0
    while True:
        if strand.ids:  # the root has none
            shared = common_prefix(ids, strand.ids, a_from=done, b_from=position - strand.start)
            position += shared
            done += shared
        steps.append((strand, position))
        below = None
        if strand.branches is not None and done * ID_BYTES < len(ids):
            below = strand.branches.get((position, ids[done * ID_BYTES : (done + 1) * ID_BYTES]))
        if below is None:
            return steps
        strand = below


def insert(place: Place, ids: bytes) -> Strand:
    """Put [N] ids after `place`, sharing what is there already: the strand on which they end."""
    strand, position = _owner(place)
    if position == strand.end and strand.parent is not None:
        strand.ids += ids
        return strand
    strand, reached = walk((strand, position), ids)[-1]
    if reached - position == count(ids):
        return strand
    rest = memoryview(ids)[(reached - position) * ID_BYTES :]
    if reached == strand.end and strand.parent is not None:
        strand.ids += rest
        return strand
    new = Strand(strand, reached, rest)
    if strand.branches is None:
        strand.branches = {}
    strand.branches[(reached, bytes(rest[:ID_BYTES]))] = new
    return new


def read_path(place: Place, start: int = 0, *, more: bytes = b"") -> bytes:
    """[position - start] uint32: the tokens from `start` up to the place, and [M] `more` ids, in one copy."""
    strand, end = place
    if start >= strand.start:
        view = memoryview(strand.ids)[(start - strand.start) * ID_BYTES : (end - strand.start) * ID_BYTES]
        return b"".join((view, more)) if more else bytes(view)
    pieces: list[memoryview | bytes] = [more]
    above: Strand | None = strand
    while above is not None and end > start:
        if end > above.start:
            low = max(start, above.start)
            pieces.append(memoryview(above.ids)[(low - above.start) * ID_BYTES : (end - above.start) * ID_BYTES])
            end = low
        above = above.parent
    return b"".join(reversed(pieces))


def begins(place: Place, prompt: bytes) -> bool:
    """Whether [P] `prompt` begins with all tokens up to the place; compared where they lie, without a copy."""
    strand, end = place
    if len(prompt) < end * ID_BYTES:
        return False
    above: Strand | None = strand
    while above is not None:
        if end > above.start:
            if not prompt.startswith(memoryview(above.ids)[: (end - above.start) * ID_BYTES], above.start * ID_BYTES):
                return False
            end = above.start
        above = above.parent
    return True


def _owner(place: Place) -> Place:
    """The same position on the strand that decides what follows it: the start of a strand is a place of its parent."""
    strand, position = place
    while strand.parent is not None and position <= strand.start:
        strand = strand.parent
    return strand, position
