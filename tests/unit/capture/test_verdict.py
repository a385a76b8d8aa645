"""How a rendered prompt continues a session, and why it does not: the tables of the module, row by row."""

from __future__ import annotations

import pytest

from moorage.capture.packing import pack_ids
from moorage.capture.verdict import Boundary, Facts, judge, place
from tests.unit.capture import fuzz
from tests.unit.capture.sessions import Session

TOOLS, REASONING = b"t" * 16, b"r" * 16
ROOT_PATH = [1, 2, 10, 11, 3]
"""Two ids of prompt, three sampled."""
CHILD_PATH = [*ROOT_PATH, 4, 5, 20, 21]
"""Two more of prompt, two more sampled."""


def two_turns(**fields) -> Session:
    session = Session()
    root = session.add(delta=ROOT_PATH[:2], completion=ROOT_PATH[2:], tools_digest=TOOLS, reply_key=b"1", **fields)
    session.extend(root, [4, 5], [20, 21], tools_digest=TOOLS, reply_key=b"2", **fields)
    return session


def placed(session: Session, prompt: list[int], matched: int | None = None, **facts) -> Boundary:
    facts.setdefault("tools_digest", TOOLS)
    node = None if matched is None else session.tree.node(matched)
    return place(session.tree, pack_ids(prompt), matched=node, facts=Facts(**facts))


def said(boundary: Boundary) -> tuple[int | None, int, str, str | None]:
    return boundary.parent and boundary.parent.seq, boundary.keep, boundary.verdict, boundary.reason


ROOT = (None, 0, "root", None)

BOUNDARIES = {
    "the next turn": ([*CHILD_PATH, 6], 1, {"replies": 0}, (1, 9, "exact", None)),
    "another sample of a turn": ([*ROOT_PATH, 4, 5], 0, {"replies": 0}, (0, 5, "exact", None)),
    "a prefill goes on from the same node": ([*ROOT_PATH, 4, 5, 9], 0, {"replies": 0}, (0, 5, "exact", None)),
    "a prefill that begins as the reply did": ([*ROOT_PATH, 4, 5, 20], 0, {"replies": 0}, (0, 5, "exact", None)),
    "the echo was changed, its ids were not": ([*CHILD_PATH, 6], 0, {"replies": 1}, (1, 9, "exact", None)),
    "another sample of the first turn": ([1, 2], None, {"replies": 0}, ROOT),
    "a new conversation": ([8, 9], None, {"replies": 0}, ROOT),
    "a new conversation under the same system message": ([1, 9], None, {"replies": 0}, ROOT),
    "a new conversation that looks like a prompt gone on": ([1, 2, 9], None, {"replies": 0}, ROOT),
    "a new conversation with a prefill as it was sampled": ([*ROOT_PATH], None, {"replies": 0}, ROOT),
    "the first reply edited": ([1, 2, 10, 99, 3, 4], None, {"replies": 1}, (0, 3, "branch", "edited")),
    "a later reply edited": ([*ROOT_PATH, 4, 5, 99, 6], 0, {"replies": 1}, (1, 7, "branch", "edited")),
    "an earlier question edited": ([1, 99, 10, 11, 3, 4], None, {"replies": 1}, (0, 1, "branch", "edited")),
    "nothing as it was": ([99, 2, 10], None, {"replies": 1}, (None, 0, "branch", "edited")),
    "another system message": (
        [1, 99],
        None,
        {"replies": 2, "system_changed": True},
        (0, 1, "branch", "system_changed"),
    ),
    "tools, too, but the echo was edited": (
        [1, 99],
        None,
        {"replies": 2, "tools_digest": b""},
        (0, 1, "branch", "tools_changed"),
    ),
    "a prompt cut at its beginning": (
        [10, 11, 3, 4],
        None,
        {"replies": 1, "cut": True},
        (None, 0, "branch", "truncated"),
    ),
    "a prompt cut in the middle": ([1, 2, 20, 21], None, {"replies": 1, "cut": True}, (0, 2, "branch", "truncated")),
    "a cut of what matched": ([1, 20, 21, 6], 1, {"replies": 0, "cut": True}, (1, 1, "branch", "truncated")),
    "the prompt ends inside the path": ([*CHILD_PATH[:-1]], 1, {"replies": 0}, (1, 8, "branch", "truncated")),
    "ids that go on": ([*CHILD_PATH, 6], None, {}, (1, 9, "exact", None)),
    "ids that part from a sample": ([1, 2, 10, 99], None, {}, (0, 3, "branch", "edited")),
    "ids that part from a prompt": ([1, 99], None, {}, ROOT),
    "the first ids again": ([1, 2], None, {}, ROOT),
    "later ids again": ([*ROOT_PATH, 4, 5], None, {}, (0, 5, "exact", None)),
    "ids of their own": ([99], None, {}, ROOT),
    "the template reads a turn another way": ([1, 2, 10, 12, 3, 4], 1, {"replies": 0}, (1, 3, "branch", "template")),
    "it closes turns another way": ([*ROOT_PATH, 9, 4, 5], 1, {"replies": 0}, (1, 5, "branch", "template")),
    "an exact session passed through": (
        [1, 2, 10, 12, 3, 4],
        1,
        {"replies": 0, "engine_rendered": True},
        (1, 3, "branch", "engine_rendered"),
    ),
    "other tools": ([1, 99, 2, 10], 1, {"replies": 0, "tools_digest": b""}, (1, 1, "branch", "tools_changed")),
    "other tools before all else": (
        [99, 1, 2],
        1,
        {"replies": 0, "tools_digest": b"x"},
        (None, 0, "branch", "tools_changed"),
    ),
    "an echo that was trimmed": ([1, 2, 10, 12, 3], 1, {"replies": 0, "loose": True}, (1, 3, "branch", "edited")),
    "an echo that was trimmed, and kept all the same": (
        [*CHILD_PATH, 6],
        1,
        {"replies": 0, "loose": True},
        (1, 9, "exact", None),
    ),
}


