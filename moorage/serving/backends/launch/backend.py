"""The backend `launch`: every replica of a declared model is a service of the launch plane.

Nothing is decided in the background: each `observe` looks, decides what is to be done next, begins it, and tells what
it saw. So only the control plane that may act does act. A replica's job id follows from its application and slot, and
its labels say what it was started from: whatever is cut off anywhere is found again, and nothing is started twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from moorage.errors import MoorageError, NotFoundError, UsageError
from moorage.launch.entry import Entry
from moorage.launch.observe import observe as observe_services
from moorage.launch.places import beside_state
from moorage.launch.plan import make_plan
from moorage.launch.plane import Plane
from moorage.launch.recover import recover
from moorage.serving.backends.contract import BackendUnreachable, Seen, Wanted
from moorage.serving.backends.launch.deciding import Life, Replica
from moorage.serving.backends.launch.jobs import tail_of, tell_nobody
from moorage.serving.backends.launch.looking import Patience, labels_of
from moorage.serving.backends.launch.showing import seen_of, unknown_app
from moorage.serving.backends.launch.starting import Terms, start_request, told_digest
from moorage.serving.backends.launch.tending import Tending
from moorage.serving.backends.launch.told import Told, ToldFile

__all__ = ["LaunchBackend"]


class LaunchBackend:
    """See the module, and `backends.contract.Backend` for what each method promises."""

    name = "launch"
    has_lora = True
    has_autoscaling = False

    def __init__(
        self,
        plane: Plane,
        terms: Terms,
        *,
        scope: str,
        drain_s: float = 30.0,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`scope` names the control plane, the same at every start: services of others are never touched. `clock`
        counts seconds and is never set: nothing of it is kept beyond this process.
        `plane.environ` is what the services inherit, so it holds no secret of the control plane."""
        self._plane = plane
        self._terms = terms
        self._scope = scope
        self._lock = threading.RLock()
        self._file = ToldFile(beside_state(plane.environ, f"serving-{hashlib.sha256(scope.encode()).hexdigest()[:12]}"))
        self._told = self._file.read()
        self._unwanted: set[str] = set()
        """Applications that run, that nobody knows of, and that are not wanted."""
        self._tending = Tending(plane, terms, scope, drain_s=drain_s, patience=patience or Patience(), clock=clock)
        self._searched = False

    def digest(self, wanted: Wanted) -> str:
        return told_digest(wanted, self._terms)

    def observe(self) -> Mapping[str, Seen]:
        with self._lock:
            return self._pass()

    def apply(self, wanted: Sequence[Wanted]) -> None:
        with self._lock:
            changed = [one for one in wanted if self._is_news(one)]
            for one in changed:
                _refuse_autoscaling(one)
                # Raises what a start would, before anything is touched.
                make_plan(self._plane, start_request(one, self._terms, scope=self._scope, slot=0))
            before = [(self._told[one.app], one) for one in changed if one.app in self._told]
            entries = self._entries_by_app()
            self._tending.adapting.change(before, entries)
            self._tell(wanted)
            self._unwanted = entries.keys() - self._told.keys()
            self._tending.begin_anew(one.app for one in changed)
            with suppress(MoorageError):  # what was told is written down: the next look does it
                self._pass()

    def logs(self, app: str, lines: int) -> Iterator[str]:
        entries = self._entries_by_app().get(app, [])
        if app not in self._told and not entries:
            raise NotFoundError(f"there is no application {app!r}", code="app_not_found")
        ended = self._tending.last_lines(app)
        yield from ended[len(ended) - min(lines, len(ended)) :]
        for entry in sorted(entries, key=_slot):
            for line in tail_of(self._plane, entry, lines):
                yield f"[replica-{_slot(entry)}] {line}"

    def summary(self) -> dict[str, Any]:
        entries = [entry for group in self._entries_by_app().values() for entry in group]
        seen = observe_services(self._plane, entries, probe=False)
        return {
            "platform": self._terms.platform,
            "accelerator": self._terms.accelerator,
            "state_file": str(self._plane.registry.path),
            "services": [
                {"job_id": entry["job_id"], "app": labels_of(entry).get("app"), "state": seen[entry["job_id"]].state}
                for entry in entries
            ],
        }

    def close(self) -> None:
        self._tending.close()

    def _is_news(self, wanted: Wanted) -> bool:
        told = self._told.get(wanted.app)
        return told is None or told.removing or told.digest != self.digest(wanted)

    def _tell(self, wanted: Sequence[Wanted]) -> None:
        """Write down what is wanted now; what is listed no more is on its way out until nothing of it is left."""
        told = {app: replace(one, removing=True) for app, one in self._told.items()}
        for one in wanted:
            before = self._told.get(one.app)
            was_ready = before is not None and before.was_ready and not before.removing
            told[one.app] = Told(wanted=one, digest=self.digest(one), was_ready=was_ready)
        self._write(told)

    def _write(self, told: dict[str, Told]) -> None:
        if told != self._told:
            self._file.write(told)
            self._told = told

    def _pass(self) -> dict[str, Seen]:
        self._search_once()
        found = self._tending.look(self._told)
        told = dict(self._told)
        for app, one in self._told.items():
            replicas = found.get(app, [])
            if one.removing and not replicas:
                del told[app]
            elif not one.was_ready and any(replica.life is Life.READY for replica in replicas):
                told[app] = replace(one, was_ready=True)
        self._write(told)
        for one in self._told.values():
            self._tending.drive(one)
        for app in self._unwanted & found.keys():
            self._tending.end_all(app)
        return self._seen(found)

    def _seen(self, found: Mapping[str, Sequence[Replica]]) -> dict[str, Seen]:
        seen = {app: unknown_app(app, replicas) for app, replicas in found.items()}
        for app, one in self._told.items():
            replicas = found.get(app, ())
            names = self._tending.adapting.names(one, [replica.job_id for replica in replicas])
            seen[app] = seen_of(one, replicas, self._tending.trouble(app), adapters=names)
        return seen

    def _search_once(self) -> None:
        """Services that the registry lost, or whose start was cut off before it said where they are."""
        if self._searched:
            return
        known = {entry["job_id"] for group in self._entries_by_app().values() for entry in group}
        try:
            found = self._plane.platform(self._terms.platform).find()
            if any(labels_of(one).get("scope") == self._scope and one["job_id"] not in known for one in found):
                recover(self._plane, self._terms.platform, tell_nobody)
        except MoorageError as fault:
            raise BackendUnreachable(fault.message, hint=fault.hint, next=fault.next) from fault
        self._searched = True

    def _entries_by_app(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self._tending.entries().values():
            found.setdefault(str(labels_of(entry).get("app")), []).append(entry)
        return found


def _refuse_autoscaling(wanted: Wanted) -> None:
    """A promise to follow the load that nobody keeps would be worse than none."""
    if wanted.spec.autoscaling is not None:
        raise UsageError(
            "the backend launch does not follow the load: it has no autoscaling",
            code="backend_has_no_autoscaling",
            hint="take autoscaling away and give num_replicas, or use the backend ray_serve",
        )


def _slot(entry: Mapping[str, Any]) -> int:
    slot = labels_of(entry).get("slot")
    return slot if isinstance(slot, int) else 0
