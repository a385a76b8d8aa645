"""What the gateway must know of a model request; the rest of its fields pass untouched.

Only these fields are decoded. A body that is not a chat or completion request is a 400 in OpenAI's shape.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.gateway.http.faults import BodyWrong, Fault
from moorage.gateway.http.request import Request

__all__ = ["ChatAsk", "CompletionAsk", "ModelAsk", "check_chat", "read_chat", "read_completion", "sampling_of"]

MAX_N = 1024

NO_SAMPLING = frozenset(("messages", "prompt", "tools", "stream", "stream_options", "model"))

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ModelAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and text completions share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    return_token_ids: bool | None = None
    skip_reasoning: Any = msgspec.UNSET
    """Said to the gateway, not to the engine: put nothing of the endpoint's reasoning in."""

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatAsk(ModelAsk, frozen=True, kw_only=True):
    """`/v1/chat/completions`."""

    messages: list[dict[str, Any]]
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stop: Any = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @property
    def stop_texts(self) -> list[str]:
        """The texts that end a reply."""
        given = self.stop if isinstance(self.stop, list) else [self.stop]
        return [one for one in given if isinstance(one, str)]


class CompletionAsk(ModelAsk, frozen=True, kw_only=True):
    """`/v1/completions`. `prompt`: text, or token ids."""

    prompt: str | list[Any]
    logprobs: int | None = None
    echo: bool | None = None


def read_chat(request: Request) -> ChatAsk:
    """Raises BodyNotJson, BodyWrong, and a 400 for messages that are none."""
    ask = request.decode(ChatAsk)
    if not ask.messages:
        raise Fault(400, "messages is empty: it takes at least one", code="messages_empty", param="messages")
    check_chat(ask)
    return ask


def check_chat(ask: ChatAsk) -> None:
    """Raises BodyWrong for messages that are none."""
    for index, message in enumerate(ask.messages):
        if not isinstance(message.get("role"), str):
            raise BodyWrong("a message needs a role", f"/messages/{index}/role")
        if not isinstance(message.get("content"), str | list | None):
            raise BodyWrong("content is text, a list of parts, or null", f"/messages/{index}/content")
    _check(ask)


def read_completion(request: Request) -> CompletionAsk:
    """Raises BodyNotJson and BodyWrong; one prompt a request in sessions, so that each call has one."""
    ask = request.decode(CompletionAsk)
    if isinstance(ask.prompt, list):
        if any(isinstance(part, str | list) for part in ask.prompt):
            raise Fault(400, "a session takes one prompt a request", code="several_prompts", param="prompt")
        if any(type(part) is not int or not 0 <= part < 2**32 for part in ask.prompt):
            raise Fault(400, "token ids are whole numbers from 0 to 2^32", code="ids_out_of_range", param="prompt")
    if not ask.prompt:
        raise Fault(400, "prompt is empty", code="prompt_empty", param="prompt")
    _check(ask)
    return ask


def _check(ask: ModelAsk) -> None:
    if not 1 <= ask.choices <= MAX_N:
        raise BodyWrong(f"n is between 1 and {MAX_N}", "/n")


def sampling_of(raw: bytes) -> bytes:
    """The request's other fields as JSON: how it asked to be sampled. Fields keep their order and their text."""
    fields = _FIELDS.decode(raw)
    for name in fields.keys() & NO_SAMPLING:
        del fields[name]
    return msgspec.json.encode(fields)
