"""Trajectories: made known, registered, called, completed, their steps submitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moorage.client.gateway.asks.body import encoded, given, part
from moorage.client.gateway.values import Step, Trajectory
from moorage.client.http.ask import Ask, json_of, reads, value_of

__all__ = ["complete", "generate", "init", "model_call", "register", "submit"]


def init(prompt_uid: str | None, channel: str | None, metadata: Mapping[str, Any] | None) -> Ask[Trajectory]:
    body = given(prompt_uid=prompt_uid, channel=channel, metadata=metadata)
    return Ask(method="POST", path="/init_trajectory", content=encoded(body), read=value_of(Trajectory))


def register(trajectory: Trajectory, channel: str | None, metadata: Mapping[str, Any] | None) -> Ask[str]:
    body = encoded(given(channel=channel, metadata=metadata))
    path = f"{_under(trajectory)}/v1/register_trajectory"
    return Ask(method="POST", path=path, content=body, read=reads("status"), repeatable=True)


def model_call(trajectory: Trajectory, route: str, body: Mapping[str, Any], key: str) -> Ask[dict[str, Any]]:
    """`route`: `chat/completions` or `completions`. `key`: the Idempotency-Key, so that it is recorded once."""
    path = f"{_under(trajectory)}/v1/{route}"
    headers = {"idempotency-key": key}
    return Ask(method="POST", path=path, content=encoded(dict(body)), headers=headers, read=json_of, repeatable=True)


def complete(trajectory_uid: str, reward: float | None, channel: str | None) -> Ask[str]:
    path = f"/complete_trajectory/{part(trajectory_uid)}"
    body = encoded(given(reward=reward, channel=channel))
    return Ask(method="POST", path=path, content=body, read=reads("status"), repeatable=True)


def submit(steps: Iterable[Step | Mapping[str, Any]], channel: str | None) -> Ask[dict[str, int]]:
    """Its reply: how many were accepted, and how many of them were there already."""
    params = given(channel=channel)
    body = encoded({"steps": list(steps)})
    return Ask(method="POST", path="/submit_steps", content=body, params=params, read=json_of, repeatable=True)


def generate(body: Mapping[str, Any]) -> Ask[dict[str, Any]]:
    """One sample that is not stored."""
    return Ask(method="POST", path="/generate", content=encoded(dict(body)), read=json_of)


def _under(trajectory: Trajectory) -> str:
    return f"/{part(trajectory.trajectory_uid)}/{part(trajectory.prompt_uid)}"
