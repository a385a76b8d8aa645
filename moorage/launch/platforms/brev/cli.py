"""The `brev` command, as far as it can be relied on: list, refresh, create, start, delete.

Never `brev exec` and `brev port-forward`: the first runs a command again that failed and hides its exit status, the
second leaves an ssh behind that nobody ends. Instances are reached by plain SSH under the aliases that `brev refresh`
writes.
"""

from __future__ import annotations

import os
import time

from moorage.errors import MoorageError, TryAgainError
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms.brev.faults import command_fault, command_missing, create_fault
from moorage.launch.platforms.brev.instances import (
    Instance,
    create_words,
    failure_of,
    find_named,
    missing,
    parse_listing,
    standing_of,
)
from moorage.launch.processes import all_processes, environment_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ASK_TIMEOUT_S = 60.0
CREATE_TIMEOUT_S = 600.0
"""A release that knows no `--detached` waits until the instance is up."""
READY_WITHIN_S = 1800.0
"""Clouds take up to half an hour for the largest machines."""
GONE_WITHIN_S = 300.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0

JOB_VARIABLE = "MOORAGE_BREV_JOB"
"""Marks a `brev create` by its job id, so that a stop finds one whose starter was killed."""

PASSED_ON = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM", "DO_NOT_TRACK", "SSL_CERT_FILE"),
        *("SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    )
)
"""Variables that the command gets, besides its own (`BREV_*`): no secret of anybody else's."""


class Said:
    """What a call of the command gave back."""

    __slots__ = ("err", "out", "status")

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def all(self) -> str:
        return f"{self.out}\n{self.err}"


class BrevCli:
    """The command on the PATH of `environ`, of the login in its HOME.

    Methods raise PreflightError when it is missing or not logged in, and PlatformUnreachable when Brev does not answer.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @property
    def has_login(self) -> bool:
        """Whether anybody ever logged in; the login may have ended since."""
        return os.access(f"{self._environ.get('HOME', '')}/.brev/credentials.json", os.F_OK)

    def version(self) -> str:
        """Its own words, in one line."""
        said = self._run("--version", timeout_s=ASK_TIMEOUT_S)
        return " ".join(said.out.split()) or "no version told"

    def instances(self) -> list[Instance]:
        """The user's instances in the active organization."""
        said = self._expect("ls", "--json")
        try:
            return parse_listing(said.out)
        except ValueError as fault:
            raise command_fault("ls --json", f"{fault}: {said.all}") from fault

    def refresh(self) -> None:
        """Write the SSH aliases of the instances that run now."""
        self._expect("refresh")

    def create_help(self) -> str:
        """The help text of `brev create`: which flags it knows."""
        return self._run("create", "--help", timeout_s=ASK_TIMEOUT_S).all

    def create(self, name: str, options: Mapping[str, Any], *, job_id: str) -> None:
        """Have an instance made, and return as soon as Brev accepted. Raises what `create_fault` gives."""
        words = create_words(self.create_help(), name, options)
        said = self._run(*words, timeout_s=CREATE_TIMEOUT_S, marks={JOB_VARIABLE: job_id})
        if said.status != 0:
            raise create_fault(name, str(options["instance_type"]), said.all)

    def start(self, name: str) -> None:
        """Turn an instance on that is stopped or is being stopped, and return as soon as Brev accepted."""
        what = f"the Brev instance {name} to have stopped"
        until(lambda: self._status(name) != "STOPPING", what=what, within_s=GONE_WITHIN_S)
        self._expect("start", name, "--detached")

    def delete(self, name: str) -> bool:
        """Delete an instance; True when it is gone, False when Brev was still at it after GONE_WITHIN_S.

        One that is not there is gone.
        """
        if find_named(self.instances(), name) is not None:
            said = self._run("delete", name, timeout_s=ASK_TIMEOUT_S)
            if said.status != 0 and find_named(self.instances(), name) is not None:
                raise command_fault(f"delete {name}", said.all)
        deadline = time.monotonic() + GONE_WITHIN_S
        for pause_s in _pauses():
            if all(one.name != name for one in self.instances()):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
        raise AssertionError("pauses never end")

    def await_up(self, name: str, *, within_s: float = READY_WITHIN_S) -> Instance:
        """Wait until the instance runs and its build is over; it.

        Raises FailedError when it failed, NotFoundError when it is not there, TryAgainError when the time is over, and
        KeyboardInterrupt when a signal came. An unhealthy one counts as up: whether SSH answers is seen next.
        """

        def look() -> Instance | None:
            instances = self.instances()
            instance = find_named(instances, name)
            if instance is None:
                raise missing(instances, name)
            standing = standing_of(instance)
            if standing == "failed":
                raise failure_of(instance)
            return instance if standing in ("up", "unwell") else None

        found: Instance = until(look, what=f"the Brev instance {name} to be up", within_s=within_s)
        return found

    def await_creation(self, job_id: str) -> None:
        """Wait for a `brev create` of this job that still runs though its starter was killed."""
        deadline = time.monotonic() + CREATE_TIMEOUT_S
        while _creating(job_id) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _status(self, name: str) -> str:
        instance = find_named(self.instances(), name)
        return instance.status if instance else ""

    def _expect(self, *words: str) -> Said:
        said = self._run(*words, timeout_s=ASK_TIMEOUT_S)
        if said.status != 0:
            raise command_fault(" ".join(words), said.all)
        return said

    def _run(self, *words: str, timeout_s: float, marks: Mapping[str, str] | None = None) -> Said:
        """Standard input is empty, since the command reads names from it; a session of its own, since Ctrl-C at the
        terminal must not end it in the middle of a creation.
        """
        import shutil
        import subprocess

        program = shutil.which("brev", path=self._environ.get("PATH"))
        if program is None:
            raise command_missing()
        try:
            done = subprocess.run(
                [program, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self._passed_on() | dict(marks or {}),
                timeout=timeout_s,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise command_fault(" ".join(words), f"no answer within {timeout_s:g} s (timeout)") from late
        except OSError as fault:
            raise command_fault(" ".join(words), str(fault)) from fault
        return Said(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def _passed_on(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self._environ.items()
            if name in PASSED_ON or name.startswith(("BREV_", "LC_", "XDG_"))
        }


def until(look: Callable[[], Any], *, what: str, within_s: float) -> Any:
    """Look again and again until it gives something; that.

    A fault that passes (TryAgainError) is waited out too. Raises TryAgainError when the time is over, with the last
    fault's words, and KeyboardInterrupt when a signal came.
    """
    deadline = time.monotonic() + within_s
    for pause_s in _pauses():
        raise_if_interrupted()
        fault: MoorageError | None = None
        try:
            if found := look():
                return found
        except TryAgainError as passing:
            fault = passing
        if time.monotonic() > deadline:
            said = f": {fault.message}" if fault else ""
            raise TryAgainError(f"waited {within_s:g} s for {what}{said}", code="instance_not_up") from fault
        _pause(pause_s)
    raise AssertionError("pauses never end")


def _pause(pause_s: float) -> None:
    """In small steps, so that a signal is noticed."""
    end = time.monotonic() + pause_s
    while (left := end - time.monotonic()) > 0:
        raise_if_interrupted()
        time.sleep(min(left, 0.1))


def _pauses() -> Any:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def _creating(job_id: str) -> bool:
    """Whether a process of this machine carries the mark of a creation for this job."""
    return any(environment_of(pid).get(JOB_VARIABLE) == job_id for pid in all_processes())
