"""What trainers read: nodes, steps and the Arrow table, and the law that holds between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.packing import pack_floats, pack_ids, unpack_floats, unpack_ids
from moorage.capture.views.nodes import MASKED, NOT_SAMPLED, nodes_of
from moorage.capture.views.steps import step_of, steps_of
from moorage.capture.views.table import arrow_table
from moorage.errors import FailedError
from tests.unit.capture.sessions import Session
from tests.unit.capture.test_tree_laws import sessions


def text_of(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def three_turns() -> Session:
    session = Session()
    root = session.add(delta=[1, 2], completion=[3, 4], logprobs=pack_floats([-0.1, -0.2]), policy_version=5)
    child = session.extend(root, [5], [6], logprobs=pack_floats([-0.3]), policy_version=6)
    session.extend(child, [7, 8], [9], logprobs=pack_floats([-0.4]), policy_version=7, finish_reason="length")
    return session


def test_a_conversation_is_one_node_with_every_turn_unmasked():
    """Atropos's completions forget what earlier turns sampled."""
    assert nodes_of(three_turns().calls, text_of) == [
        {
            "full_text": "1 2 3 4 5 6 7 8 9",
            "tokens": [1, 2, 3, 4, 5, 6, 7, 8, 9],
            "masked_tokens": [MASKED, MASKED, 3, 4, MASKED, 6, MASKED, MASKED, 9],
            "logprobs": [1.0, 1.0, -0.1, -0.2, 1.0, -0.3, 1.0, 1.0, -0.4],
            "metadata": {
                "finish_reason": "length",
                "call_id": "call-2",
                "parent_call_id": "call-1",
                "branch_reason": None,
                "boundaries": [
                    {"at": 0, "verdict": "root", "reason": None},
                    {"at": 4, "verdict": "exact", "reason": None},
                    {"at": 6, "verdict": "exact", "reason": None},
                ],
                "mode": "passthrough",
                "weight_version": 7,
            },
        }
    ]


def test_the_whole_tree_has_a_node_a_call_each_with_its_parent_and_earlier_turns_unmasked():
    """Atropos's tree masks earlier turns, and has no links."""
    nodes = nodes_of(three_turns().calls, text_of, track_tree=True)
    assert [node["metadata"]["call_id"] for node in nodes] == ["call-0", "call-1", "call-2"]
    assert [node["metadata"]["parent_call_id"] for node in nodes] == [None, "call-0", "call-1"]
    assert [node["masked_tokens"] for node in nodes][1] == [MASKED, MASKED, 3, 4, MASKED, 6]


def test_nothing_is_no_node():
    assert nodes_of([], text_of) == []
    assert steps_of([], prompt_uid=None) == []
    assert arrow_table([]).num_rows == 0


def test_siblings_stand_in_choice_order_and_are_extended_in_place():
    session = Session()
    siblings = [session.add(delta=[1], completion=[at], request_id="r", choice=at) for at in range(10, 13)]
    session.extend(siblings[2], [2], [3])
    assert [node["tokens"] for node in nodes_of(session.calls, text_of)] == [[1, 10], [1, 11], [1, 12, 2, 3]]


def test_equal_siblings_are_two_nodes():
    session = Session()
    for choice in range(2):
        session.add(delta=[1], completion=[2], request_id="r", choice=choice)
    assert len(nodes_of(session.calls, text_of)) == len(nodes_of(session.calls, text_of, track_tree=True)) == 2


