"""Anthropic's Messages and OpenAI's Responses, on the open routes, in sessions and in trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moorage.gateway.openapi.operation import ENGINE_FAULTS, json_of, operation, path_uid, ref, stream_of

__all__ = ["paths", "schemas"]

TEXT: dict[str, Any] = {"type": "string"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
ITEMS: dict[str, Any] = {"type": "array", "items": {"type": "object"}}


def paths() -> dict[str, Any]:
    """The three operations in every place."""
    return {path: item for place in _places() for path, item in _in_place(*place)}


def schemas() -> dict[str, Any]:
    """What the protocols say; their own documents say more."""
    error = {"type": "object", "required": ["type", "message"], "properties": {"type": TEXT, "message": TEXT}}
    message = {
        "id": TEXT,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "content": ITEMS,
        "stop_reason": TEXT,
        "usage": {"type": "object"},
    }
    response = {
        "id": TEXT,
        "object": {"const": "response"},
        "status": TEXT,
        "output": ITEMS,
        "usage": {"type": "object"},
    }
    asked = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {
        "AnthropicError": _object({"type": {"const": "error"}, "error": error}),
        "Message": _object(message),
        "Response": _object(response),
        "TokenCount": _object({"input_tokens": COUNT}),
        "MessagesBody": {"type": "object", "required": ["messages"], "properties": {"messages": asked}},
        "ResponsesBody": {
            "type": "object",
            "required": ["input"],
            "properties": {"input": {"type": ["string", "array"]}},
        },
    }


def _places() -> Iterator[tuple[str, str, str, tuple[dict[str, Any], ...]]]:
    """What a path begins with, the tag, how an operation's name ends, and the parameters."""
    yield "/v1", "models", "", ()
    yield "/{uuid}/v1", "sessions", "_in_session", (path_uid("uuid", "The session."),)
    uids = path_uid("trajectory_uid", "The trajectory."), path_uid("prompt_uid", "Its prompt; the first use fixes it.")
    for version in ("", "/v1"):
        name = "_in_trajectory" + version.replace("/", "_")
        yield f"/{{trajectory_uid}}/{{prompt_uid}}{version}", "trajectories", name, uids


def _in_place(
    prefix: str, tag: str, name: str, parameters: tuple[dict[str, Any], ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    own = (409,) if parameters else ()
    wrong_uids = (422,) if len(parameters) > 1 else ()
    asked: dict[str, Any] = {"tag": tag, "problem": False, "parameters": parameters, "relays": True}
    faults = (400, 404, *own, *wrong_uids, *ENGINE_FAULTS)
    recorded = ", recorded as the chat that it stands for" if parameters else ""
    message = stream_of("Anthropic's reply; its events where `stream` was asked for.", ref("Message"))
    response = stream_of("OpenAI's reply; its events where `stream` was asked for.", ref("Response"))
    counted = json_of("How many tokens the prompt has.", ref("TokenCount"))
    anthropic = {**asked, "body": "MessagesBody", "error": "AnthropicError"}
    yield (
        f"{prefix}/messages",
        {"post": operation(f"A message{recorded}", name=f"message{name}", reply=message, faults=faults, **anthropic)},
    )
    yield (
        f"{prefix}/messages/count_tokens",
        {
            "post": operation(
                "The tokens of the same request's prompt; nothing changes",
                name=f"count_tokens{name}",
                reply=counted,
                faults=(*(one for one in faults if one != 409), 501),
                **anthropic,
            )
        },
    )
    yield (
        f"{prefix}/responses",
        {
            "post": operation(
                f"A response{recorded}",
                name=f"response{name}",
                reply=response,
                faults=faults,
                body="ResponsesBody",
                **asked,
            )
        },
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
