"""brev: the service as a container on one of the user's Brev instances, reached by SSH and a tunnel.

The instance is one that runs, or one that the start creates. Its Docker engine is spoken to over SSH, under the alias
that Brev writes, and the container's port, published on the instance's own loopback, has the number of the local port
where the tunnel begins. Brev's command is asked which instances there are, and to create, start and delete one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError, UsageError
from moorage.launch.platforms.brev.lives import life_beyond, life_on
from moorage.launch.platforms.brev.machines import BrevMachines, target_of
from moorage.launch.platforms.docker.container import OWNER_LABEL, create_body, entry_of
from moorage.launch.platforms.docker.reference import gpu_host_of, load_service, network_name, require_runtime
from moorage.launch.platforms.life import Check, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from moorage.catalog.shapes import GpuHostEnv, ServiceReference
    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Report, Submission
    from moorage.launch.platforms.brev.instances import Choice, Instance
    from moorage.launch.tunnel.tunnels import TunnelSpec

AT_ONCE = 16
"""How many instances are asked at the same time."""


class Brev:
    """See the module. `service`: how containers are run; None reads the reference files when they are needed."""

    name = "brev"

    def __init__(self, environ: Mapping[str, str], service: ServiceReference | None = None) -> None:
        self._environ = environ
        self._given_service = service
        self._machines = BrevMachines(environ)

    def doctor(self) -> list[Check]:
        from moorage.launch.platforms.brev.doctor import check_all

        return check_all(self._machines)

    def plan(self, submission: Submission) -> dict[str, Any]:
        from moorage.launch.platforms.brev.instances import check_options

        check_options(submission.options)
        return {}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        from moorage.launch.platforms.brev.instances import CREATE_OPTIONS, check_create_flags, choose
        from moorage.launch.platforms.docker.engine import require_package

        for package in ("docker", "paramiko"):  # before anything costs
            require_package(package, "brev")
        cli, options = self._machines.cli, submission.options
        choice = choose(cli.instances(), options, submission.job_id)
        if choice.standing == "new" or any(options.get(name) for name in CREATE_OPTIONS):
            check_create_flags(cli.create_help(), options)
        if choice.standing == "up":
            report("launch", f"the Brev instance {choice.name}")
            self._preflight_engine(submission, choice.name, pull=pull, report=report)
        else:
            _announce(choice, options, pull=pull, report=report)
        client = options.get("ssh_client")
        known: Entry = {"instance_id": choice.name, "created_instance": choice.created}
        return known | ({"ssh_client": client} if client else {})

    def submit(self, submission: Submission) -> Entry:
        from moorage.launch.tunnel.tunnels import end_tunnel, start_again, start_tunnel

        entry = dict(submission.label)
        name, created = _instance_id(entry), bool(entry.get("created_instance"))
        created_for = submission.job_id if created else None
        # The local port is taken first: what comes next may cost minutes and money.
        tunnel = start_tunnel(_tunnel_spec(entry), self._environ)
        try:
            if self._machines.bring_up(name, _client(entry), submission.options, created_for=created_for):
                # For minutes there was nothing to reach, so it looks only now and then.
                end_tunnel({**entry, "tunnel": tunnel}, self._environ)
                tunnel = start_again(_tunnel_spec(entry), self._environ)
            self._run(submission, entry)
        except BaseException as fault:
            end_tunnel({**entry, "tunnel": tunnel}, self._environ)  # and none of another service that has this id
            if created and isinstance(fault, MoorageError):
                self._delete_after(fault, name, _client(entry))
            raise
        return {"tunnel": tunnel}

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        lives, silent = self._ask_instances(entries)
        lives.update(self._lives_of_silent(silent))
        return {entry["job_id"]: self._with_tunnel(entry, lives[entry["job_id"]]) for entry in entries}

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        name = self._place_of(entry)
        if name is None:
            return
        try:
            with self._machines.engine(name, _client(entry)) as engine:
                yield from engine.logs(str(entry["job_id"]), tail=tail, follow=follow)
        except PlatformUnreachable as fault:
            instance, standing = self._machines.where(name)
            if instance is None:
                return
            if standing in ("up", "unwell"):
                raise
            raise PlatformUnreachable(f"the Brev instance {name} is {instance.words}") from fault

    def stop(self, entry: Entry) -> str | None:
        from moorage.launch.tunnel.tunnels import end_tunnel

        created, delete = bool(entry.get("created_instance")), bool(entry.get("delete_instance"))
        client, job_id = _client(entry), str(entry["job_id"])
        if delete and not created:
            name = entry.get("instance_id")
            raise UsageError(
                f"--delete-instance: the Brev instance {name} was there before the service {job_id}",
                hint="leave the flag away; to delete the instance all the same, do it with Brev's own command",
                next=[f"brev delete {name}"],
            )
        if created:
            self._machines.cli.await_creation(job_id)
        name = self._place_of(entry)
        words = self._machines.end_container(name, client, job_id, created=created) if name else None
        if delete and name:
            words = self._machines.delete(name, client)
        # Last: as long as something cannot be stopped, it stays within reach.
        end_tunnel(entry, self._environ)
        return words

    def find(self) -> list[Entry]:
        """Every service on an instance that runs."""
        running = [one.name for one in self._configured_instances() if one.status == "RUNNING"]
        answers = _at_once(self._found_on, running)
        found = [entry for answer in answers if not isinstance(answer, MoorageError) for entry in answer]
        # An instance without Docker has no services; one that does not answer must not hide those of the others.
        grave = [one for one in answers if isinstance(one, MoorageError) and one.code != "docker_missing"]
        if grave and not found:
            raise grave[0]
        return found

    def _delete_after(self, fault: MoorageError, name: str, client: str | None) -> None:
        """The instance of a start that failed; where it stays, the failure says so."""
        try:
            self._machines.delete(name, client)
        except MoorageError as kept:
            fault.hint = f"{fault.hint}; the Brev instance {name} stays and costs: {kept.message}".removeprefix("; ")
            fault.next = [*fault.next, f"brev delete {name}"]

    def _place_of(self, entry: Entry) -> str | None:
        """The instance it is on; None when an entry names none and none has its container."""
        return str(entry.get("instance_id") or "") or self._machines.seek(str(entry["job_id"]))

    def _service(self) -> ServiceReference:
        return self._given_service or load_service(self._environ)

    def _gpu_host(self, submission: Submission) -> GpuHostEnv | None:
        return gpu_host_of(submission, self._service(), on_tegra=False)

    def _preflight_engine(self, submission: Submission, name: str, *, pull: str, report: Report) -> None:
        try:
            self._machines.cli.refresh()
            with self._machines.engine(name, submission.options.get("ssh_client"), refresh=False) as engine:
                engine.version()
                require_runtime(submission, self._gpu_host(submission), engine)
                engine.ensure_image(submission.image, pull=pull, report=report)
        except PlatformUnreachable as fault:
            if not fault.code.startswith("docker_"):
                raise
            doctor = "moor doctor --platform brev"
            raise PreflightError(fault.message, code=fault.code, hint=fault.hint, next=[doctor]) from fault

    def _run(self, submission: Submission, entry: Entry) -> None:
        from moorage.launch.interrupts import interruptible, raise_if_interrupted

        service = self._service()
        with self._machines.engine(_instance_id(entry), _client(entry)) as engine:
            # Preflight saw to the image where the instance was up; on any other it is pulled only now.
            interruptible(lambda: engine.ensure_image(submission.image, pull="missing", report=_ignore_progress))
            raise_if_interrupted()
            body = create_body(
                submission,
                run=service.docker_run_reference,
                network=engine.ensure_network(network_name(service, self._environ)),
                owner=os.getuid(),
                gpu_host=self._gpu_host(submission),
            )
            engine.run(submission.job_id, body)

    def _ask_instances(self, entries: Sequence[Entry]) -> tuple[dict[str, Life], list[tuple[Entry, MoorageError]]]:
        """(job id → life, entries on instances that gave none, and why): every instance at once, each one time."""
        groups: dict[tuple[str, str | None], list[Entry]] = {}
        for entry in entries:
            groups.setdefault((str(entry.get("instance_id") or ""), _client(entry)), []).append(entry)
        lives: dict[str, Life] = {}
        silent: list[tuple[Entry, MoorageError]] = []
        for group, answer in zip(groups.values(), _at_once(self._lives_on, list(groups.values())), strict=True):
            if isinstance(answer, MoorageError):
                silent += [(entry, answer) for entry in group]
            else:
                lives.update(answer)
        return lives, silent

    def _lives_on(self, entries: Sequence[Entry]) -> dict[str, Life]:
        """Of all services on one instance, or of those whose entries name none."""
        job_ids = [str(entry["job_id"]) for entry in entries]
        if not entries[0].get("instance_id"):
            return {job_id: life for one in job_ids for job_id, life in self._life_anywhere(one).items()}
        name, client = _instance_id(entries[0]), _client(entries[0])
        found = self._machines.lives(name, client, job_ids, time.time())
        missing = any(entry.get("created_instance") and not found[entry["job_id"]].exists for entry in entries)
        if missing and self._machines.where(name)[0] is None:
            return found  # deleted, and not yet off the network
        return {entry["job_id"]: life_on(entry, found[entry["job_id"]]) for entry in entries}

    def _life_anywhere(self, job_id: str) -> dict[str, Life]:
        name = self._machines.seek(job_id)
        if name is None:
            return {job_id: Life(state="exited", detail="no such container on any instance", exists=False)}
        return self._machines.lives(name, None, [job_id], time.time())

    def _lives_of_silent(self, silent: Sequence[tuple[Entry, MoorageError]]) -> dict[str, Life]:
        """On instances that SSH does not reach: Brev knows whether they are off, gone, or merely out of reach."""
        if not silent:
            return {}
        from moorage.launch.platforms.brev.instances import find_named, standing_of

        try:
            instances = self._machines.cli.instances()
            running = {one.name for one in instances if standing_of(one) == "up"}
            asked = {str(entry.get("instance_id")) for entry, _ in silent} & running
            moved = self._machines.renew(sorted(asked)) if asked else []
        except MoorageError as unasked:
            return {entry["job_id"]: Life(state="unknown", detail=unasked.message) for entry, _ in silent}
        again = [entry for entry, _ in silent if entry.get("instance_id") in moved]
        lives, _ = self._ask_instances(again) if again else ({}, [])
        for entry, fault in silent:
            instance = find_named(instances, str(entry.get("instance_id") or ""))
            lives.setdefault(entry["job_id"], life_beyond(entry, instance, standing_of(instance), fault))
        return lives

    def _with_tunnel(self, entry: Entry, life: Life) -> Life:
        from moorage.launch.tunnel.tunnels import see_tunnel

        tunnel, runs = see_tunnel(entry, self._environ)
        if tunnel and life.state == "alive" and life.detail:
            tunnel["state"] = "connecting"  # what is not up yet is not broken
        fields = {**life.fields, "tunnel": tunnel} if tunnel else life.fields
        serves = life.state == "alive" and not life.detail and isinstance(entry.get("host_port"), int)
        lost = _tunnel_spec(entry) if serves and not runs and entry.get("instance_id") else None
        return Life(
            state=life.state,
            detail=life.detail,
            exists=life.exists,
            outlook=life.outlook,
            fields=fields,
            lost_tunnel=lost,
        )

    def _configured_instances(self) -> list[Instance]:
        """Raises PreflightError `not_configured` where Brev was never used."""
        cli = self._machines.cli
        try:
            instances = cli.instances()
        except PreflightError as fault:
            if fault.code == "brev_missing" or not cli.has_login:
                raise PreflightError(fault.message, code="not_configured", hint=fault.hint, next=fault.next) from fault
            raise
        if any(one.status == "RUNNING" for one in instances):
            cli.refresh()
        return instances

    def _found_on(self, name: str) -> list[Entry]:
        port = self._service().docker_run_reference.container_port
        with self._machines.engine(name, None, refresh=False) as engine:
            containers = engine.list_containers(label=f"{OWNER_LABEL}={os.getuid()}")
        found = {"instance_id": name}
        return [entry_of(container, platform=self.name, container_port=port) | found for container in containers]


def _announce(choice: Choice, options: Mapping[str, Any], *, pull: str, report: Report) -> None:
    """Tell of an instance that comes up only in `submit`, where nothing can be told. Raises PreflightError."""
    if pull == "never":
        raise PreflightError(
            f"--pull never: nobody knows which images the Brev instance {choice.name} has before it runs",
            code="image_missing",
            hint="leave --pull away, or choose an instance that runs",
        )
    doing = {"new": f"is created ({options.get('instance_type')})", "off": "is started"}
    what = doing.get(choice.standing, "is coming up")
    report("launch", f"the Brev instance {choice.name} {what}: this takes minutes, and from now on it costs")


def _instance_id(entry: Mapping[str, Any]) -> str:
    """Raises UsageError for an entry of another tool, which names none."""
    name = entry.get("instance_id")
    if isinstance(name, str) and name:
        return name
    raise UsageError(
        f"the entry of {entry.get('job_id')} names no Brev instance",
        code="no_instance",
        hint="moor recover finds services by themselves; moor prune --forget takes the entry away",
        next=["moor recover --platform brev", f"moor prune --forget {entry.get('job_id')}"],
    )


def _client(entry: Mapping[str, Any]) -> str | None:
    client = entry.get("ssh_client")
    return client if isinstance(client, str) else None


def _tunnel_spec(entry: Mapping[str, Any]) -> TunnelSpec:
    """The same number on both sides: what was published there."""
    from moorage.launch.tunnel.tunnels import TunnelSpec

    port = int(entry["host_port"])
    remote = target_of(_instance_id(entry), _client(entry)).as_dict()
    route = {"kind": "ssh", "remote": remote, "address": "127.0.0.1", "port": port}
    return TunnelSpec(job_id=str(entry["job_id"]), local_port=port, route=route)


def _at_once(ask: Callable[[Any], Any], subjects: Sequence[Any]) -> list[Any]:
    """The answer for each; a MoorageError stands in for the answer of one that failed."""

    def safely(subject: Any) -> Any:
        try:
            return ask(subject)
        except MoorageError as fault:
            return fault

    if len(subjects) < 2:
        return [safely(subject) for subject in subjects]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(AT_ONCE, len(subjects))) as pool:
        return list(pool.map(safely, subjects))


def _ignore_progress(phase: str, message: str, **numbers: float) -> None:
    """Nobody can be told from inside `submit`."""
