"""The items of a Responses request. Fields that are not here (status, annotations …) are read over."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "CallItem",
    "FunctionTool",
    "ImagePart",
    "Item",
    "MessageItem",
    "OutputItem",
    "Part",
    "ReasoningItem",
    "RefusalPart",
    "TextPart",
]


class TextPart(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str


class OutputTextPart(msgspec.Struct, tag_field="type", tag="output_text"):
    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(msgspec.Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None
    detail: str | None = None


class ReasoningTextPart(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    text: str


Part = TextPart | OutputTextPart | RefusalPart | ImagePart


class MessageItem(msgspec.Struct, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class CallItem(msgspec.Struct, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str


class OutputItem(msgspec.Struct, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str | list[TextPart | ImagePart]


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    content: list[ReasoningTextPart] | None = None
    summary: list[Any] = []


Item = MessageItem | CallItem | OutputItem | ReasoningItem


class FunctionTool(msgspec.Struct):
    """A function of the client's own: the only kind of tool that a model behind a gateway can be given."""

    type: Literal["function"]
    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None
