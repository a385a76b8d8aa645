"""Which node a request continues, by messages and by tokens: by table; the laws are in test_tree_laws."""

from __future__ import annotations

import pytest

from moorage.capture.messages import read_conversation
from moorage.capture.packing import pack_ids, unpack_ids
from moorage.capture.tree import CallTree
from tests.unit.capture.sessions import Session

A, B, C, D = b"a" * 16, b"b" * 16, b"c" * 16, b"d" * 16


def test_an_empty_tree_knows_nothing():
    tree = CallTree()
    assert len(tree) == 0
    assert tree.leaves() == []
    assert tree.match([A]) is None
    assert tree.match_either([A], [A]) is None
    assert tree.longest_prefix(pack_ids([1])) == (None, 0)
    assert tree.whole_prefix(pack_ids([1])) is None
    with pytest.raises(KeyError):
        tree.node(0)


def test_a_call_as_a_node():
    session = Session()
    root = session.add(delta=[1, 2], completion=[3], reply_key=A, tools_digest=D, finish_reason="length")
    node = session.extend(root, [4, 5], [6, 7], prompt_key=B, reply_key=C, tools_digest=D, reasoning_digest=B)
    assert (node.seq, node.parent, node.keep, node.prompt_tokens, node.path_tokens) == (1, root, 3, 5, 7)
    assert unpack_ids(node.delta) == [4, 5]
    assert unpack_ids(node.completion) == [6, 7]
    assert unpack_ids(session.tree.prompt(node)) == [1, 2, 3, 4, 5]
    assert unpack_ids(session.tree.path(node)) == [1, 2, 3, 4, 5, 6, 7]
    assert (node.prompt_key, node.reply_key, node.loose_reply_key) == (B, C, C)
    assert (node.tools_digest, node.reasoning_digest, root.finish_reason) == (D, B, "length")
    assert (node.request_id, node.choice, node.mode) == ("request-1", 0, "passthrough")
    assert (root.verdict, node.verdict, node.reason) == ("root", "exact", None)
    assert node.delivered and node.stop_token and node.extends and not root.extends
    assert session.tree.node(1) is node


def test_the_digests_may_be_given_beside_an_older_record():
    session = Session()
    session.add(delta=[1], completion=[2], reply_key=A)
    call = session.calls[0]
    tree = CallTree()
    node = tree.add(call, loose_reply_key=B, reasoning_digest=C)
    assert (node.loose_reply_key, node.reasoning_digest) == (B, C)
    assert tree.match_loose([B]) == (node, 1)
    assert tree.match([B]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"keep": 1},
        {"parent": 1},
        {"parent": 2},
        {"parent": -1},
        {"parent": 0, "keep": 4},
        {"parent": 0, "keep": -1},
    ],
)
def test_what_cannot_be_is_refused_and_leaves_the_tree_as_it_was(fields):
    session = Session()
    session.add(delta=[1, 2], completion=[3])
    with pytest.raises(ValueError, match="call 1"):
        session.add(delta=[9], completion=[9], **fields)
    assert len(session.tree) == 1
    assert session.tree.longest_prefix(pack_ids([9])) == (None, 0)


def test_calls_come_in_order():
    session = Session()
    session.add(delta=[1], completion=[2])
    with pytest.raises(ValueError, match="seq is 1"):
        session.tree.add(session.calls[0])


def test_a_whole_number_of_ids():
    session = Session()
    session.add(delta=[1], completion=[2])
    from msgspec.structs import replace

    call = replace(session.calls[0], record=replace(session.calls[0].record, delta=b"\1\2\3"))
    with pytest.raises(ValueError, match="3 and 4 bytes"):
        CallTree().add(call)


# By messages


