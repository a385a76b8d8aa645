"""Handing out the GPUs of one machine: each to one replica at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from moorage.launch.entry import Entry
from moorage.serving.backends.launch.looking import labels_of

__all__ = ["Gpus"]


class Gpus:
    """`ids` None: nothing is handed out here, the platform does it."""

    def __init__(self, ids: Sequence[str] | None) -> None:
        self._ids = ids
        self._given: dict[str, tuple[str, ...]] = {}
        """Job id → those of a start that the registry may not show yet."""

    def take(self, job_id: str, count: int, entries: Iterable[Entry], running: Mapping[str, object]) -> bool:
        """Give a start its GPUs; False: there are not as many. `running`: the jobs of now."""
        if self._ids is None:
            return True
        for gone in [one for one in self._given if one not in running]:
            del self._given[gone]
        used = {str(gpu) for entry in entries for gpu in labels_of(entry).get("gpus") or ()}
        used.update(*self._given.values())
        free = [gpu for gpu in self._ids if gpu not in used]
        if len(free) < count:
            return False
        self._given[job_id] = tuple(free[:count])
        return True

    def given(self, job_id: str) -> tuple[str, ...]:
        """What a start was given; () when the platform hands them out."""
        return self._given.get(job_id, ())
