"""What a pod says of itself, in words and in what they mean. Pure, and light: a listing imports it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Json = Mapping[str, Any]

NO_ROOM_S = 10.0
"""How long a pod may be unschedulable before there is no room for it: autoscalers look about every ten seconds."""

HOPELESS_IMAGES = frozenset({"InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
TRIED_IMAGES = frozenset({"ImagePullBackOff", "ErrImagePull", "ImageInspectError"})
UNCREATED = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"})
STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})
PASSING = (
    *("timeout", "timed out", "deadline exceeded", "connection refused", "connection reset", "toomanyrequests"),
    *("too many requests", "temporary failure", "unexpected eof", "tls handshake", "503", "502", "500 internal"),
    "network is unreachable",
)
"""Parts of what is said of a fault that may pass by itself."""
MOUNT_HOPELESS = ("hostpath type check failed", "not a directory", "persistentvolumeclaim")


class Sign:
    """What a pod's state means for a service."""

    __slots__ = ("detail", "meaning")

    def __init__(self, meaning: str, detail: str | None = None) -> None:
        self.meaning = meaning
        """`starting`, `running`, `ready`, `ended`, `down` (it died and is to be started again), `failed` (it cannot
        come up), `no_room`"""
        self.detail = detail

    def __repr__(self) -> str:
        return f"Sign({self.meaning!r}, {self.detail!r})"


def newest_pod(pods: Sequence[Json]) -> Json | None:
    """The pod that counts: one that is not being deleted, still runs, and is the youngest. None when there is none."""
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return max(staying, key=lambda pod: (not _has_ended(pod), pod["metadata"]["creationTimestamp"]), default=None)


def sign_of(pod: Json, events: Sequence[Json], *, now_s: float) -> Sign:
    """Events: those of this pod. `now_s`: the cluster's clock, seconds since the epoch."""
    status = pod.get("status") or {}
    unscheduled = _condition(pod, "PodScheduled")
    if unscheduled is not None and unscheduled.get("status") == "False":
        return _unscheduled(unscheduled, events, now_s)
    container = container_of(pod)
    if _has_ended(pod):
        return Sign("ended", ending_of(pod) or str(status.get("message") or status.get("reason") or status["phase"]))
    if container is None:
        return Sign("starting", _mount_words(events) or "waiting for a node")
    state = container.get("state") or {}
    if "waiting" in state:
        return _waiting(pod, state["waiting"] or {}, events)
    if "terminated" in state:
        return Sign("down", ending_of(pod))
    if container.get("ready"):
        return Sign("ready", ending_of(pod))
    return Sign("running", ending_of(pod))


def container_of(pod: Json) -> Json | None:
    """The status of the server's container; None before a node has it."""
    found = (pod.get("status") or {}).get("containerStatuses") or []
    return found[0] if found else None


def restarts_of(pod: Json) -> int:
    """How often its container was started again."""
    return int((container_of(pod) or {}).get("restartCount") or 0)


def has_started(pod: Json) -> bool:
    """Whether its container runs, or ran: whether there can be a log."""
    container = container_of(pod) or {}
    states = (container.get("state") or {}, container.get("lastState") or {})
    return any(name in state for state in states for name in ("running", "terminated"))


def ending_of(pod: Json) -> str | None:
    """How its container ended last: `exit code 17`, `OOMKilled (exit code 137)`; None when it never did."""
    container = container_of(pod) or {}
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        if ended:
            return _ending(ended)
    return None


def unanswered_words(events: Iterable[Json], *reasons: str) -> str | None:
    """The message of the latest event with one of these reasons; None without one."""
    found = [event for event in events if event.get("reason") in reasons and event.get("message")]
    latest = max(found, key=moment_of, default=None)
    return str(latest["message"]).strip() if latest else None


def moment_of(event: Json) -> str:
    """When it happened last, as text that sorts."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def seconds_of(moment: object) -> float:
    """Seconds since the epoch of a cluster's timestamp; 0.0 for none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return 0.0


def passes(words: str) -> bool:
    """Whether what a fault says sounds as if it may pass by itself."""
    lower = words.lower()
    return any(part in lower for part in PASSING)


def _has_ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _condition(thing: Json, kind: str) -> Json | None:
    conditions = (thing.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), None)


def _unscheduled(condition: Json, events: Sequence[Json], now_s: float) -> Sign:
    """An autoscaler that makes room says so; one that cannot says that, and then there is no use in waiting."""
    detail = f"Unschedulable: {condition.get('message') or condition.get('reason')}"
    said = {event.get("reason") for event in events}
    if "TriggeredScaleUp" in said or "Nominated" in said:
        return Sign("starting", f"{detail} (the cluster adds a node)")
    waited_s = now_s - seconds_of(condition.get("lastTransitionTime"))
    if "NotTriggerScaleUp" in said or waited_s >= NO_ROOM_S:
        return Sign("no_room", detail)
    return Sign("starting", detail)


def _waiting(pod: Json, waiting: Json, events: Sequence[Json]) -> Sign:
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in STARTING:
        return _creating(reason, events)
    if reason == "CrashLoopBackOff":
        return Sign("down", ending_of(pod) or reason)
    if reason in TRIED_IMAGES or reason in HOPELESS_IMAGES:
        return _without_image(reason, message, events)
    detail = f"{reason}: {message}" if message else reason
    hopeless = reason in UNCREATED and not passes(message)
    return Sign("failed" if hopeless else "starting", detail)


def _without_image(reason: str, message: str, events: Sequence[Json]) -> Sign:
    """A back-off message often says no more than that; the event before it has the registry's words."""
    words = unanswered_words(
        [event for event in events if not str(event.get("message")).startswith("Error: ")], "Failed", "InspectFailed"
    )
    detail = f"{reason}: {words or message}" if words or message else reason
    if reason in HOPELESS_IMAGES:
        return Sign("failed", detail)
    backs_off = reason != "ErrImagePull"
    return Sign("failed" if backs_off and not passes(detail) else "starting", detail)


def _creating(reason: str, events: Sequence[Json]) -> Sign:
    words = _mount_words(events)
    if words is None:
        return Sign("starting", reason or "ContainerCreating")
    hopeless = any(part in words.lower() for part in MOUNT_HOPELESS) and not passes(words)
    return Sign("failed" if hopeless else "starting", words)


def _mount_words(events: Sequence[Json]) -> str | None:
    words = unanswered_words(events, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    return f"the pod cannot be set up: {words}" if words else None


def _ending(ended: Json) -> str:
    code = f"exit code {ended.get('exitCode')}"
    reason, message = str(ended.get("reason") or ""), str(ended.get("message") or "").strip()
    if reason == "OOMKilled":
        return f"OOMKilled ({code})"
    return f"{code}: {message}" if message and reason not in ("Error", "Completed") else code
