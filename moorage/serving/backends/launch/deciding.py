"""What to do about the replicas of one application: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Decision", "Life", "Replica", "backoff_s", "decide"]

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class Life(StrEnum):
    """How a replica is."""

    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    """It was ready, lives, and does not answer: it is given time."""
    DEAD = "dead"
    """It ended, or is given up; what is left of it is to be cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica, as it is now."""

    job_id: str
    slot: int
    life: Life
    current: bool
    """Started from what is wanted now."""
    busy: bool = False
    """Something is being done with it: it is left alone until that has ended."""
    ending: bool = False
    """What is being done is its end."""
    retiring_since: float | None = None
    """Since when it gets no new requests, in seconds of the clock; None: it gets them."""
    detail: str = ""
    endpoint: str | None = None
    """Its base URL, when it is known."""
    key_env: str | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now."""

    start: tuple[int, ...] = ()
    """Slots."""
    stop: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    """Give them no new requests."""
    keep: tuple[str, ...] = ()
    """They may have been retiring: not any more."""


def decide(
    replicas: Sequence[Replica],
    *,
    wanted: int,
    now: float,
    drain_s: float,
    may_start: bool,
) -> Decision:
    """Keep the best, start what is missing, drain and stop what is too many, clear what is dead.

    `wanted` 0 ends them all at once. Replicas of an older start go when as many as wanted of the current one are ready.
    """
    free = [replica for replica in replicas if not replica.busy]
    stop = [replica.job_id for replica in free if replica.life is Life.DEAD]
    living = [replica for replica in replicas if replica.life is not Life.DEAD and not replica.ending]
    if wanted == 0:
        return Decision(stop=tuple(stop + [replica.job_id for replica in living if not replica.busy]))
    current = sorted((replica for replica in living if replica.current), key=_goodness)
    kept, surplus = current[:wanted], current[wanted:]
    outdated = [replica for replica in living if not replica.current]
    if sum(replica.life is Life.READY for replica in kept) >= wanted:
        surplus = surplus + outdated
    retire = [replica.job_id for replica in surplus if _serves(replica) and replica.retiring_since is None]
    stop += [replica.job_id for replica in surplus if not replica.busy and _is_drained(replica, now, drain_s)]
    return Decision(
        start=_free_slots(replicas, wanted - len(kept)) if may_start else (),
        stop=tuple(stop),
        retire=tuple(retire),
        keep=tuple(replica.job_id for replica in kept if replica.retiring_since is not None),
    )


def backoff_s(failures: int) -> float:
    """The pause after so many failures in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(max(failures - 1, 0), 16))


def _goodness(replica: Replica) -> tuple[bool, bool, bool, int]:
    ready = replica.life is Life.READY
    return (not ready, replica.life is Life.SILENT, replica.retiring_since is not None, replica.slot)


def _serves(replica: Replica) -> bool:
    return replica.life in (Life.READY, Life.SILENT)


def _is_drained(replica: Replica, now: float, drain_s: float) -> bool:
    if not _serves(replica):
        return True
    return replica.retiring_since is not None and now - replica.retiring_since >= drain_s


def _free_slots(replicas: Sequence[Replica], count: int) -> tuple[int, ...]:
    taken = {replica.slot for replica in replicas}
    return tuple(slot for slot in range(len(taken) + max(count, 0)) if slot not in taken)[: max(count, 0)]
