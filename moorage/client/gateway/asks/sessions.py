"""Sessions: created, called, read, ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorage.client.gateway.asks.body import encoded, given, part
from moorage.client.gateway.values import Session
from moorage.client.http.ask import Ask, json_of, reads, value_of

__all__ = ["call", "create", "delete", "listed", "logprobs", "nodes", "open_call", "open_logprobs", "render"]


def create(options: Mapping[str, Any]) -> Ask[Session]:
    return Ask(method="POST", path="/sessions/create", content=encoded(given(**options)), read=value_of(Session))


def listed() -> Ask[list[dict[str, Any]]]:
    return Ask(method="GET", path="/sessions", read=reads("sessions"), repeatable=True)


def call(
    uuid: str, route: str, content: bytes, key: str, *, lane: str = "train", timeout_s: float | None = None
) -> Ask[dict[str, Any]]:
    """`route`: `chat/completions` or `completions`. `key`: the Idempotency-Key, so that it is recorded once."""
    return Ask(
        method="POST",
        path=f"/{part(uuid)}/v1/{route}",
        content=content,
        headers={"idempotency-key": key, **_lane(lane)},
        read=json_of,
        repeatable=True,
        timeout_s=timeout_s,
    )


def open_call(
    route: str, content: bytes, *, lane: str = "train", timeout_s: float | None = None
) -> Ask[dict[str, Any]]:
    """A call that nothing records."""
    headers = _lane(lane)
    path = f"/v1/{route}"
    return Ask(method="POST", path=path, content=content, headers=headers, read=json_of, timeout_s=timeout_s)


def render(uuid: str, content: bytes) -> Ask[dict[str, Any]]:
    path = f"/{part(uuid)}/v1/chat/completions/render"
    return Ask(method="POST", path=path, content=content, read=json_of, repeatable=True)


def logprobs(uuid: str, content: bytes, *, lane: str = "train") -> Ask[dict[str, Any]]:
    path = f"/{part(uuid)}/v1/logprobs"
    return Ask(method="POST", path=path, content=content, headers=_lane(lane), read=json_of, repeatable=True)


def open_logprobs(content: bytes, *, lane: str = "train") -> Ask[dict[str, Any]]:
    return Ask(method="POST", path="/v1/logprobs", content=content, headers=_lane(lane), read=json_of, repeatable=True)


def nodes(uuid: str, undelivered: bool = False) -> Ask[list[dict[str, Any]]]:
    params = {"include": "undelivered"} if undelivered else None
    return Ask(method="GET", path=f"/{part(uuid)}/nodes", params=params, read=reads("nodes"), repeatable=True)


def delete(uuid: str, *, once: bool = False) -> Ask[str]:
    path = f"/{part(uuid)}"
    return Ask(
        method="DELETE",
        path=path,
        read=reads("status"),
        repeatable=True,
        done_when_repeated={"session_unknown": "deleted"},
        once=once,
    )


def _lane(lane: str) -> dict[str, str]:
    """Whose slots are used at the engines; training is what is meant without it."""
    return {} if lane == "train" else {"x-moorage-split": lane}
