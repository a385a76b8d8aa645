"""What the benchmark of the gateway decides from its numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.gateway.accounting import median_fdatasync_s, split_cpus
from bench.gateway.drawing import draw_cases
from bench.gateway.figures import better_of, read_figures
from bench.gateway.load import Report
from bench.gateway.long_sessions import EARLY, LATE, LongSessions
from bench.gateway.measuring import CaseResult
from bench.gateway.rounds import order_of_round, round_ratio, usable_rounds
from bench.gateway.table import print_cases, print_long, print_verdicts
from bench.gateway.targets import TARGETS, Target, Verdict, judge


def test_rounds_go_forwards_and_backwards():
    assert [order_of_round("abc", number) for number in range(3)] == [list("abc"), list("cba"), list("abc")]


@pytest.mark.parametrize(
    ("reference", "usable"),
    [
        ([10, 11, 12, 10, 9], [0, 1, 2, 3, 4]),
        ([10, 11, 30, 10, 9], [0, 1, 3, 4]),
        ([10, 11, 4, 10, 0], [0, 1, 3]),
        ([1, 1, 100, 100, 10_000], [0, 1, 2, 3, 4]),  # nothing to hold on to: all of them
    ],
)
def test_rounds_in_which_the_yardstick_was_not_itself_do_not_count(reference, usable):
    assert usable_rounds(reference) == usable


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert round_ratio([20, 44, 30, 900, 50], [10, 11, 10, 30, 10]) == 3.5


@pytest.mark.parametrize(
    ("measured", "state", "fails"),
    [
        (2.0, "met", False),
        (2.5, "missed, the gate is 2.6", False),
        (2.7, "missed", True),
        (None, "not measured", False),
    ],
)
def test_a_gate_fails_above_the_slack_of_a_target(measured, state, fails):
    verdict = Verdict(Target("a/b", 2.0, "words"), measured)
    assert (verdict.state, verdict.fails_gate) == (state, fails)


def test_a_figure_that_is_held_fails_above_what_it_is_held_to():
    target = Target("a/b", 2.0, "words", held=4.0)
    assert [Verdict(target, measured).fails_gate for measured in (3.9, 4.1)] == [False, True]
    assert Verdict(target, 3.9).state == "missed, the gate is 4"


def test_a_lost_call_has_no_slack():
    found = {verdict.target.figure: verdict for verdict in judge({"lost": 1.0, "errors": 0.0})}
    assert found["lost"].fails_gate
    assert found["errors"].state == "met"


def test_figures_are_named_as_the_targets_are():
    figures = read_figures(
        [_case(name, others) for name, others in CASES.items()], [_long("passthrough"), _long("exact")]
    )
    assert {target.figure for target in TARGETS} - figures.keys() == {"lost"}
    assert figures["pass/nginx"] == pytest.approx(3.0)
    assert figures["stream captured/nginx"] == pytest.approx(3.0)
    assert figures["capture16/litellm"] == pytest.approx(1.0)
    assert figures["alone/fdatasyncs"] == pytest.approx(4.0)
    assert figures["stream/first_ms"] == pytest.approx(2.0)
    assert figures["long exact/cpu"] == pytest.approx(1.2)
    assert figures["long exact/bytes"] == pytest.approx(0.5)
    assert figures["errors"] == 0


def test_a_second_measurement_can_only_help_but_for_what_failed():
    first = {"pass/nginx": 5.0, "exact/nginx": 8.0, "errors": 1.0}
    assert better_of(first, {"pass/nginx": 3.0, "alone/x": 1.0, "errors": 2.0}) == {
        "pass/nginx": 3.0,
        "exact/nginx": 8.0,
        "alone/x": 1.0,
        "errors": 3.0,
    }


def test_targets_name_the_case_that_measures_them():
    measured = {target.case for target in TARGETS} - {"lost", "errors"}
    assert measured == {"pass", "capture64", "capture16", "exact", "alone", "stream", "long", "workers"}


def test_a_stack_that_is_missing_leaves_its_figures_out():
    figures = read_figures([_case("pass", ["nginx"])], [])
    assert "pass/nginx" not in figures
    assert judge(figures)[0].state == "not measured"


def test_everything_measured_is_told_and_drawn():
    cases = [_case(name, others) for name, others in CASES.items()]
    told = print_cases(cases)
    assert all(name in told for name in ("litellm", "atropos", "vllm-router", "direct", "moorage captured"))
    assert "turn 200" in print_long([_long("exact")])
    broken = CaseResult("pass", "title", {}, broken={"moorage": "warm-up: 500"})
    assert "broken: warm-up: 500" in print_cases([broken])
    assert read_figures([broken], [])["errors"] == 1
    verdicts = judge({"pass/nginx": 2.0, "alone/added_ms": 1, "alone/nginx_added_ms": 1, "alone/fdatasync_ms": 1})
    assert "met" in print_verdicts(verdicts, {}, {"litellm": "no index"})
    assert "litellm is not here: no index" in print_verdicts(verdicts, {}, {"litellm": "no index"})
    drawn = ElementTree.fromstring(draw_cases(cases))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert "moorage" in texts
    assert "direct" not in texts  # the stub's own CPU is not counted


def test_one_core_is_shared_and_two_are_not():
    assert split_cpus({3}) == ({3}, {3})
    assert split_cpus({0, 1, 2}) == ({0}, {1, 2})


def test_the_disk_is_timed_and_left_clean(tmp_path: Path):
    assert median_fdatasync_s(tmp_path, 100, 3) > 0
    assert list(tmp_path.iterdir()) == []


CASES = {
    "pass": ["nginx", "moorage", "vllm-router"],
    "capture64": ["nginx", "moorage"],
    "capture16": ["nginx", "moorage", "litellm"],
    "exact": ["nginx", "moorage", "atropos"],
    "alone": ["direct", "nginx", "moorage"],
    "stream": ["direct", "nginx", "moorage", "moorage captured"],
    "workers": ["moorage", "moorage 4 workers", "moorage postgres", "moorage postgres 4 workers"],
}
COSTS = {"direct": (None, 1), "nginx": (10, 1), "moorage": (30, 3), "moorage captured": (30, 3)}


def _case(name: str, stacks: list[str]) -> CaseResult:
    """CPU of nginx 10 us, of all others 30; latencies 1 and 3 ms; fdatasync 0.5 ms."""
    reports = {stack: [_report(*COSTS.get(stack, (30, 3))) for _ in range(5)] for stack in stacks}
    return CaseResult(name, f"title of {name}", reports, between=[0.0005] * 5 if name == "alone" else [])


def _report(cpu_us: float | None, latency_ms: float) -> Report:
    cpu_s = None if cpu_us is None else cpu_us * 4 / 1e6
    seconds = [latency_ms / 1e3] * 4
    return Report(requests=4, latencies_s=seconds, first_byte_s=seconds, wall_s=1.0, cpu_s=cpu_s)


def _long(mode: str) -> LongSessions:
    return LongSessions(
        mode,
        captured_us={EARLY: [200.0] * 5, LATE: [620.0] * 5},
        passed_us={EARLY: [100.0] * 5, LATE: [500.0] * 5},
        record_bytes={EARLY: [1200.0] * 5, LATE: [1246.0] * 5},
        text_bytes={EARLY: [300.0] * 5, LATE: [300.0] * 5},
    )
