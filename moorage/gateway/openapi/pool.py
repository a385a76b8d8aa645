"""The trainer's routes."""

from __future__ import annotations

from typing import Any

from moorage.gateway.openapi.operation import json_of, operation, query, ref, stream_of
from moorage.pool.arrow import CONTENT_TYPE

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    """Groups leased, acked and nacked; what is stored; what happens."""
    settled: dict[str, Any] = {"faults": (400, 404, 409, 422, 503)}
    leased = _of(
        "Lease groups that are ready",
        "lease",
        _table_of("One lease a group; none when nothing is ready. As a table one row a step.", ref("Leases")),
        body="LeaseBody",
        body_required=False,
        faults=(400, 406, 422, 503),
    )
    acked = _of(
        "Done with these leases: all of them or none",
        "ack",
        json_of("How many.", ref("Acked")),
        body="AckBody",
        **settled,
    )
    nacked = _of(
        "Give these groups back, or drop them",
        "nack",
        json_of("How many.", ref("Nacked")),
        body="NackBody",
        **settled,
    )
    marked = _of(
        "Set curation marks of a step; null takes one away",
        "mark",
        json_of("All that the step has now.", ref("Marked")),
        body="MarksBody",
        faults=(400, 404, 422, 503),
    )
    retained = _of(
        "Let old trajectories go",
        "retain",
        json_of("What went, or with `dry_run` what would.", ref("Retained")),
        body="RetainBody",
        faults=(400, 422, 503),
    )
    return {
        "/pool/lease": {"post": leased},
        "/pool/ack": {"post": acked},
        "/pool/nack": {"post": nacked},
        "/pool/marks": {"post": marked},
        "/pool/retain": {"post": retained},
        **_read(),
    }


def _read() -> dict[str, Any]:
    channel = query("channel", "This channel alone.", type="string")
    uids = [query(name, "This one alone.", type="string") for name in ("trajectory_uid", "prompt_uid")]
    state = query("state", "This state alone.", enum=["open", "complete"])
    version = query("policy_version", "This weight version alone.", type="integer")
    n_rollouts = query("n_rollouts", "What `ready` means.", type="integer", minimum=1)
    paged = [
        query("limit", "Rows a page.", type="integer", minimum=1, maximum=1000, default=200),
        query("cursor", "`next_cursor` of the page before.", type="string"),
    ]
    after = query("cursor", "Replay what came after this event; 0: everything kept.", type="integer", minimum=0)
    return {
        "/pool/stats": {
            "get": _of(
                "Counts by channel",
                "pool_stats",
                json_of("By channel.", ref("Stats")),
                parameters=(channel, n_rollouts),
                faults=(422, 503),
            )
        },
        "/pool/steps": {
            "get": _of(
                "Stored steps in commit order",
                "pool_steps",
                _table_of("A page.", ref("StepPage")),
                parameters=(channel, *uids, version, state, *paged),
                faults=(406, 422, 503),
            )
        },
        "/pool/trajectories": {
            "get": _of(
                "Trajectories, oldest first",
                "pool_trajectories",
                _table_of("A page.", ref("TrajectoryPage")),
                parameters=(channel, *uids, state, *paged),
                faults=(406, 422, 503),
            )
        },
        "/pool/events": {
            "get": _of(
                "What happens, as it happens",
                "pool_events",
                stream_of("Server-sent events, with a comment at least every 15 s."),
                parameters=(channel, after),
                faults=(422, 503),
            )
        },
    }


def _table_of(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """JSON, or an Arrow stream for those who ask for it by `Accept`."""
    reply = json_of(description, schema)
    reply["content"][CONTENT_TYPE] = {"schema": {"type": "string", "format": "binary"}}
    return reply


def _of(summary: str, name: str, reply: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return operation(summary, name=name, tag="pool", problem=True, reply=reply, **rest)