def test_a_branch_keeps_earlier_turns_trainable_and_says_why_it_is_one():
    session = three_turns()
    branch = session.add(parent=1, keep=5, delta=[90], completion=[91], verdict="branch", reason="edited")
    session.extend(branch, [92], [93], logprobs=pack_floats([-0.9]))
    first, second = nodes_of(session.calls, text_of)
    assert first["tokens"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert second["tokens"] == [1, 2, 3, 4, 5, 90, 91, 92, 93]
    assert second["masked_tokens"] == [MASKED, MASKED, 3, 4, MASKED, MASKED, 91, MASKED, 93]
    assert second["metadata"]["branch_reason"] == "edited"
    assert second["metadata"]["boundaries"] == [
        {"at": 0, "verdict": "root", "reason": None},
        {"at": 4, "verdict": "exact", "reason": None},
        {"at": 5, "verdict": "branch", "reason": "edited"},
        {"at": 7, "verdict": "exact", "reason": None},
    ]
    tree = nodes_of(session.calls, text_of, track_tree=True)
    assert [node["metadata"]["branch_reason"] for node in tree] == [None, None, None, "edited", None]


def test_what_a_branch_keeps_of_a_reply_only_in_part_is_masked():
    session = Session()
    session.add(delta=[1], completion=[2, 3, 4])
    session.add(parent=0, keep=3, delta=[5], completion=[6], verdict="branch", reason="template")
    assert nodes_of(session.calls, text_of)[1]["masked_tokens"] == [MASKED, MASKED, MASKED, MASKED, 6]


def test_undelivered_calls_are_left_out_unless_asked_for():
    session = Session()
    root = session.add(delta=[1], completion=[2])
    lost = session.extend(root, [3], [4], delivered=False)
    assert [node["tokens"] for node in nodes_of(session.calls, text_of)] == [[1, 2]]
    assert [node["tokens"] for node in nodes_of(session.calls, text_of, track_tree=True)] == [[1, 2]]
    [shown] = nodes_of(session.calls, text_of, include_undelivered=True)
    assert shown["tokens"] == [1, 2, 3, 4]
    assert shown["masked_tokens"] == [MASKED, 2, MASKED, 4]
    assert shown["metadata"]["delivered"] is False
    assert "delivered" not in nodes_of(session.calls, text_of)[0]["metadata"]
    session.extend(lost, [5], [6])
    [node] = nodes_of(session.calls, text_of)
    assert node["masked_tokens"] == [MASKED, 2, MASKED, MASKED, MASKED, 6]
    assert node["logprobs"][3] == NOT_SAMPLED


def test_placeholder_tokens_are_marked():
    session = Session()
    session.add(delta=[0], completion=[1], source="dummy")
    assert nodes_of(session.calls, text_of)[0]["metadata"]["dummy"] is True
    assert "dummy" not in nodes_of(three_turns().calls, text_of)[0]["metadata"]


def test_unknown_log_probabilities_are_said_and_others_never_filled_up():
    session = Session()
    session.add(delta=[1], completion=[2, 3], logprobs=None, source="submitted")
    [node] = nodes_of(session.calls, text_of)
    assert node["masked_tokens"] == [MASKED, 2, 3]
    assert node["logprobs"] == [NOT_SAMPLED] * 3
    assert node["metadata"]["logprobs_unknown"] is True
    session = Session()
    session.add(delta=[1], completion=[2, 3], logprobs=pack_floats([-0.1]))
    with pytest.raises(FailedError, match="call-0 has 1 log probabilities for 2") as caught:
        nodes_of(session.calls, text_of)
    assert caught.value.code == "record_broken"


def test_steps():
    session = three_turns()
    steps = steps_of(session.calls, prompt_uid="p")
    assert steps[2] == {
        "trajectory_uid": "session",
        "prompt_uid": "p",
        "step_index": 2,
        "prompt_ids": [1, 2, 3, 4, 5, 6, 7, 8],
        "response_ids": [9],
        "rollout_log_probs": [-0.4],
        "reward": None,
        "policy_version": 7,
        "is_last": False,
        "metadata": {},
    }
    assert [step["prompt_ids"] for step in steps[:2]] == [[1, 2], [1, 2, 3, 4, 5]]


def test_a_step_with_what_is_only_sometimes_given():
    session = Session()
    session.add(delta=[1], completion=[2], logprobs=None, is_last=True, reward=0.5)
    step = step_of(
        session.calls[0],
        pack_ids([1]),
        prompt_uid=None,
        metadata={"a": 1},
        multi_modal_data={"image": "x"},
        routed_experts=[[1]],
    )
    assert (step["rollout_log_probs"], step["is_last"], step["reward"]) == (None, True, 0.5)
    assert (step["metadata"], step["multi_modal_data"], step["routed_experts"]) == ({"a": 1}, {"image": "x"}, [[1]])


def test_undelivered_and_late_steps_are_never_leased():
    session = Session()
    root = session.add(delta=[1], completion=[2])
    session.extend(root, [3], [4], delivered=False)
    session.extend(root, [3], [5], late=True)
    assert [step["step_index"] for step in steps_of(session.calls, prompt_uid=None)] == [0, 1, 2]
    assert [step["step_index"] for step in steps_of(session.calls, prompt_uid=None, leasable=True)] == [0]


@given(sessions(), st.booleans())
@settings(max_examples=300)
def test_the_law(session, include_undelivered):
    """For every leaf: its chain's deltas and completions joined, the node's tokens, and the last step's prompt and
    response are one sequence; and on it every sampled token that may be trained on is unmasked, at its place, once."""
    steps = steps_of(session.calls, prompt_uid=None)
    paths = session.paths()
    nodes = nodes_of(session.calls, text_of, include_undelivered=include_undelivered)
    leaves = session.tree.leaves(include_undelivered=include_undelivered)
    assert len(nodes) == len(leaves)
    for node, leaf in zip(nodes, leaves, strict=True):
        step = steps[leaf.seq]
        assert node["tokens"] == paths[leaf.seq] == step["prompt_ids"] + step["response_ids"]
        expected = [MASKED] * len(node["tokens"])
        logprobs = [NOT_SAMPLED] * len(node["tokens"])
        joined: list[int] = []
        for one, upto in line(session, leaf.seq):
            record = session.calls[one].record
            joined = joined[: record.keep] + unpack_ids(record.delta) + unpack_ids(record.completion)
            end = len(joined)
            if end <= upto and (record.delivered or include_undelivered):
                begin = end - len(record.completion) // 4
                expected[begin:end] = unpack_ids(record.completion)
                logprobs[begin:end] = unpack_floats(record.logprobs)
        assert joined == node["tokens"]
        assert node["masked_tokens"] == expected
        assert node["logprobs"] == logprobs


@given(sessions())
@settings(max_examples=200)
def test_a_sampled_token_that_lies_on_one_chain_is_trained_on_once(session):
    nodes = nodes_of(session.calls, text_of, include_undelivered=True)
    unmasked = sum(token != MASKED for node in nodes for token in node["masked_tokens"])
    on_chains = 0
    for leaf in session.tree.leaves():
        on_chains += sum(
            len(session.calls[one].record.completion) // 4
            for one, upto in line(session, leaf.seq)
            if session.tree.node(one).path_tokens <= upto
        )
    assert unmasked == on_chains
    extensions = [node.parent.seq for node in session.tree.nodes() if node.parent is not None]
    if len(extensions) == len(set(extensions)) and all(
        node.extends or not node.parent for node in session.tree.nodes()
    ):
        assert unmasked == sum(len(call.record.completion) // 4 for call in session.calls)


@given(sessions())
@settings(max_examples=100)
def test_boundaries_lie_on_the_node_in_order(session):
    for node in nodes_of(session.calls, text_of, include_undelivered=True):
        places = [boundary["at"] for boundary in node["metadata"]["boundaries"]]
        assert places == sorted(places)
        assert all(at < len(node["tokens"]) for at in places)


def line(session: Session, seq: int) -> list[tuple[int, int]]:
    """A call's ancestors and itself, the first one first, each with the length up to which its path is the call's."""
    calls = [(seq, len(session.paths()[seq]))]
    while (parent := session.calls[calls[-1][0]].record.parent) is not None:
        calls.append((parent, min(calls[-1][1], session.calls[calls[-1][0]].record.keep)))
    return calls[::-1]


def test_an_arrow_table():
    session = three_turns()
    session.add(delta=[1], completion=[2], logprobs=None, source="submitted", reward=1.0, is_last=True)
    table = arrow_table(session.calls)
    rows = table.to_pylist()
    assert table.num_rows == 4
    assert [row["delta"] for row in rows] == [[1, 2], [5], [7, 8], [1]]
    assert [row["completion"] for row in rows] == [[3, 4], [6], [9], [2]]
    assert [row["logprobs"] for row in rows] == [[-0.1, -0.2], [-0.3], [-0.4], None]
    assert [row["parent"] for row in rows] == [None, 0, 1, None]
    assert [row["prompt_tokens"] for row in rows] == [2, 5, 8, 1]
    assert (rows[3]["reward"], rows[3]["is_last"], rows[3]["source"]) == (1.0, True, "submitted")
    assert str(table.schema.field("delta").type.value_type) == "uint32"


def test_an_arrow_table_of_spans():
    from moorage.capture.call import Span

    session = Session()
    session.add(delta=[1], completion=[2, 3], spans=(Span("7", 0, 1), Span("8", 1, 2)))
    [row] = arrow_table(session.calls).to_pylist()
    assert row["spans"] == [{"version": "7", "start": 0, "end": 1}, {"version": "8", "start": 1, "end": 2}]


def test_a_missing_pyarrow_is_named(monkeypatch):
    import sys

    from moorage.errors import PreflightError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PreflightError, match="pyarrow") as caught:
        arrow_table([])
    assert caught.value.next
