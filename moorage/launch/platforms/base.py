"""What every platform is: eight verbs, in words.

A platform holds no registry, chooses no port and waits for nothing; it turns a `Submission` into something that runs
and answers questions about it. An entry is the registry's record of one service (a plain dict, `launch.entry`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from moorage.launch.entry import Entry
from moorage.launch.platforms.life import Check, Life

__all__ = ["Check", "Life", "Platform", "Report", "Submission"]


class Submission(NamedTuple):
    """All a platform needs to start one service."""

    job_id: str
    network_arch: str
    image: str
    command: str
    """The inner command: run as `/bin/sh -c COMMAND`."""
    env: dict[str, str]
    secret_env: dict[str, str]
    """Name → value. Never in argv, labels, logs, errors or the entry."""
    port: int | None
    """The host port to publish; None where the platform chooses."""
    num_gpus: int
    gpus: str | None
    """None: `num_gpus` of them; `none`: no device request; else ids, comma-separated."""
    runtime: str | None
    """A container runtime to use instead of device requests (`nvidia`); None: as the machine needs it."""
    mounts: tuple[str, ...]
    """`SRC:DST[:ro]`"""
    program: str
    """What the command runs: must be on PATH where there is no container."""
    python_module: str | None
    """The package that a Python program must have; None: the program is the server."""
    engine: str | None
    """Whose Python environment a local process runs in; None: none."""
    secret_names: tuple[str, ...]
    """Every variable that is secret: a platform that inherits an environment passes none but `secret_env` on."""
    container_port: int
    """Where the server listens inside a container."""
    readiness_paths: tuple[str, ...]
    """What it answers with 200 when it is ready, the first one to ask first."""
    options: dict[str, Any]
    """The platform's own flags that were given, by name with underscores: `gpus_type`, `as_job`."""
    label: dict[str, Any]
    """The entry as known before launch: stored with the service so that `find` can rebuild it. No secrets."""

    def __repr__(self) -> str:
        """Without the values of secrets, so that no traceback or log can show them."""
        shown = self._asdict() | {"secret_env": sorted(self.secret_env)}
        return f"Submission({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Platform(Protocol):
    """The contract; tests/contract/platform_contract.py runs it against every platform."""

    name: str

    def doctor(self) -> list[Check]:
        """Every check, also the good ones. Changes nothing and raises nothing."""
        ...

    def plan(self, submission: Submission) -> dict[str, Any]:
        """What a dry run shows besides: `script`, `manifests`; {} when there is nothing. Secrets as references.

        Asks nobody: no network, no login. Raises UsageError for an option that cannot be. A start calls it first.
        """
        ...

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        """Make sure that `submit` can work: program, login, engine, image (pulled when `pull` allows), GPUs.

        Returns the entry's fields that are known now, and are recorded before `submit`: all that `stop` and `status`
        will need to reach the service, whatever becomes of the start. Creates nothing that costs or must be undone.
        Raises PreflightError with the command that fixes it.
        """
        ...

    def submit(self, submission: Submission) -> Entry:
        """Start it and return as soon as the platform accepted: the entry's fields that only now are known.

        `submission.label` is the recorded entry. Signals are held back meanwhile, so what takes longer than seconds
        calls `raise_if_interrupted`.

        Raises PortTaken when the host port cannot be bound, and then nothing is left; FailedError, PreflightError or
        PlatformUnreachable otherwise, and then nothing is left either.
        """
        ...

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        """`job_id` → life, for all entries in one cheap call. Never raises: what cannot be asked is `unknown`."""
        ...

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        """Lines without their newline; with `follow`, until the service ends. None: from the beginning."""
        ...

    def stop(self, entry: Entry) -> str | None:
        """End it and remove what is left of it, and return when it is gone. Something already gone is success.

        Also for an entry whose `submit` was cut off anywhere. With `entry["delete_instance"]` a machine that the start
        made goes too. Returns what stays and costs, in words; None when nothing does.
        Raises PlatformUnreachable when the platform does not answer.
        """
        ...

    def find(self) -> list[Entry]:
        """Every service that we ever labelled and that still exists, as entries. Raises PlatformUnreachable."""
        ...


class Report(Protocol):
    """Tells of progress. Called with a phase (`pull`, `launch`, `wait`…), a message, and numbers for a bar."""

    def __call__(self, phase: str, message: str, **numbers: float) -> None: ...