def conversation(*texts: str) -> list[bytes]:
    roles = ["user", "assistant"]
    return read_conversation([{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]).keys


def test_the_longest_match_over_all_nodes_whatever_the_order():
    session = Session()
    keys = conversation("1", "2", "3", "4", "5")
    deep = session.add(delta=[1], completion=[2], reply_key=keys[3])
    shallow = session.add(delta=[1], completion=[2], reply_key=keys[1])
    assert session.tree.match(keys) == (deep, 4)
    assert session.tree.match(keys[:3]) == (shallow, 2)
    assert session.tree.match(keys[:1]) is None


def test_siblings_of_which_one_begins_the_other():
    """Atropos takes the first node whose text begins the prompt: continuing "10" then rewrites "1"."""
    session = Session()
    ask = conversation("count", "1", "on")
    ten = conversation("count", "10", "on")
    first = session.add(delta=[5], completion=[1], reply_key=ask[1], request_id="r", choice=0)
    second = session.add(delta=[5], completion=[1, 0], reply_key=ten[1], request_id="r", choice=1)
    assert session.tree.match(ask) == (first, 2)
    assert session.tree.match(ten) == (second, 2)
    assert session.tree.longest_prefix(pack_ids([5, 1, 0, 9])) == (second, 3)
    assert session.tree.longest_prefix(pack_ids([5, 1, 9])) == (first, 2)


@pytest.mark.parametrize(
    ("nodes", "chosen"),
    [
        pytest.param([{}, {}], 1, id="the one committed last"),
        pytest.param([{}, {"delivered": False}], 0, id="a delivered one"),
        pytest.param([{"delivered": False}, {"delivered": False}], 1, id="undelivered when there is no other"),
        pytest.param(
            [{"request_id": "r", "choice": 0}, {"request_id": "r", "choice": 1}], 0, id="the lowest choice of a request"
        ),
        pytest.param(
            [{"request_id": "q"}, {"request_id": "r", "choice": 0}, {"request_id": "r", "choice": 1}],
            1,
            id="the lowest choice of the last request",
        ),
        pytest.param([{"tools_digest": D}, {"tools_digest": B}], 0, id="the one with these tools"),
        pytest.param([{"tools_digest": D, "delivered": False}, {}], 1, id="delivered before tools"),
    ],
)
def test_one_of_equals(nodes, chosen):
    session = Session()
    added = [session.add(delta=[1], completion=[2], reply_key=A, **fields) for fields in nodes]
    assert session.tree.match([A], tools=D) == (added[chosen], 1)
    assert session.tree.match_loose([A], tools=D) == (added[chosen], 1)


def test_an_undelivered_node_that_matches_more_is_the_longest():
    session = Session()
    session.add(delta=[1], completion=[2], reply_key=A)
    deep = session.add(delta=[1], completion=[2], reply_key=B, delivered=False)
    assert session.tree.match([A, b"", B]) == (deep, 3)


def test_token_prompts_match_no_messages():
    session = Session()
    session.add(delta=[1], completion=[2])
    assert session.tree.match([b""]) is None


def test_a_loose_match_is_only_taken_where_it_is_longer():
    session = Session()
    strict = session.add(delta=[1], completion=[2], reply_key=A, loose_reply_key=A)
    loose = session.add(delta=[1], completion=[2], reply_key=B, loose_reply_key=C)
    tree = session.tree
    assert tree.match_either([A], [A]) == (strict, 1, False)
    assert tree.match_either([A, D, B], [A, D, C]) == (loose, 3, False)
    assert tree.match_either([A, D, D], [A, D, C]) == (loose, 3, True)
    assert tree.match_either([D], [C]) == (loose, 1, True)
    assert tree.match_either([D], [D]) is None


# By tokens


def test_the_deepest_node_whose_whole_path_begins_the_prompt():
    session = Session()
    root = session.add(delta=[1, 2], completion=[3])
    child = session.extend(root, [4], [5])
    for prompt, expected in [
        ([1, 2, 3, 4, 5, 6], (child, 5)),
        ([1, 2, 3, 4, 5], (child, 5)),
        ([1, 2, 3, 9], (root, 3)),
        ([1, 2, 3], (root, 3)),
    ]:
        assert session.tree.longest_prefix(pack_ids(prompt)) == expected
    assert session.tree.whole_prefix(pack_ids([1, 2, 3, 4, 5, 6])) is child
    assert session.tree.whole_prefix(pack_ids([1, 2])) is None


def test_the_same_prompt_again_goes_on_from_the_same_node():
    """A regenerated turn is a sibling of the first, not a branch from it, though the two share their prompt."""
    session = Session()
    root = session.add(delta=[1, 2], completion=[3])
    session.extend(root, [4, 5], [6])
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5])) == (root, 3)
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 8])) == (root, 3)


def test_a_reply_put_in_place_of_the_sampled_one_parts_from_it():
    session = Session()
    root = session.add(delta=[1, 2], completion=[3])
    child = session.extend(root, [4, 5], [6, 7, 8])
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5, 6, 9, 9])) == (child, 6)
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5, 9])) == (child, 5)


