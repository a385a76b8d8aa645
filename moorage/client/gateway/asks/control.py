"""Rewards, and what a trainer and an operator tell the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorage.client.gateway.asks.body import encoded, given
from moorage.client.gateway.values import Reward
from moorage.client.http.ask import Ask, json_of, reads, value_of

__all__ = [
    "compute_reward",
    "health",
    "pause",
    "paused",
    "ready",
    "resume",
    "rewards",
    "servers",
    "set_reward",
    "set_weights",
    "weights",
]

GRACE_S = 30.0


def compute_reward(body: Mapping[str, Any]) -> Ask[Reward]:
    """One that is stored makes a version each time, so it is not asked for twice."""
    stored = bool(body.get("store"))
    return Ask(
        method="POST", path="/compute_reward", content=encoded(dict(body)), read=value_of(Reward), repeatable=not stored
    )


def set_reward(trajectory_uid: str, reward: float, step_index: int | None, info: Mapping[str, Any] | None) -> Ask[int]:
    """Its reply: the version that it is."""
    body = {"trajectory_uid": trajectory_uid, "reward": reward, **given(step_index=step_index, info=info)}
    return Ask(method="POST", path="/pool/rewards", content=encoded(body), read=reads("version"))


def rewards(trajectory_uid: str) -> Ask[dict[str, Any]]:
    params = {"trajectory_uid": trajectory_uid}
    return Ask(method="GET", path="/pool/rewards", params=params, read=json_of, repeatable=True)


def pause(wait_s: float, retry_after_s: int, reason: str | None) -> Ask[dict[str, Any]]:
    body = {"wait_s": wait_s, "retry_after_s": retry_after_s, **given(reason=reason)}
    return Ask(
        method="POST", path="/pause", content=encoded(body), read=json_of, repeatable=True, timeout_s=wait_s + GRACE_S
    )


def paused() -> Ask[dict[str, Any]]:
    return Ask(method="GET", path="/pause", read=json_of, repeatable=True)


def resume() -> Ask[dict[str, Any]]:
    return Ask(method="POST", path="/resume", content=b"{}", read=json_of, repeatable=True)


def weights() -> Ask[int | None]:
    return Ask(method="GET", path="/weights", read=reads("version"), repeatable=True)


def set_weights(version: int, force: bool) -> Ask[dict[str, Any]]:
    body = {"version": version, "force": force}
    return Ask(method="POST", path="/weights", content=encoded(body), read=json_of, repeatable=True)


def health() -> Ask[dict[str, Any]]:
    return Ask(method="GET", path="/health", read=json_of, once=True)


def ready() -> Ask[dict[str, Any]]:
    return Ask(method="GET", path="/ready", read=json_of, once=True)


def servers() -> Ask[list[dict[str, Any]]]:
    return Ask(method="GET", path="/servers", read=reads("servers"), repeatable=True)
