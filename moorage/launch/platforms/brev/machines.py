"""The user's Brev instances as machines: logged in by SSH, their Docker engines spoken to, brought up and deleted."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager, suppress

from moorage.errors import ConflictError, MoorageError, PlatformUnreachable, PreflightError
from moorage.launch.platforms.brev.lives import cost_words, disk_words
from moorage.launch.platforms.docker.container import OWNER_LABEL, names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from moorage.launch.platforms.brev.cli import BrevCli
    from moorage.launch.platforms.brev.instances import Instance
    from moorage.launch.platforms.docker.engine import DockerEngine
    from moorage.launch.platforms.life import Life
    from moorage.launch.remote.host import RemoteHost
    from moorage.launch.remote.target import RemoteTarget

ASK_TIMEOUT_S = 10.0
SSH_WITHIN_S = 600.0
"""How long SSH and Docker may take to answer on an instance that Brev says is up."""


class BrevMachines:
    """All instances of the login in HOME. `client`: which SSH client; None: the usual one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._hosts: dict[RemoteTarget, RemoteHost] = {}
        weakref.finalize(self, _close_all, self._hosts)

    @property
    def cli(self) -> BrevCli:
        from moorage.launch.platforms.brev.cli import BrevCli

        return BrevCli(self._environ)

    def where(self, name: str) -> tuple[Instance | None, str]:
        """The instance as Brev tells of it, and how it stands; None and `gone` when Brev has none of that name."""
        from moorage.launch.platforms.brev.instances import find_named, standing_of

        instance = find_named(self.cli.instances(), name)
        return instance, standing_of(instance)

    def seek(self, job_id: str) -> str | None:
        """The name of the running instance that has a container called so; None when none has.

        For entries that name no instance: other tools write such. Raises PlatformUnreachable when an instance that
        may have it does not answer.
        """
        fault: MoorageError | None = None
        for instance in self.cli.instances():
            if instance.status != "RUNNING":
                continue
            try:
                with self.engine(instance.name, None) as engine:
                    if engine.inspect(job_id) is not None:
                        return str(instance.name)
            except MoorageError as silent:
                fault = fault if silent.code == "docker_missing" else silent
        if fault is not None:
            raise fault
        return None

    def host(self, name: str, client: str | None, *, refresh: bool = True) -> RemoteHost:
        """The instance, logged in; kept for the next question.

        When the login fails the alias may be an old one: then Brev writes it anew (unless not `refresh`), and the
        login is tried once more where it leads elsewhere now.
        """
        from moorage.launch.remote.connect import connect

        target = target_of(name, client)
        with self._lock:
            known = self._hosts.get(target)
        if known is not None and known.is_alive():
            return known
        self._drop(target, known)
        try:
            host = connect(target, self._environ)
        except MoorageError:
            if not refresh or not self.renew([name]):
                raise
            host = connect(target, self._environ)
        with self._lock:
            kept = self._hosts.setdefault(target, host)
        if kept is not host:  # another thread was quicker
            host.close()
        return kept

    def renew(self, names: Sequence[str]) -> list[str]:
        """Have Brev write the aliases anew; the names that lead elsewhere now."""
        before = [self._way_to(name) for name in names]
        self.cli.refresh()
        return [name for name, way in zip(names, before, strict=True) if self._way_to(name) != way]

    @contextmanager
    def engine(self, name: str, client: str | None, *, refresh: bool = True) -> Iterator[DockerEngine]:
        """The Docker engine, through the package."""
        from moorage.launch.platforms.docker.engine import DockerEngine
        from moorage.launch.remote.docker_way import docker_way

        with docker_way(self.host(name, client, refresh=refresh)) as url:
            yield DockerEngine(self._environ, url)

    def lives(self, name: str, client: str | None, job_ids: Sequence[str], now_s: float) -> dict[str, Life]:
        """The life of each container, by one listing, without the package. Raises MoorageError."""
        from moorage.launch.platforms.docker import socket as docker_socket
        from moorage.launch.platforms.docker.container import lives_of
        from moorage.launch.remote.docker_way import docker_way

        with docker_way(self.host(name, client, refresh=False)) as url:
            endpoint = docker_socket.Endpoint(url)
            listed = docker_socket.list_containers(endpoint, names=job_ids, timeout_s=ASK_TIMEOUT_S)
            containers = {found: container for container in listed for found in names_of(container)}

            def was_oom(container_id: str) -> bool:
                found = docker_socket.inspect(endpoint, container_id, timeout_s=ASK_TIMEOUT_S)
                return bool(found and found["State"].get("OOMKilled"))

            return lives_of(job_ids, containers, now_s=now_s, ran_out_of_memory=was_oom)

    def bring_up(self, name: str, client: str | None, options: Mapping[str, Any], *, created_for: str | None) -> bool:
        """Create or start the instance where it must be, and wait until its Docker engine answers; False when it was
        up already.

        `created_for`: the job id for which it is created when it is not there; None: it must be there.
        """
        from moorage.launch.interrupts import raise_if_interrupted
        from moorage.launch.platforms.brev.cli import until

        instance, standing = self.where(name)
        if standing == "up":
            return False
        raise_if_interrupted()
        if instance is None and created_for is not None:
            self.cli.create(name, options, job_id=created_for)
        elif standing == "off":
            self.cli.start(name)
        self.cli.await_up(name)
        what = f"SSH and Docker on the Brev instance {name}"
        until(lambda: self._answers(name, client), what=what, within_s=SSH_WITHIN_S)
        return True

    def end_container(self, name: str, client: str | None, job_id: str, *, created: bool) -> str | None:
        """Stop and remove a service's container; what stays and costs. Raises PlatformUnreachable.

        An instance that is gone or off has nothing to be stopped, and one that was just `created` may not be up yet.
        """
        if created:
            instance, standing = self.where(name)
            if standing not in ("up", "unwell"):
                return disk_words(instance, job_id) if instance else None
        try:
            with self.engine(name, client) as engine:
                engine.stop(job_id)
        except PlatformUnreachable:
            instance, standing = self.where(name)
            if instance is None:
                return None
            if standing in ("off", "failed"):
                return disk_words(instance, job_id)
            raise
        return cost_words(name, created=created)

    def delete(self, name: str, client: str | None) -> str | None:
        """Delete the instance; None when it is gone, else what Brev is still doing.

        Raises ConflictError when other services of ours run on it.
        """
        _, standing = self.where(name)
        if standing in ("up", "unwell"):
            self._refuse_in_use(name, client)
        if self.cli.delete(name):
            return None
        return f"the Brev instance {name} is still being deleted: `brev ls` shows when it is gone"

    def _way_to(self, name: str) -> tuple[str, int, str, str | None]:
        from moorage.launch.remote.user_config import read_settings

        found = read_settings(name, target_of(name, None), self._environ)
        return found.host_name, found.port, found.user, found.proxy_command

    def _drop(self, target: RemoteTarget, host: RemoteHost | None) -> None:
        with self._lock:
            if host is not None and self._hosts.get(target) is host:
                del self._hosts[target]
        if host is not None:
            with suppress(MoorageError, OSError):
                host.close()

    def _answers(self, name: str, client: str | None) -> bool:
        try:
            with self.engine(name, client) as engine:
                return bool(engine.version())
        except PreflightError as fault:
            if fault.code != "login_refused":  # the key comes a moment after sshd
                raise
            return False

    def _refuse_in_use(self, name: str, client: str | None) -> None:
        try:
            with self.engine(name, client) as engine:
                containers = engine.list_containers(label=OWNER_LABEL)
        except MoorageError:
            return  # nothing can be asked there, so nothing of use runs there
        running = [found for one in containers if one.get("State") == "running" for found in names_of(one)]
        if running:
            raise ConflictError(
                f"the Brev instance {name} is not deleted: other services run on it: {', '.join(running)}",
                code="instance_in_use",
                hint="stop them first, or stop this one without --delete-instance",
                next=[f"moor stop {job_id}" for job_id in running],
            )


def target_of(name: str, client: str | None) -> RemoteTarget:
    """How an instance is reached: by its alias alone, everything else is in the SSH configuration."""
    from moorage.launch.remote.target import make_target

    return make_target((name,), client=client or "paramiko")


def _close_all(hosts: dict[RemoteTarget, RemoteHost]) -> None:
    while hosts:
        with suppress(MoorageError, OSError):
            hosts.popitem()[1].close()
