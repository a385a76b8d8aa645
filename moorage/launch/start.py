"""Starting a service: plan, make sure, reserve, launch, record, wait; and undo all of it when it fails.

The entry is written before the launch, so nothing can run that nobody knows of; a stop that comes in between marks
the entry, and the start then takes back what it launched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from moorage.errors import ConflictError, FailedError, InterruptedStart, MoorageError, NotReadyError, PortTaken
from moorage.launch.entry import Entry, now_utc
from moorage.launch.interrupts import held_back
from moorage.launch.mending import mend, remove_with_tunnel
from moorage.launch.plan import StartPlan, StartRequest, choose_host_port, make_plan
from moorage.launch.plane import Plane
from moorage.launch.platforms.base import Report
from moorage.launch.probe import contract_of, fetcher
from moorage.launch.processes import identity_of
from moorage.launch.reaper import spawn_reaper
from moorage.launch.stop import end_reaper
from moorage.launch.waiting import Wait

PORT_TRIES = 8


def start(plane: Plane, request: StartRequest, report: Report) -> Entry:
    """Start one service and wait until it is ready (unless `no_wait`); its entry.

    Raises NotReadyError (the service stays), FailedError, ConflictError, PreflightError, UsageError or
    InterruptedStart (everything was undone).
    """
    plan = make_plan(plane, request)
    for warning in plan.warnings:
        report("warning", warning)
    _check_free(plane, plan)
    plane.platform(request.platform).plan(plan.submission(plan.entry(None)))
    tried: set[int] = set()
    while True:
        attempt = _Attempt(plane, plan, report)
        try:
            return attempt.run(tried)
        except PortTaken as fault:
            if request.host_port is not None or not plan.has_local_port or len(tried) >= PORT_TRIES:
                raise
            report("launch", f"{fault.message}: trying the next port")


def wait_for(plane: Plane, entry: Entry, timeout_s: float | None, report: Report) -> Entry:
    """Wait for a service that was started before; its entry, recorded as ready. Nothing is undone on failure."""
    wait = _wait(plane, entry, timeout_s, report)
    waited_s = wait.until_ready()
    return _record_ready(plane, wait, waited_s)


class _Attempt:
    """One try on one port; `entry` is None until it is reserved, and there is nothing to undo before."""

    def __init__(self, plane: Plane, plan: StartPlan, report: Report) -> None:
        self._plane, self._plan, self._report = plane, plan, report
        self._platform = plane.platform(plan.request.platform)
        self._entry: Entry | None = None
        self._refused = False
        """The platform refused the name or the port: nothing of ours is there, and what has the name is another's."""

    def run(self, tried: set[int]) -> Entry:
        """The entry. Adds its port to `tried`, so that the next attempt takes another one."""
        try:
            return self._launch_and_wait(tried)
        except NotReadyError:
            raise
        except KeyboardInterrupt:
            self._undo()
            raise InterruptedStart(f"interrupted: the start of {self._plan.job_id} was undone") from None
        except FailedError as fault:
            meanwhile = self._entry is not None and _stopped_meanwhile(self._plane, self._plan)
            self._undo()
            if meanwhile:
                raise _was_stopped(self._plan.job_id) from fault
            if self._entry is not None and _could_not_bind(fault):
                raise PortTaken(f"port {self._entry['host_port']} was taken meanwhile", data=fault.data) from fault
            raise
        except BaseException:
            self._undo()
            raise

    def _launch_and_wait(self, tried: set[int]) -> Entry:
        plane, plan = self._plane, self._plan
        submission = plan.submission(plan.entry(None))
        known = self._platform.preflight(submission, pull=plan.request.pull, report=self._report)
        with held_back():
            entry = self._entry = _reserve(plane, plan, known, tried)
            self._report("launch", f"{plan.network_arch} on {_where(entry)}, job id {plan.job_id}")
            entry = self._entry = _spawn_reaper(plane, entry)
            entry = self._entry = _record(plane, plan.job_id, self._submit(entry))
            if plan.request.no_wait:
                return _record(plane, plan.job_id, {"starter": None})
        try:
            wait = _wait(plane, entry, plan.request.wait_s, self._report)
            waited_s = wait.until_ready()
        except NotReadyError:
            with held_back():
                _record(plane, plan.job_id, {"starter": None})
            raise
        with held_back():
            return _record_ready(plane, wait, waited_s)

    def _submit(self, entry: Entry) -> Entry:
        try:
            return self._platform.submit(self._plan.submission(entry))
        except ConflictError:
            self._refused = True
            raise

    def _undo(self) -> None:
        """Take back what this attempt did, and only that; whatever cannot be taken back is told."""
        if self._entry is None:
            return
        with held_back(forget=True):
            try:
                self._take_back(self._entry)
            except MoorageError as fault:
                job_id = self._plan.job_id
                self._report("undo", f"could not undo: {fault.message}; `moor stop {job_id}` tries again")

    def _take_back(self, entry: Entry) -> None:
        job_id, registry = self._plan.job_id, self._plane.registry
        try:
            recorded = registry.read().services.get(job_id)
        except ConflictError:
            recorded = None  # the file was damaged meanwhile: what runs is ended all the same
        if recorded is not None and not _is_same_start(recorded, entry):
            return
        entry = recorded or entry
        if not self._refused:
            self._platform.stop({**entry, "delete_instance": bool(entry.get("created_instance"))})
        end_reaper(self._plane, entry)
        with registry.transaction() as state:
            if job_id in state.services and _is_same_start(state.services[job_id], entry):
                if self._refused:
                    state.remove(job_id)
                else:
                    remove_with_tunnel(self._plane, state, entry)


