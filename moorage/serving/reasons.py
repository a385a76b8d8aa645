"""Why a condition is what it is, and what the reader should do about it: the published catalogue."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

__all__ = ["ACTIONS", "CONDITIONS", "Reason"]

CONDITIONS = MappingProxyType(
    {
        "Accepted": "the spec was checked and is stored",
        "Applied": "the backend was told of this generation",
        "Healthy": "this generation's replicas answer",
        "Ready": "requests for the model are answered, by this generation or an older one",
    }
)
"""The types of conditions that a model has, and what True means."""


class Reason(StrEnum):
    """Every reason that a condition or an event may give."""

    ACCEPTED = "Accepted"
    WAITING = "WaitingForReconciler"
    BACKED_OFF = "BackedOff"
    BACKEND_UNREACHABLE = "BackendUnreachable"
    NO_CAPACITY = "NoCapacity"
    STARTING = "ReplicasStarting"
    SERVING = "Serving"
    DEGRADED = "ReplicasMissing"
    DEPLOY_FAILED = "DeployFailed"
    DEADLINE = "DeadlineExceeded"
    ROLLED_BACK = "RolledBack"
    NEVER_SERVED = "NeverServed"
    DELETING = "Deleting"
    DELETED = "Deleted"
    EXPIRED = "TimeToLiveOver"


ACTIONS = MappingProxyType(
    {
        Reason.ACCEPTED: "nothing",
        Reason.WAITING: "wait; when it stays, see whether an API process with a reconciler runs",
        Reason.BACKED_OFF: "wait for the next attempt, or change the spec",
        Reason.BACKEND_UNREACHABLE: "see that the backend runs; nothing is lost, work goes on when it answers",
        Reason.NO_CAPACITY: "delete or scale down a model, or add nodes to the backend",
        Reason.STARTING: "wait",
        Reason.SERVING: "nothing",
        Reason.DEGRADED: "read the model's logs; the backend is replacing what died",
        Reason.DEPLOY_FAILED: "read error_summary and the logs, then change the spec",
        Reason.DEADLINE: "read the logs; raise the deadline when loading takes longer",
        Reason.ROLLED_BACK: "the last healthy revision serves; change the spec to try again",
        Reason.NEVER_SERVED: "no revision was ever healthy; read error_summary, then change the spec",
        Reason.DELETING: "wait",
        Reason.DELETED: "declare it again when it is wanted",
        Reason.EXPIRED: "declare it again with a longer ttl_s, or none",
    }
)
"""What the reader should do, for every reason."""
