"""The flapping campaign, short: `python -m tests.campaigns flapping` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.campaigns.flapping.campaign import run_flapping


def test_nobody_notices_an_upstream_that_flaps(tmp_path: Path, nano: Path) -> None:
    findings = run_flapping(tmp_path, number=1000, seed=11, nano=nano)
    assert findings.faults == [], findings.table()
    assert findings.counts["times the upstream was out"] > 2
