"""What a backend promises: it is told everything that should run, and tells what does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from moorage.errors import TryAgainError
from moorage.serving.model import ModelEndpoint
from moorage.serving.reasons import Reason
from moorage.serving.spec.spec import ServingSpec

__all__ = ["NO_ANSWER", "AppState", "Backend", "BackendUnreachable", "Seen", "Wanted"]

NO_ANSWER = "the backend does not answer; it is asked again"
"""What users are told of a fault of the backend that is of no model of theirs."""


class BackendUnreachable(TryAgainError):
    """The backend does not answer: what runs is unknown, so nothing is concluded from it.

    The message is for operators: it may name where the backend is, its files, and models of anybody.
    """

    code = "backend_unreachable"

    def __init__(self, message: str, *, told: str = NO_ANSWER, hint: str = "", next: Iterable[str] = ()) -> None:
        """`told`: to every user whose model waits for it."""
        super().__init__(message, hint=hint, next=next)
        self.told = told


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One application that should run: one build of one model, with its replicas."""

    app: str
    """`<model_key>-<build>`: unique, letters, digits and dashes."""
    model_key: str
    model_id: str
    """The dated name: what the server behind it calls the model."""
    spec: ServingSpec


class AppState(StrEnum):
    """How an application is."""

    DEPLOYING = "DEPLOYING"
    RUNNING = "RUNNING"
    """As many replicas as wanted answer; while more are being started it is still RUNNING when one does."""
    DEGRADED = "DEGRADED"
    """It ran, and now nothing of it answers; the backend is at it."""
    FAILED = "FAILED"
    """It will not run as it is."""
    REMOVING = "REMOVING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One application as the backend tells it."""

    app: str
    state: AppState
    digest: str
    """Of what the backend was last told about it; equal to `Backend.digest` of the same Wanted."""
    reason: Reason
    message: str = ""
    replicas_ready: int = 0
    endpoints: tuple[ModelEndpoint, ...] = ()
    """Those that answer now."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What `serve_status` shows beside `app_name` and `app_status`; no secrets."""


class Backend(Protocol):
    """All methods block, may be called by one thread at a time, and raise BackendUnreachable when nobody answers.

    Only applications that the control plane made are seen and touched: others of the same cluster stay as they are.
    """

    name: str
    has_lora: bool
    """Whether specs with `lora` can be served; if not they are refused with `backend_has_no_lora`."""
    has_autoscaling: bool
    """The same of `autoscaling`, with `backend_has_no_autoscaling`."""

    def digest(self, wanted: Wanted) -> str:
        """What this backend would be told about it, in short: equal digests need no `apply`."""
        ...

    def observe(self) -> Mapping[str, Seen]:
        """Every application of ours by name."""
        ...

    def apply(self, wanted: Sequence[Wanted]) -> None:
        """Have exactly these: add, change in place what may be, take away what is not listed.

        An application whose digest is unchanged is not touched. Returns when the backend accepted it all, not when it
        runs. Raises MoorageError when it refused, in whole: then nothing was changed.
        """
        ...

    def logs(self, app: str, lines: int) -> Iterator[str]:
        """The last lines of every replica, each with its replica's name in front."""
        ...

    def summary(self) -> dict[str, Any]:
        """For administrators: the backend's own view of itself, whatever it is called there."""
        ...

    def close(self) -> None:
        """Let go of connections; what runs goes on."""
        ...
