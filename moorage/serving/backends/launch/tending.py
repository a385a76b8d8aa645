"""Tending to replicas: looking at them, and beginning what each of them needs next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.serving.backends.contract import Wanted
from moorage.serving.backends.launch.adapting import Adapting
from moorage.serving.backends.launch.deciding import Life, Replica, decide
from moorage.serving.backends.launch.gpus import Gpus
from moorage.serving.backends.launch.jobs import Deed, Jobs
from moorage.serving.backends.launch.looking import Patience, Sight, Watched, labels_of
from moorage.serving.backends.launch.showing import has_failed
from moorage.serving.backends.launch.starting import Terms, job_id_of, start_digest, start_request
from moorage.serving.backends.launch.told import Told
from moorage.serving.backends.launch.trouble import Trouble, after, no_room

__all__ = ["Tending"]


class Tending:
    """The replicas of one control plane. What it remembers makes it patient; without it the same is done sooner."""

    def __init__(
        self,
        plane: Plane,
        terms: Terms,
        scope: str,
        *,
        drain_s: float,
        patience: Patience,
        clock: Callable[[], float],
    ) -> None:
        self.adapting = Adapting(plane)
        self._terms = terms
        self._scope = scope
        self._drain_s = drain_s
        self._clock = clock
        self._watched = Watched(plane, scope, patience)
        self._jobs = Jobs(plane)
        self._gpus = Gpus(terms.gpu_ids)
        self._trouble: dict[str, Trouble] = {}
        self._retiring: dict[str, float] = {}
        self._sights: dict[str, list[Sight]] = {}

    def entries(self) -> dict[str, Entry]:
        """Those of this control plane, by job id. Raises BackendUnreachable when the registry cannot be read."""
        return self._watched.entries()

    def look(self, told: Mapping[str, Told]) -> dict[str, list[Replica]]:
        """Every replica by application, with what is being done to it. Raises BackendUnreachable."""
        now = self._clock()
        for done in self._jobs.harvest():
            if done.deed is Deed.ADAPT:
                self.adapting.learn(done)
            trouble = after(self._trouble.get(done.app), done, now)
            if trouble is not None and done.app in told:
                self._trouble[done.app] = trouble
        running = dict(self._jobs.running())
        found: dict[str, list[Sight]] = {app: [] for app in told}
        for sight in self._watched.look(now):
            one = self._judged(sight, told.get(sight.app), running.pop(sight.replica.job_id, None))
            found.setdefault(sight.app, []).append(Sight(sight.app, one, sight.entry))
        for job_id, (deed, app, slot) in running.items():  # the registry does not show it yet, or no more
            ending = deed is not Deed.START
            life = Life.DEAD if ending else Life.STARTING
            one = Replica(job_id=job_id, slot=slot, life=life, current=True, busy=True, ending=ending)
            found.setdefault(app, []).append(Sight(app, one, {"job_id": job_id}))
        self._sights = found
        self._forget(told)
        return {app: [sight.replica for sight in sights] for app, sights in found.items() if sights}

    def drive(self, told: Told) -> None:
        """Begin what the application's replicas need now, as they were seen last."""
        app, now = told.wanted.app, self._clock()
        sights, trouble = self._sights.get(app, []), self._trouble.get(app)
        replicas = [sight.replica for sight in sights]
        failed = has_failed(told, replicas, trouble)
        decision = decide(
            replicas,
            wanted=0 if told.removing else told.wanted.spec.num_replicas,
            now=now,
            drain_s=self._drain_s,
            may_start=not told.removing and not failed and (trouble is None or now >= trouble.not_before),
        )
        for job_id in decision.retire:
            self._retiring.setdefault(job_id, now)
        for job_id in decision.keep:
            self._retiring.pop(job_id, None)
        for sight in sights:
            if sight.replica.job_id in decision.stop:
                self._end(sight)
            elif not told.removing and not sight.replica.busy:
                self._tend(told, sight)
        for slot in decision.start:
            self._start(told.wanted, slot, now)

    def end_all(self, app: str) -> None:
        """End an application's replicas, as they were seen last."""
        for sight in self._sights.get(app, []):
            if not sight.replica.busy:
                self._end(sight)

    def begin_anew(self, apps: Iterable[str]) -> None:
        """They were told something else: what went wrong before says nothing of it."""
        for app in apps:
            self._trouble.pop(app, None)

    def trouble(self, app: str) -> Trouble | None:
        """What went wrong with it lately; None: nothing."""
        return self._trouble.get(app)

    def last_lines(self, app: str) -> tuple[str, ...]:
        """Of the replica that ended last, each with its name in front."""
        trouble = self._trouble.get(app)
        return trouble.tail if trouble is not None else ()

    def close(self) -> None:
        """Wait for what is being done."""
        self._jobs.close()

    def _judged(self, sight: Sight, told: Told | None, deed: tuple[Deed, str, int] | None) -> Replica:
        one = replace(
            sight.replica,
            busy=deed is not None,
            ending=deed is not None and deed[0] is Deed.END,
            current=told is not None and labels_of(sight.entry).get("start") == start_digest(told.wanted, self._terms),
            retiring_since=self._retiring.get(sight.replica.job_id),
        )
        if one.life is Life.DEAD and deed is not None and deed[0] is Deed.START:
            return replace(one, life=Life.STARTING)  # it is between its entry and its process
        return one if told is None else self.adapting.judged(one, told, sight.entry)

    def _tend(self, told: Told, sight: Sight) -> None:
        one = sight.replica
        if self.adapting.is_due(one, told, sight.entry):
            key = self.adapting.key(told, sight.entry)
            self._jobs.adapt(sight.app, one.slot, sight.entry, told.wanted.spec.lora, key)
        elif one.life is Life.READY and sight.entry.get("ready_at") is None:
            self._jobs.note_ready(sight.app, one.slot, sight.entry)

    def _end(self, sight: Sight) -> None:
        one = sight.replica
        why = (one.detail or "it ended") if one.life is Life.DEAD else ""
        self._jobs.end(sight.app, one.slot, sight.entry, why=why)

    def _start(self, wanted: Wanted, slot: int, now: float) -> None:
        job_id, count = job_id_of(self._scope, wanted.app, slot), wanted.spec.gpus_per_replica
        if self._terms.accelerator == "gpu" and not self._gpus.take(
            job_id, count, self.entries().values(), self._jobs.running()
        ):
            message = f"no {count} GPUs are free for a replica"
            self._trouble[wanted.app] = no_room(self._trouble.get(wanted.app), message, now)
            return
        gpus = self._gpus.given(job_id)
        self._jobs.start(
            wanted.app, slot, job_id, start_request(wanted, self._terms, scope=self._scope, slot=slot, gpus=gpus)
        )

    def _forget(self, told: Mapping[str, Told]) -> None:
        living = {sight.replica.job_id: sight for sights in self._sights.values() for sight in sights}
        self.adapting.forget(living)
        for job_id in [job_id for job_id in self._retiring if job_id not in living]:
            del self._retiring[job_id]
        for app in [app for app in self._trouble if app not in told]:
            del self._trouble[app]
