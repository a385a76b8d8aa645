"""The gates: ratios and counts that must hold on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cold_start, many, overhead, race
from bench.serving import measuring

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def unobserved(monkeypatch):
    """What is timed is not followed by the measurement of coverage."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.mark.slow
def test_moor_list_starts_within_four_times_python_itself():
    result = cold_start.measure(rounds=15)
    name = next(name for name in result.figures if name.startswith("moor list"))
    assert result.figures[name] <= cold_start.GATE_RATIO, result


@pytest.mark.slow
def test_64_starts_at_once_keep_every_entry_and_every_port_apart():
    figures = race.measure().figures
    assert (figures["entries"], figures["distinct_ports"]) == (race.PROCESSES, race.PROCESSES)


@pytest.mark.vllm
def test_a_start_adds_less_than_a_second_to_the_engines_own(state_file, vllm_python, nano):
    found = overhead.one_start(["--network-arch", "vllm", "--model-path", str(nano)], "/v1/models")
    assert found["before_s"] + found["after_s"] < overhead.GATE_S, found


@pytest.mark.slow
def test_the_gateway_keeps_its_targets():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gateway", "--short", "--gate"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_thousand_streams_come_whole_and_ten_thousand_sessions_fit():
    figures = many.measure().figures
    assert figures["spoiled_streams"] == 0
    assert figures["sessions_mb"] <= many.MEMORY_MB * 1.3, figures


@pytest.mark.slow
def test_a_thousand_declared_models_cost_no_more_than_they_may():
    figures = measuring.measure(rounds=3).figures
    assert {name for name, limit in measuring.GATES.items() if figures[name] > limit * measuring.SLACK} == set(), (
        figures
    )
