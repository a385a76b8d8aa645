"""The picture of a trajectory: what is told of it, on a terminal and without one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from moorage.capture.call import Call
from moorage.engines.tokenizer_files import load_tokenizer
from moorage.pool.archive import Trace
from moorage.traces.calls import tree_of
from moorage.traces.showing.data import ShownTrace, shown
from moorage.traces.showing.paper import as_svg, as_text
from moorage.traces.showing.picture import HowShown, picture
from moorage.traces.showing.tones import STEPS, sampled_style
from tests.unit.capture.sessions import Session
from tests.unit.traces.toy import toy_trajectory

TOKENIZER = load_tokenizer(Path(__file__).resolve().parents[3] / "models" / "nano")


def ids(text: str) -> list[int]:
    return TOKENIZER.encode_whole(text)


def conversation() -> Session:
    """A root, two calls that go on, a branch from the first, another sample of the second."""
    session = Session()
    root = session.add(delta=ids("<|im_start|>user\nHi there<|im_end|>"), completion=ids("Hello!<|im_end|>"))
    second = session.extend(root, ids("\nAnd " + "now " * 200), ids("So be it."))
    session.extend(second, ids("\n?"), ids("!"))
    session.add(
        parent=root.seq,
        keep=3,
        delta=ids("Bye"),
        completion=ids("\x1b[31mred"),
        verdict="branch",
        reason="edited",
        delivered=False,
        logprobs=None,
        source="submitted",
    )
    session.extend(root, ids("\nAgain"), ids("Well."), late=True, reward=0.5)
    return session


def trace_of(session: Session) -> ShownTrace:
    calls: list[Call] = session.calls
    return ShownTrace(Trace(1, toy_trajectory(len(calls))), calls, tree_of("toy", calls))


def drawn(how: HowShown, *, width: int = 100, colour: bool = False) -> str:
    return as_text(picture(trace_of(conversation()), how), width=width, colour=colour)


def test_without_a_terminal_no_escape_is_written() -> None:
    text = drawn(HowShown(tokenizer=TOKENIZER))
    assert "\x1b" not in text
    assert "<|im_start|>user↵" in text
    assert "Hi·there<|im_end|>" in text
    assert "⟨U+001B⟩[31mred" in text
    assert "goes on after all" in text
    assert "≠ branch (edited)" in text
    assert "undelivered" in text
    assert "late" in text
    assert "reward 0.5" in text
    assert max(map(len, text.splitlines())) <= 100


def test_on_a_terminal_sampled_tokens_are_shaded() -> None:
    text = drawn(HowShown(tokenizer=TOKENIZER), colour=True)
    assert "\x1b[" in text
    assert "\x1b[31m" not in text  # what a model said moves nothing


def test_long_prompts_are_folded_and_one_call_is_not() -> None:
    folded = drawn(HowShown(tokenizer=TOKENIZER, fold=20))
    [said] = re.findall(r"⋯ (\d+) tokens ⋯", folded)
    session = conversation()
    assert int(said) == len(session.calls[1].record.delta) // 4 - 20
    assert "⋯" not in drawn(HowShown(tokenizer=TOKENIZER, fold=0))
    alone = drawn(HowShown(tokenizer=TOKENIZER, fold=20, call=1))
    assert "⋯" not in alone
    assert "kept │" in alone
    assert "call 0" in alone
    assert "call 2" not in alone


def test_branches_hang_where_they_part() -> None:
    lines = drawn(HowShown(tokenizer=TOKENIZER)).splitlines()
    depth = {
        int(found[2]): len(found[1])
        for line in lines
        if (found := re.match(r"([│├└─ ]+)call (\d+) ", line)) is not None
    }
    assert depth[0] < depth[1] == depth[2] == depth[3] == depth[4]


def test_log_probabilities_on_request() -> None:
    text = drawn(HowShown(tokenizer=TOKENIZER, logprobs=True, call=0))
    rows = re.findall(r"^ *(\d+) +(\d+) +(-\d\.\d{4}) +(\d\.\d{3}) ", text, flags=re.MULTILINE)
    record = conversation().calls[0].record
    assert [int(row[1]) for row in rows] == ids("Hello!<|im_end|>")
    assert len(rows) == len(record.completion) // 4
    unknown = drawn(HowShown(tokenizer=TOKENIZER, logprobs=True, call=3))
    assert "?" in unknown
    assert "no log probabilities" in unknown


def test_without_a_tokenizer_there_are_ids() -> None:
    text = drawn(HowShown())
    assert "--tokenizer-path" in text
    assert " ".join(map(str, ids("Hello!<|im_end|>"))) in text


def test_nothing_recorded() -> None:
    empty = ShownTrace(Trace(1, toy_trajectory(0)), [], tree_of("toy", []))
    assert "no call is recorded" in as_text(picture(empty, HowShown()), width=80, colour=False)


def test_the_same_as_data() -> None:
    trace = trace_of(conversation())
    data = shown(trace, TOKENIZER, None)
    assert [call["seq"] for call in data["calls"]] == [0, 1, 2, 3, 4]
    first = data["calls"][0]
    assert "".join(first["sampled"]["texts"]) == "Hello!<|im_end|>"
    assert first["sampled"]["ids"] == ids("Hello!<|im_end|>")
    assert len(first["sampled"]["logprobs"]) == len(first["sampled"]["ids"])
    assert [call["chain"] for call in data["calls"]] == [0, 0, 0, 3, 4]
    [one] = shown(trace, None, 2)["calls"]
    assert one["prompt"]["texts"] is None
    assert one["prompt"]["whole"]["ids"][: one["keep"]] == trace.view(2).kept
    assert data["template_is_its"] is None


def test_another_tokenizer_than_the_model_s_is_told() -> None:
    session = Session()
    session.add(delta=[1], completion=[2], template_digest=b"x" * 16, mode="exact")
    trace = trace_of(session)
    assert shown(trace, TOKENIZER, None)["template_is_its"] is False
    assert "is not the one" in as_text(picture(trace, HowShown(tokenizer=TOKENIZER)), width=90, colour=False)


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    svg = as_svg(picture(trace_of(conversation()), HowShown(tokenizer=TOKENIZER)), width=90, title="a")
    assert svg.startswith("<svg")
    assert "url(http" not in svg
    assert "@import" not in svg


@pytest.mark.parametrize(("p", "step"), [(1.0, 0), (0.95, 0), (0.9, 1), (0.5, 2), (0.0, 5), (1e-9, 5)])
def test_shades_follow_the_probability(p: float, step: int) -> None:
    assert sampled_style(p) == STEPS[step][1]


def test_loading_says_what_is_not_there() -> None:
    from moorage.errors import NotFoundError
    from moorage.traces.showing.data import load

    class Empty:
        async def find(self, uid: str) -> None:
            return None

    nothing: Any = Empty()
    with pytest.raises(NotFoundError):
        asyncio.run(load(nothing, "nobody", None))