def test_an_edited_history_parts_from_the_same_node_again():
    """Although the first branch shares more of its tokens, and its parent all of theirs."""
    session = Session()
    root = session.add(delta=[1, 2], completion=[3])
    child = session.extend(root, [4, 5], [6, 7, 8])
    session.add(parent=1, keep=6, delta=[9, 10, 11], completion=[12], verdict="branch", reason="edited")
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5, 6, 9, 10, 11])) == (child, 6)
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5, 6, 9, 10, 13])) == (child, 6)


def test_a_part_of_a_prompt_is_shared_when_nothing_else_is():
    session = Session()
    root = session.add(delta=[1, 2], completion=[3])
    assert session.tree.longest_prefix(pack_ids([1, 9])) == (root, 1)
    assert session.tree.longest_prefix(pack_ids([9])) == (None, 0)
    assert session.tree.longest_prefix(b"") == (None, 0)


def test_siblings_with_the_same_ids_are_two_nodes():
    """Atropos's tree collapses them into one."""
    session = Session()
    first = session.add(delta=[1], completion=[2], request_id="r", choice=0)
    second = session.add(delta=[1], completion=[2], request_id="r", choice=1)
    assert len(session.tree) == 2
    assert session.tree.path(first) == session.tree.path(second)
    assert session.tree.longest_prefix(pack_ids([1, 2, 3])) == (first, 2)
    assert session.tree.leaves() == [first, second]
    child = session.extend(second, [3], [4])
    assert session.tree.longest_prefix(pack_ids([1, 2, 3, 4, 5])) == (child, 4)
    assert session.tree.leaves() == [first, child]


def test_an_empty_completion_and_an_empty_call():
    session = Session()
    empty = session.add(delta=[1, 2], completion=[])
    nothing = session.add(delta=[], completion=[])
    assert session.tree.longest_prefix(pack_ids([1, 2, 3])) == (empty, 2)
    assert session.tree.path(nothing) == b""
    later = session.extend(nothing, [7], [8])
    assert unpack_ids(session.tree.path(later)) == [7, 8]
    assert session.tree.leaves() == [empty, later]


def test_siblings_share_their_prompt_in_memory():
    session = Session()
    prompt = list(range(10_000))
    nodes = [session.add(delta=prompt, completion=[at], request_id="r", choice=at) for at in range(64)]
    strands = {id(node.strand): len(node.strand.ids) for node in nodes}
    assert sum(strands.values()) == 4 * (10_000 + 64)
    assert [unpack_ids(node.completion) for node in nodes] == [[at] for at in range(64)]


# Leaves


def test_an_extension_keeps_its_nodes_place():
    session = Session()
    one = session.add(delta=[1], completion=[2])
    two = session.add(delta=[3], completion=[4])
    assert session.tree.leaves() == [one, two]
    longer = session.extend(one, [5], [6])
    assert session.tree.leaves() == [longer, two]


def test_eight_siblings_each_extended_are_eight_leaves():
    session = Session()
    nodes = [session.add(delta=[1], completion=[10 + at], request_id="r", choice=at) for at in range(8)]
    assert session.tree.leaves() == nodes
    longer = [session.extend(node, [2], [20 + node.seq]) for node in reversed(nodes)]
    assert session.tree.leaves() == longer[::-1]
    others = [session.add(delta=[9, 1], completion=[10 + at], request_id="s", choice=at) for at in range(8)]
    assert session.tree.leaves() == longer[::-1] + others


def test_two_samples_of_the_next_turn_are_two_leaves_the_first_in_the_old_place():
    session = Session()
    root = session.add(delta=[1], completion=[2])
    other = session.add(delta=[5], completion=[6])
    first = session.extend(root, [3], [4], request_id="r", choice=0)
    second = session.extend(root, [3], [7], request_id="r", choice=1)
    assert session.tree.leaves() == [first, other, second]


def test_a_branch_leaves_the_node_it_parts_from():
    session = Session()
    root = session.add(delta=[1, 2], completion=[3, 4])
    branch = session.add(parent=0, keep=3, delta=[9], completion=[8], verdict="branch", reason="edited")
    assert session.tree.leaves() == [root, branch]


def test_an_undelivered_call_hides_nothing():
    session = Session()
    root = session.add(delta=[1], completion=[2])
    lost = session.extend(root, [3], [4], delivered=False)
    assert session.tree.leaves(include_undelivered=False) == [root]
    assert session.tree.leaves() == [lost]
    found = session.extend(lost, [5], [6])
    assert session.tree.leaves(include_undelivered=False) == [found]
    again = session.extend(root, [3], [7])
    assert session.tree.leaves(include_undelivered=False) == [found, again]
