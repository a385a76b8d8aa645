"""The open model routes."""

from __future__ import annotations

from typing import Any

from moorage.gateway.openapi.operation import ENGINE_FAULTS, json_of, operation, ref, stream_of

__all__ = ["paths"]

ANSWER: dict[str, Any] = {"type": "object"}


def paths() -> dict[str, Any]:
    """By model name over all endpoints; nothing is recorded."""
    listed = operation(
        "Every model of every endpoint, once",
        name="list_models",
        tag="models",
        problem=False,
        reply=json_of("The models.", ref("ModelList")),
    )
    one = operation(
        "One of them",
        name="get_model",
        tag="models",
        problem=False,
        reply=json_of("The model.", ref("Model")),
        faults=(404, 503),
        parameters=(_name(),),
    )
    scored = operation(
        "How likely a prompt's tokens are",
        name="score_prompt",
        tag="models",
        problem=False,
        reply=json_of("Row 0 is empty, and null: nothing precedes it.", ref("PromptLogprobs")),
        body="LogprobsBody",
        faults=(400, 404, 501, *ENGINE_FAULTS),
        relays=True,
    )
    return {
        "/v1/chat/completions": {"post": _passed("A chat completion", "chat")},
        "/v1/completions": {"post": _passed("A text completion", "complete_text")},
        "/v1/embeddings": {"post": _passed("Embeddings", "embed")},
        "/v1/models": {"get": listed},
        "/v1/models/{model}": {"get": one},
        "/v1/logprobs": {"post": scored},
    }


def _name() -> dict[str, Any]:
    described = "A model's name; a slash in it may be written as it is."
    return {"name": "model", "in": "path", "required": True, "description": described, "schema": {"type": "string"}}


def _passed(summary: str, name: str) -> dict[str, Any]:
    return operation(
        f"{summary}, passed on and back untouched",
        name=name,
        tag="models",
        problem=False,
        reply=stream_of("The engine's reply; events where `stream` was asked for.", ANSWER),
        body="PassedBody",
        faults=(400, 404, *ENGINE_FAULTS),
        relays=True,
    )
