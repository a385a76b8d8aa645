"""kill -9 of the gateway under load: what a client has got to its last byte is stored, once.

The short form; `python -m tests.campaigns kills` kills it twenty times.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.campaigns.kills.campaign import run_kills

KILLS = int(os.environ.get("MOORAGE_GATEWAY_KILLS", "3"))


def test_what_was_answered_survives_kills(tmp_path: Path) -> None:
    findings = run_kills(tmp_path, number=KILLS, seed=random.randrange(2**32))
    assert not findings.faults, findings.table()
    assert findings.counts["kills"] == KILLS
    for shown in (
        "replies whose last byte came",
        "calls asked again after a lost connection",
        "answered calls asked again after a restart, and replayed",
        "steps submitted, stored exactly once",
        "groups acked, none delivered again",
    ):
        assert findings.counts[shown] > 0, f"{shown}: this run has shown nothing of it\n{findings.table()}"
