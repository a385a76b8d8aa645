"""What a soak left: its store with what clients were answered, and its log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.campaigns.findings import Findings
from tests.campaigns.ledger import read_ledgers
from tests.campaigns.soak.engine import NANO
from tests.campaigns.soak.load import Load, numbers_in
from tests.stand_ins.small_engine import SmallEngine

__all__ = ["compare_log", "compare_store"]

AT_ONCE = 500
"""Sessions whose calls are read together: a store is bigger than memory."""
EXPECTED = frozenset(
    (
        "engine_aborted",
        "engine_error",
        "engine_gives_no_token_ids",
        "engine_reply_unreadable",
        "no_healthy_upstream",
        "short_logprobs",
        "upstream_broken",
        "upstream_closed",
        "upstream_silent",
        "upstream_unreachable",
    )
)
"""Errors in the log that the engines were told to make."""


def compare_log(lines: Iterable[str], findings: Findings) -> None:
    """Anything at level error, and anything that is no line of the log, but the engines' faults, is a finding."""
    seen: Counter[str] = Counter()
    for line in lines:
        try:
            said = json.loads(line)
            level, event = said.get("level", "info"), said["event"]
        except (ValueError, KeyError, AttributeError):
            findings.fault(f"the gateway wrote {line.strip()[:500]!r}")
            continue
        seen[f"log: {level} {event}"] += 1
        if level == "error" and event not in EXPECTED:
            findings.fault(f"the log has {line.strip()[:3000]}")
    for what, times in sorted(seen.items()):
        findings.count(what, times)


def compare_store(db: str, load: Load) -> None:
    """Each reply whose last byte came is stored once, each step that was accepted too."""
    findings, engine = load.findings, SmallEngine(NANO)
    ever: Counter[tuple[int, int]] = Counter()
    for uids in _parts(list(load.answered)):
        for uid, ledger in read_ledgers(db, uids, findings).items():
            found: Counter[tuple[int, int]] = Counter()
            for call in ledger.calls:
                if call.record.delivered:
                    found[numbers_in(engine.decode(call.completion))] += 1
                    findings.count(f"calls stored, {call.record.verdict}")
            answered = load.answered[uid]
            for number in answered:
                findings.check(found[number] == 1, f"{uid}: answer {number} is stored {found[number]} times")
            once = sum(found[number] == 1 for number in answered)
            findings.count("choices of replies whose last byte came", len(answered))
            findings.count("of these, stored exactly once", once)
            ever.update(found)
    twice = [number for number, times in ever.items() if times > 1]
    findings.check(not twice, f"answers that are stored more than once: {twice[:10]}")
    for uids in _parts(list(load.submitted)):
        for uid, ledger in read_ledgers(db, uids, findings).items():
            many = len(ledger.calls)
            findings.check(many == load.submitted[uid], f"{uid}: {many} steps of {load.submitted[uid]}")
            findings.count("steps submitted, stored exactly once", many)


def _parts(uids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(uids), AT_ONCE):
        yield [*uids[start : start + AT_ONCE]]
