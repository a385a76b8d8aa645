"""What an endpoint's state means for the service in it: decided from what the workspace says, no effects.

    Lepton's phase (else its state)                       the service
    Ready                                                 alive; whether it serves, the server itself says
    Starting, Updating, Scaling, Migrating, Restarting    alive, and not serving yet
    Not Ready, UNK                                        alive, unless its replicas ended
    Error                                                 alive and hopeless: `failed`
    Stopping, Stopped, Deleting                           exited
    (no such endpoint)                                    exited, and nothing is left

Lepton's readiness has no path: an endpoint is Ready when its container runs, long before a model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from moorage.launch.platforms.life import Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALIVE_PHASES = frozenset({"Ready", "Starting", "Updating", "Scaling", "Migrating", "Restarting", "Not Ready", "UNK"})
ENDED_PHASES = frozenset({"Stopping", "Stopped", "Deleting", "Deleted"})
SETTLED_PHASES = frozenset({"Ready", *ENDED_PHASES})
"""Of which nothing more needs to be asked."""
MOVING_PHASES = frozenset({"Updating", "Scaling", "Migrating", "Restarting"})
"""In which replicas end because Lepton ends them."""

CRASHES_FORGIVEN = 2
"""Of a service that has been ready: Lepton starts a container again that ended."""
QUEUE_PATIENCE_S = 900.0
"""A replica that queues for longer has no room, as the TAO skill has it."""
REPEATED = 3
"""How often the scheduler must have said without words that it failed until it is believed."""

NO_ROOM = re.compile(
    r"insufficient|quota|no capacity|not enough|no available|nodes? (?:are|is) available|unschedulable", re.I
)
PULL_FAULT = re.compile(
    r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|(?:pull|pulling).{0,40}image", re.I
)
FAILED_REASONS = frozenset({"ConfigError", "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
NO_ROOM_REASONS = frozenset({"NoCapacity", "QuotaExceeded", "InsufficientQuota", "InsufficientCapacity"})
NOT_SCHEDULED_REASONS = frozenset({"FailedScheduling", "Unschedulable", "FailedCreate"})
PROGRESS_REASONS = frozenset({"Scheduled", "Pulling", "Pulled", "Created", "Started"})
"""Events after which older complaints about the same replica are over."""
QUIET_REASONS = frozenset({"Ready", "InProgress", "Unknown", ""})
"""Reasons that tell nothing without a message."""


class Endpoint:
    """One endpoint, as a listing tells it."""

    __slots__ = ("env", "labels", "name", "phase", "url")

    def __init__(
        self, *, name: str, phase: str, url: str | None, env: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        self.name = name
        self.phase = phase
        self.url = url
        """Where requests go; None while the workspace does not say."""
        self.env = env
        """Plain variables of its container; those that refer to a secret are left out."""
        self.labels = labels


class Clues:
    """Why an endpoint is not ready, as far as the workspace tells."""

    __slots__ = ("crashes", "events", "issues")

    def __init__(
        self,
        *,
        crashes: Mapping[str, list[Mapping[str, Any]]] | None = None,
        issues: Iterable[Mapping[str, Any]] = (),
        events: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.crashes = crashes or {}
        """Replica → its ends, each with `exit_code`, and `reason` where there is one."""
        self.issues = list(issues)
        """`reason` and `message` of replicas that are not ready."""
        self.events = list(events)


def phase_of(state: str, phase: str | None) -> str:
    """One word for both fields: the older family tells of Stopping and Stopped only in the second one."""
    word = (phase or state or "").replace("NotReady", "Not Ready")
    return word or "UNK"


def url_of(endpoint: str | None) -> str | None:
    """The external endpoint as a base URL; None when there is none, or when it is no address."""
    text = (endpoint or "").strip().rstrip("/")
    if not text:
        return None
    if "://" not in text:
        return f"https://{text}"
    return text if text.startswith(("https://", "http://")) else None


def life_of(endpoint: Endpoint | None, clues: Clues, *, now_s: float, was_ready: bool) -> Life:
    """Whether the service lives. `now_s`: seconds since the epoch; `was_ready`: it has been ready before."""
    if endpoint is None:
        return Life(state="exited", detail="no such endpoint", exists=False)
    phase = endpoint.phase
    if phase in ENDED_PHASES:
        return Life(state="exited", detail=phase)
    fields = {"host_url": endpoint.url} if endpoint.url else {}
    if phase == "Ready":
        return Life(state="alive", fields=fields)
    end = None if phase in MOVING_PHASES else _end_of(clues.crashes, was_ready=was_ready)
    if end is not None:
        return Life(state="exited", detail=end)
    outlook, detail = _outlook(clues, now_s=now_s)
    if outlook is None and phase == "Error":
        return Life(state="alive", detail=_words("Error", detail), outlook="failed", fields=fields)
    return Life(state="alive", detail=detail or phase, outlook=outlook, fields=fields)


def crashes_in(terminations: object) -> dict[str, list[Mapping[str, Any]]]:
    """Replica → its ends, from the older family's answer; what has another shape is left out."""
    if not isinstance(terminations, Mapping):
        return {}
    found = {str(replica): [end for end in ends_in(ends)] for replica, ends in terminations.items()}
    return {replica: ends for replica, ends in found.items() if ends}


