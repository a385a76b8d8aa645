"""Claw-R1's routes, black box and white box."""

from __future__ import annotations

from typing import Any

from moorage.gateway.openapi.operation import (
    ENGINE_FAULTS,
    json_of,
    operation,
    path_uid,
    query,
    ref,
    stream_of,
)

__all__ = ["paths"]


def paths() -> dict[str, Any]:
    """Trajectories: under a base URL with and without `/v1`, and the routes that need none."""
    return {
        **_fixed(),
        **{
            f"/{{trajectory_uid}}/{{prompt_uid}}{version}{path}": item
            for version in ("", "/v1")
            for path, item in _under_base_url("" if not version else "_v1").items()
        },
    }


def _fixed() -> dict[str, Any]:
    channel = query("channel", "The steps' channel; another one than the trajectory's is a conflict.", type="string")
    uid = path_uid("trajectory_uid", "The trajectory.")
    stored: dict[str, Any] = {"faults": (400, 409, 422, 503)}
    return {
        "/init_trajectory": {
            "post": _of(
                "Make a trajectory and the URL under which its agent works",
                "init_trajectory",
                json_of("The trajectory.", ref("TrajectoryMade")),
                body="InitBody",
                body_required=False,
                faults=(400, 422, 503),
            )
        },
        "/complete_trajectory/{trajectory_uid}": {"post": _complete("complete_trajectory", (uid,))},
        "/submit_steps": {
            "post": _of(
                "Store steps that an agent made by itself: all of them or none",
                "submit_steps",
                json_of("How many, and how many of them were stored already.", ref("Accepted")),
                body="StepsBody",
                parameters=(channel,),
                **stored,
            )
        },
        "/generate": {
            "post": _of(
                "One sample from messages or token ids; nothing is stored",
                "generate",
                json_of("What was sampled.", ref("Generated")),
                body="GenerateBody",
                faults=(400, 422, *ENGINE_FAULTS),
                relays=True,
            )
        },
    }


def _under_base_url(suffix: str) -> dict[str, Any]:
    uids = (
        path_uid("trajectory_uid", "The trajectory."),
        path_uid("prompt_uid", "Its prompt; the first use fixes it."),
    )
    chat = stream_of("OpenAI's reply; events where `stream` was asked for.", ref("ChatCompletion"))
    text = stream_of("OpenAI's reply; events where `stream` was asked for.", ref("TextCompletion"))
    called: dict[str, Any] = {
        "parameters": uids,
        "faults": (400, 404, 409, 422, *ENGINE_FAULTS),
        "relays": True,
        "problem": False,
    }
    return {
        "/chat/completions": {
            "post": _of("A chat turn, recorded as steps", f"trajectory_chat{suffix}", chat, body="ChatAsk", **called)
        },
        "/completions": {
            "post": _of(
                "A text completion, recorded as steps",
                f"trajectory_complete_text{suffix}",
                text,
                body="CompletionAsk",
                **called,
            )
        },
        "/models": {
            "get": _of(
                "The models",
                f"trajectory_models{suffix}",
                json_of("Every model.", ref("ModelList")),
                problem=False,
                parameters=uids,
                faults=(404, 422, 503),
            )
        },
        "/register_trajectory": {
            "post": _of(
                "Give it a channel and metadata",
                f"register_trajectory{suffix}",
                json_of("Kept.", ref("Done")),
                body="RegisterBody",
                body_required=False,
                parameters=uids,
                faults=(400, 404, 409, 422, 503),
            )
        },
        "/complete_trajectory": {"post": _complete(f"complete_this_trajectory{suffix}", uids)},
    }


def _complete(name: str, parameters: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return _of(
        "Complete it: its last step is marked, and rewarded when a reward is given",
        name,
        json_of("Complete.", ref("Done")),
        body="CompleteBody",
        body_required=False,
        parameters=parameters,
        faults=(400, 404, 409, 422, 503),
    )


def _of(summary: str, name: str, reply: dict[str, Any], *, problem: bool = True, **rest: Any) -> dict[str, Any]:
    return operation(summary, name=name, tag="trajectories", problem=problem, reply=reply, **rest)
