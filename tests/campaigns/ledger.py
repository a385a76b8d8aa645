"""What a store holds, read without the gateway and put together without the code that is on trial.

Token ids are unpacked with `array`, prompts are joined by the record's own words: `path(parent)[:keep] + delta`.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.capture.call import Draft
from moorage.capture.chain import verify_chain
from moorage.pool.contract import Store, Trajectory
from moorage.pool.opening import open_store
from tests.campaigns.findings import Findings

__all__ = ["Ledger", "StoredCall", "read_ledgers"]


@dataclass(frozen=True)
class StoredCall:
    """One committed call."""

    seq: int
    record: Draft
    prompt: list[int]
    """[P], its parents' tokens included."""
    completion: list[int]
    logprobs: list[float] | None
    reply: Any
    """The message as the record has it; of a text completion its text."""

    @property
    def path(self) -> list[int]:
        return self.prompt + self.completion


@dataclass(frozen=True)
class Ledger:
    """A session or a trajectory, and its calls by `seq`."""

    trajectory: Trajectory
    calls: list[StoredCall]

    @property
    def uid(self) -> str:
        return self.trajectory.uid


def read_ledgers(db: Path | str, uids: list[str], findings: Findings) -> dict[str, Ledger]:
    """Those of the sessions, also of deleted ones. Broken chains and places are faults.

    `db`: a file, or a store's URL.
    """
    return asyncio.run(_read(db, uids, findings))


async def _read(db: Path | str, uids: list[str], findings: Findings) -> dict[str, Ledger]:
    store = open_store(db if isinstance(db, str) else f"sqlite:///{db}", read_only=False)
    await store.open()
    try:
        return {uid: ledger for uid in uids if (ledger := await _ledger(store, uid, findings)) is not None}
    finally:
        await store.close()


async def _ledger(store: Store, uid: str, findings: Findings) -> Ledger | None:
    trajectory = await store.find(uid)
    if trajectory is None:
        findings.fault(f"{uid} is not in the store")
        return None
    broken = verify_chain(await store.records(uid))
    findings.check(broken is None, f"{uid}: the hash chain breaks at call {broken}")
    findings.count("hash chains verified", int(broken is None))
    paths: list[list[int]] = []
    calls = []
    stored = await store.calls(uid)
    extras = await store.extras(uid, [call.seq for call in stored])
    for place, call in enumerate(stored):
        record = call.record
        findings.check(call.seq == place, f"{uid}: call {place} has seq {call.seq}")
        kept = [] if record.parent is None else paths[record.parent][: record.keep]
        findings.check(len(kept) == record.keep, f"{uid}: call {place} keeps more than its parent has")
        prompt, completion = kept + _ids(record.delta), _ids(record.completion)
        logprobs = None if record.logprobs is None else list(array("d", record.logprobs))
        paths.append(prompt + completion)
        reply = json.loads(extras.get(call.seq) or b"{}").get("reply")
        calls.append(StoredCall(place, record, prompt, completion, logprobs, reply))
    return Ledger(trajectory, calls)


def _ids(packed: bytes) -> list[int]:
    return list(array("I", packed))
