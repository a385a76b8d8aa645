"""kill -9 of one worker, of all, of their parent, under load; clients take a new connection for every request.

The short form; `python -m tests.campaigns kills --workers 4 --what worker` (`all`, `parent`, `store`) is the long one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.campaigns.kills.campaign import run_kills

KILLS = int(os.environ.get("MOORAGE_GATEWAY_KILLS", "0"))


@pytest.mark.parametrize(("what", "number"), [("worker", 4), ("all", 1), ("parent", 1)])
def test_what_was_answered_survives_kills_of_workers(tmp_path: Path, what: str, number: int) -> None:
    findings = run_kills(tmp_path, number=KILLS or number, seed=random.randrange(2**32), what=what, workers=3)
    assert not findings.faults, findings.table()
    # Whether a kill hits a call that is under way is chance in so few of them.
    for figure in ("kills", "replies whose last byte came", "of these, exact continuations"):
        assert findings.counts[figure] > 0, f"{figure}: this run has shown nothing of it\n{findings.table()}"