def ends_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Every object in `value`, at any depth, that tells of a container's end."""
    for part in _objects(value):
        if isinstance(part.get("exit_code"), int) and not isinstance(part.get("exit_code"), bool):
            yield part


def issues_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Every object in `value`, at any depth, that gives a reason why a replica is not ready."""
    for part in _objects(value):
        if isinstance(part.get("reason"), str) and "exit_code" not in part:
            yield part


def _end_of(crashes: Mapping[str, list[Mapping[str, Any]]], *, was_ready: bool) -> str | None:
    """How the service ended; None while it did not, or may come back."""
    ends = [end for one in crashes.values() for end in one]
    if not ends or (was_ready and max(map(len, crashes.values())) <= CRASHES_FORGIVEN):
        return None
    last = max(ends, key=lambda end: _number(end.get("finished_at")))
    code = f"exit code {last['exit_code']}"
    reason = last.get("reason")
    return f"{reason} ({code})" if reason in ("OOMKilled", "Evicted") else code


def _outlook(clues: Clues, *, now_s: float) -> tuple[str | None, str | None]:
    """(outlook, why): the gravest of what replicas and events say."""
    said = [_judge_issue(issue, now_s=now_s) for issue in clues.issues]
    said += [_judge_event(event) for event in _open_complaints(clues.events)]
    for wanted in ("failed", "no_capacity", None):
        for outlook, detail in said:
            if outlook == wanted and detail:
                return outlook, detail
    return None, None


def _judge_issue(issue: Mapping[str, Any], *, now_s: float) -> tuple[str | None, str | None]:
    reason, message = str(issue.get("reason") or ""), str(issue.get("message") or "")
    words = _words(reason, message)
    if reason in FAILED_REASONS or PULL_FAULT.search(message):
        return "failed", words
    if reason in NO_ROOM_REASONS or (reason != "Ready" and NO_ROOM.search(message)):
        return "no_capacity", words
    if reason == "Queueing" and now_s - _moment_s(issue.get("creationTimestamp"), now_s) > QUEUE_PATIENCE_S:
        return "no_capacity", words
    return None, (message or None) if reason in QUIET_REASONS else words


def _judge_event(event: Mapping[str, Any]) -> tuple[str | None, str | None]:
    reason, message = str(event.get("reason") or ""), str(event.get("message") or event.get("note") or "")
    words = _words(reason, message)
    if reason in FAILED_REASONS or PULL_FAULT.search(message):
        return "failed", words
    if reason in NO_ROOM_REASONS:
        return "no_capacity", words
    if reason in NOT_SCHEDULED_REASONS:
        sure = NO_ROOM.search(message) or (not message and _number(event.get("count")) >= REPEATED)
        return ("no_capacity" if sure else None), words
    return None, words


def _open_complaints(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The warnings that no later progress of the same replica has settled, the newest first."""
    in_order = sorted(events, key=lambda event: str(event.get("last_observed_time") or ""))
    complaints: list[tuple[object, Mapping[str, Any]]] = []
    for event in in_order:
        about = _about(event)
        if event.get("type") == "Warning":
            complaints.append((about, event))
        elif str(event.get("reason")) in PROGRESS_REASONS:
            complaints = [(who, complaint) for who, complaint in complaints if who != about]
    return [complaint for _, complaint in reversed(complaints)]


def _about(event: Mapping[str, Any]) -> object:
    regarding = event.get("regarding")
    return regarding.get("name") if isinstance(regarding, Mapping) else None


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _words(reason: str, message: str | None) -> str:
    return f"{reason}: {message}" if reason and message else reason or message or ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _moment_s(text: object, otherwise: float) -> float:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
