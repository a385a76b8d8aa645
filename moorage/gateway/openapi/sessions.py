"""Atropos's routes."""

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
    """Sessions: made, called, read, deleted."""
    one = path_uid("uuid", "The session, as `/sessions/create` named it.")
    return {**_kept(one), **_called(one)}


def _kept(one: dict[str, Any]) -> dict[str, Any]:
    """Made, listed, read, ended."""
    undelivered = query("include", "`undelivered`: calls whose client went away too.", type="string")
    return {
        "/sessions/create": {
            "post": _of(
                "Make a session",
                "create_session",
                json_of("The session.", ref("SessionCreated")),
                body="CreateBody",
                body_required=False,
                faults=(400, 404, 429, 503),
            )
        },
        "/sessions": {
            "get": _of("Open sessions", "list_sessions", json_of("Oldest first.", ref("SessionList")), faults=(503,))
        },
        "/{uuid}": {
            "delete": _of(
                "End a session",
                "delete_session",
                json_of("It takes no call any more.", ref("SessionDeleted")),
                parameters=(one,),
                faults=(404, 503),
            )
        },
        "/{uuid}/nodes": {
            "get": _of(
                "What was sampled, as nodes",
                "read_nodes",
                json_of("One node a leaf; one a call where `track_tree` was asked for.", ref("Nodes")),
                parameters=(one, undelivered),
                faults=(404, 503),
            )
        },
    }


def _called(one: dict[str, Any]) -> dict[str, Any]:
    """Its model, asked."""
    chat = stream_of("OpenAI's reply; events where `stream` was asked for.", ref("ChatCompletion"))
    text = stream_of("OpenAI's reply; events where `stream` was asked for.", ref("TextCompletion"))
    called: dict[str, Any] = {"faults": (400, 404, 409, *ENGINE_FAULTS), "relays": True}
    return {
        "/{uuid}/v1/chat/completions": {
            "post": _of("A chat turn, recorded", "session_chat", chat, body="ChatAsk", parameters=(one,), **called)
        },
        "/{uuid}/v1/chat/completions/render": {
            "post": _of(
                "The ids that the same request would send; nothing changes",
                "session_render",
                json_of("The prompt.", ref("Rendered")),
                body="ChatAsk",
                parameters=(one,),
                faults=(400, 404, 501, *ENGINE_FAULTS),
                relays=True,
            )
        },
        "/{uuid}/v1/completions": {
            "post": _of(
                "A text completion, recorded",
                "session_complete_text",
                text,
                body="CompletionAsk",
                parameters=(one,),
                **called,
            )
        },
        "/{uuid}/v1/logprobs": {
            "post": _of(
                "How likely a prompt's tokens are; nothing changes",
                "session_score_prompt",
                json_of("Row 0 is empty, and null: nothing precedes it.", ref("PromptLogprobs")),
                body="LogprobsBody",
                parameters=(one,),
                faults=(400, 404, 501, *ENGINE_FAULTS),
                relays=True,
            )
        },
        "/{uuid}/v1/models": {
            "get": _of(
                "The session's model",
                "session_models",
                json_of("One model.", ref("ModelList")),
                parameters=(one,),
                faults=(404, 503),
            )
        },
    }


def _of(summary: str, name: str, reply: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return operation(summary, name=name, tag="sessions", problem=False, reply=reply, **rest)
