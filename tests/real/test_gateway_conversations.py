"""Conversations with a real vLLM: what is stored is what the engine itself reported, id for id.

The short form, each plan once; `python -m tests.campaigns conversations` has two hundred of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.campaigns.conversations.campaign import run_conversations
from tests.campaigns.conversations.plans import PLANS

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

NUMBER = int(os.environ.get("MOORAGE_GATEWAY_CONVERSATIONS", str(len(PLANS))))


def test_what_is_stored_is_what_the_engine_said(tmp_path: Path, nano_engine: str) -> None:
    findings = run_conversations(tmp_path, nano_engine, number=NUMBER, seed=random.randrange(2**32))
    assert not findings.faults, findings.table()
    assert findings.counts["conversations"] == NUMBER
    assert findings.counts["unexplained boundaries"] == 0
    for shown in (
        "calls equal to the engine's report, id for id, logprob for logprob",
        "nodes equal to joined deltas",
        "steps equal to their calls",
        "requests whose client went away",
        "retries replayed",
        "exact: exact",
        "passthrough: exact",
    ):
        assert findings.counts[shown] > 0, f"{shown}: this run has shown nothing of it\n{findings.table()}"