@pytest.mark.parametrize(("prompt", "matched", "facts", "expected"), BOUNDARIES.values(), ids=BOUNDARIES)
def test_boundaries(prompt, matched, facts, expected):
    assert said(placed(two_turns(), prompt, matched, **facts)) == expected


@pytest.mark.parametrize(
    ("fields", "prompt", "facts", "reason"),
    [
        ({"reasoning_digest": REASONING}, [1, 2, 11, 3, 4], {}, "reasoning_stripped"),
        ({"reasoning_digest": REASONING, "finish_reason": "tool_calls"}, [1, 2, 11, 3, 4], {}, "reasoning_stripped"),
        ({"reasoning_digest": REASONING}, [1, 99], {}, "template"),
        ({"reasoning_digest": REASONING}, [*ROOT_PATH, 4, 5, 21, 6], {}, "reasoning_stripped"),
        ({"reasoning_digest": REASONING}, [*ROOT_PATH, 99], {}, "template"),
        ({"finish_reason": "tool_calls"}, [1, 2, 10, 12, 3, 4], {}, "tool_reserialised"),
        ({"finish_reason": "tool_calls"}, [1, 2, 10, 12, 3, 4], {"loose": True}, "tool_reserialised"),
        ({"finish_reason": "tool_calls"}, [1, 2, 10, 12, 3, 4], {"tools_digest": b""}, "tools_changed"),
        ({"finish_reason": "tool_calls"}, [1, 99], {}, "template"),
    ],
)
def test_reasons_that_the_sampled_turn_gives(fields, prompt, facts, reason):
    boundary = placed(two_turns(**fields), prompt, 1, replies=0, **facts)
    assert (boundary.verdict, boundary.reason) == ("branch", reason)


@pytest.mark.parametrize("facts", [{"replies": 0}, {"replies": 3}, {"replies": None}, {"replies": 1, "cut": True}])
def test_the_first_call_of_a_session_is_its_root(facts):
    assert said(placed(Session(), [1, 2], None, **facts)) == ROOT


def test_an_empty_completion_is_not_gone_on_from_by_the_same_request():
    session = two_turns()
    session.add(parent=1, keep=9, delta=[6], completion=[], verdict="exact")
    assert said(placed(session, [*CHILD_PATH, 6], 1, replies=0)) == (1, 9, "exact", None)
    session.add(delta=[50], completion=[])
    assert said(placed(session, [50], None, replies=0)) == ROOT


def test_of_two_samples_that_read_the_same_the_one_that_the_prompt_keeps_counts():
    session = Session()
    session.add(delta=[1, 2], completion=[10, 11], reply_key=b"same")
    session.add(delta=[1, 2], completion=[12], reply_key=b"same")
    assert said(placed(session, [1, 2, 10, 11, 3], 1, replies=0, tools_digest=b"")) == (0, 4, "exact", None)


def test_judge_alone_says_the_same():
    session = two_turns()
    for prompt, matched, facts, expected in BOUNDARIES.values():
        packed = pack_ids(prompt)
        node = None if matched is None else session.tree.node(matched)
        parent, keep = session.tree.longest_prefix(packed)
        verdict = judge(
            session.tree,
            packed,
            parent=parent,
            keep=keep,
            matched=node,
            facts=Facts(**{"tools_digest": TOOLS, **facts}),
        )
        assert verdict == expected[2:]


def test_a_short_campaign_of_random_clients():
    tally = fuzz.campaign(7, 3_000)
    assert {reason for verdict, reason in tally if verdict == "branch"} == {
        "edited",
        "reasoning_stripped",
        "template",
        "tools_changed",
    }
    assert all(reason for verdict, reason in tally if verdict == "branch")