def _check_free(plane: Plane, plan: StartPlan) -> None:
    """Refuse now what the reservation would refuse after a long pull."""
    services = plane.registry.read().services
    _refuse_known(services, plan)
    choose_host_port(plane, plan, list(services.values()), set())


def _refuse_known(services: Mapping[str, Entry], plan: StartPlan) -> None:
    if plan.job_id in services:
        raise ConflictError(
            f"a service with the id {plan.job_id} is in the registry already",
            code="job_id_taken",
            hint="leave --job-id away to get a new one",
            next=[f"moor status {plan.job_id}"],
        )


def _reserve(plane: Plane, plan: StartPlan, known: Entry, tried: set[int]) -> Entry:
    """Write the entry, with its port (which is added to `tried`), before anything is launched."""
    starter = identity_of(os.getpid())
    with plane.registry.transaction() as state:
        _refuse_known(state.services, plan)
        port = choose_host_port(plane, plan, list(state.services.values()), tried)
        entry = plan.entry(port) | known
        entry["starter"] = starter.as_field() if starter else {"pid": os.getpid(), "started": ""}
        state.add(entry)
    if port is not None:
        tried.add(port)
    return entry


def _where(entry: Entry) -> str:
    port = f", port {entry['host_port']}" if entry["host_port"] else ""
    return f"{entry['platform']}{port}"


def _record(plane: Plane, job_id: str, fields: Entry) -> Entry:
    """Add fields to the entry (None takes one away). Raises ConflictError when it was stopped meanwhile."""
    with plane.registry.transaction() as state:
        entry = state.services.get(job_id)
        if entry is None or entry.get("stop_requested_at"):
            raise _was_stopped(job_id)
        entry.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            entry.pop(name)
        return dict(entry)


def _record_ready(plane: Plane, wait: Wait, waited_s: float) -> Entry:
    ready = {"state": "ready", "ready_at": now_utc(), "ready_after_s": round(waited_s, 2), "starter": None}
    return _record(plane, wait.entry["job_id"], wait.learnt | ready)


def _spawn_reaper(plane: Plane, entry: Entry) -> Entry:
    """Before the launch: a start that is killed then leaves nothing running whose time nobody watches."""
    if entry.get("ttl_s") is None and entry.get("idle_timeout_s") is None:
        return entry
    reaper = spawn_reaper(plane, entry["job_id"])
    try:
        return _record(plane, entry["job_id"], {"reaper": reaper.as_field()})
    except MoorageError:
        end_reaper(plane, {**entry, "reaper": reaper.as_field()})
        raise


def _wait(plane: Plane, entry: Entry, timeout_s: float | None, report: Report) -> Wait:
    readiness = plane.catalog.service.readiness
    return Wait(
        entry=entry,
        platform=plane.platform(str(entry.get("platform"))),
        contract=contract_of(entry, plane.catalog),
        timeout_s=readiness.wait_s if timeout_s is None else timeout_s,
        request_timeout_s=readiness.request_timeout_s,
        fetch=fetcher(entry, plane.environ),
        mend=lambda entry, life: mend(plane, entry, life),
        report=report,
        secrets=plane.secrets(),
    )


def _is_same_start(one: Entry, other: Entry) -> bool:
    """Whether two entries of one id tell of the same start, and not of a later one with the same --job-id."""
    return one.get("started_at") == other.get("started_at")


def _stopped_meanwhile(plane: Plane, plan: StartPlan) -> bool:
    entry = plane.registry.read().services.get(plan.job_id)
    return entry is None or bool(entry.get("stop_requested_at"))


def _was_stopped(job_id: str) -> ConflictError:
    return ConflictError(f"the service {job_id} was stopped by another command while it started", code="stopped")


def _could_not_bind(fault: FailedError) -> bool:
    """Whether the service died because another program took its port between the probe and the bind."""
    tail = (fault.data or {}).get("log_tail", [])
    return fault.code == "service_died" and any("address already in use" in line.lower() for line in tail)
