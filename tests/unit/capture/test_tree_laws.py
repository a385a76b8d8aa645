"""Laws of the tree over random sessions: siblings, branches, regenerated turns, edits, cuts, equal ids."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.packing import pack_ids, unpack_ids
from moorage.capture.tree import CallTree, Node
from tests.unit.capture.sessions import Session, shared


def grown(requests: int, seed: int) -> Session:
    """A session of that many requests. Three ids only, so that paths meet and part everywhere."""
    rng = random.Random(seed)
    session = Session()
    for number in range(requests):
        fields = {"delta": few(rng), "delivered": rng.random() < 0.8, "request_id": f"request-{number}"}
        nodes = session.tree.nodes()
        if nodes and rng.random() < 0.8:
            parent = rng.choice(nodes)
            keep = parent.path_tokens if rng.random() < 0.7 else rng.randint(0, parent.path_tokens)
            whole = keep == parent.path_tokens
            fields |= {"parent": parent.seq, "keep": keep}
            fields |= {"verdict": "exact"} if whole else {"verdict": "branch", "reason": "edited"}
        for choice in range(rng.choice([1, 1, 2, 3])):
            session.add(**fields, completion=few(rng), choice=choice)
    return session


def few(rng: random.Random) -> list[int]:
    return [rng.randrange(3) for _ in range(rng.randrange(6))]


def sessions() -> st.SearchStrategy[Session]:
    """Drawn as two numbers, so that thousands of calls are made in seconds; the number of requests shrinks."""
    return st.builds(grown, st.integers(0, 12), st.integers(0, 2**32))


@given(sessions())
@settings(max_examples=300)
def test_every_path_is_what_the_records_say(session):
    for call, path in zip(session.calls, session.paths(), strict=True):
        node = session.tree.node(call.seq)
        assert unpack_ids(session.tree.path(node)) == path
        assert session.tree.prompt(node) == session.tree.path(node)[: 4 * node.prompt_tokens]
        assert (node.delta, node.completion) == (call.record.delta, call.record.completion)
        assert (node.prompt_tokens, node.path_tokens) == (len(path) - len(node.completion) // 4, len(path))


@given(sessions(), st.lists(st.integers(0, 2), max_size=12), st.data())
@settings(max_examples=300)
def test_the_longest_prefix_is_the_longest_over_all_nodes(session, prompt, data):
    paths = session.paths()
    if paths and data.draw(st.booleans()):
        prompt = data.draw(st.sampled_from(paths)) + prompt[:4]
    node, keep = session.tree.longest_prefix(pack_ids(prompt))
    most = max((shared(path, prompt) for path in paths), default=0)
    whole = max((len(path) for path in paths if path == prompt[: len(path)]), default=0)
    if most == 0:
        assert (node, keep) == (None, 0)
        return
    assert shared(paths[node.seq], prompt) >= keep > 0
    if keep < node.path_tokens and node.prompt_tokens <= keep and node.prompt_tokens < len(prompt):
        assert whole < node.prompt_tokens or (whole == 0 and keep == most)  # parted from, beyond what is whole
    elif whole:
        assert keep == node.path_tokens == whole
    else:
        assert keep == most
    found = session.tree.whole_prefix(pack_ids(prompt))
    assert (found.path_tokens if found else 0) == whole
    for each in session.tree.nodes():
        assert session.tree.shared(each, pack_ids(prompt)) == shared(paths[each.seq], prompt)
        assert session.tree.begins(each, pack_ids(prompt)) == (paths[each.seq] == prompt[: len(paths[each.seq])])


@given(sessions())
@settings(max_examples=300)
def test_a_prompt_that_goes_on_from_a_node_finds_a_node_with_its_ids(session):
    """The reply of any node, echoed to the token and continued, is never re-read as something else."""
    for path in session.paths():
        prompt = [*path, 9]
        node, keep = session.tree.longest_prefix(pack_ids(prompt))
        if path:
            assert node is not None
            assert keep == node.path_tokens == len(path)
            assert unpack_ids(session.tree.path(node)) == path


@given(sessions())
@settings(max_examples=200)
def test_a_tree_read_again_is_the_same_tree(session):
    again = CallTree()
    for call in session.calls:
        again.add(call)
    assert [again.path(node) for node in again.nodes()] == [session.tree.path(node) for node in session.tree.nodes()]
    assert [node.seq for node in again.leaves()] == [node.seq for node in session.tree.leaves()]


@given(sessions(), st.booleans())
@settings(max_examples=300)
def test_every_chain_ends_in_one_leaf_and_no_leaf_is_extended(session, include_undelivered):
    nodes = [node for node in session.tree.nodes() if node.delivered or include_undelivered]
    leaves = session.tree.leaves(include_undelivered=include_undelivered)
    extended = {before.seq for node in nodes if (before := chain_before(node, include_undelivered))}
    assert {leaf.seq for leaf in leaves} == {node.seq for node in nodes} - extended
    assert len(leaves) == len({leaf.seq for leaf in leaves})


@given(sessions())
@settings(max_examples=300)
def test_a_leaf_stands_where_its_chain_began(session):
    """The order of the leaves is that of their chains' first nodes, where every node but a parent's first extension
    begins a chain of its own."""
    began: dict[int, int] = {}
    taken: set[int] = set()
    for node in session.tree.nodes():
        before = chain_before(node, include_undelivered=True)
        if before is not None and before.seq not in taken:
            taken.add(before.seq)
            began[node.seq] = began[before.seq]
        else:
            began[node.seq] = node.seq
    order = [began[leaf.seq] for leaf in session.tree.leaves()]
    assert order == sorted(order)


def chain_before(node: Node, include_undelivered: bool) -> Node | None:
    while node.parent is not None and node.keep == node.parent.path_tokens:
        node = node.parent
        if node.delivered or include_undelivered:
            return node
    return None
