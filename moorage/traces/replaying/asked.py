"""What makes two requests the same one: route, canonical messages (or prompt), tools, and how to sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from moorage.capture.chain import digest
from moorage.capture.messages import read_conversation, tools_digest
from moorage.capture.packing import pack_ids
from moorage.capture.retry import retry_evidence, retry_key
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk, read_chat, read_completion, sampling_of

__all__ = ["Asked", "ids_key", "key_of", "read_asked", "sampling_fields", "text_key"]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

BESIDE = frozenset(
    ("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier", "request_id", "priority")
)
"""Fields that say nothing of what is sampled, and that a second run of an agent often has otherwise."""

_ENCODER = msgspec.json.Encoder(order="sorted")


class Asked(msgspec.Struct, frozen=True):
    """A request, read."""

    ask: ChatAsk | CompletionAsk
    keys: list[bytes]
    """After each of its messages; of a completion the prompt's alone."""
    tools: bytes
    sampling: dict[str, Any]
    content: bytes
    """[16] of route and body to the byte, as `moorage.capture.retry` has it."""

    @property
    def key(self) -> bytes:
        return key_of(self.keys[-1], self.tools, self.sampling)

    @property
    def model(self) -> str | None:
        """None: any."""
        return None if self.ask.model in (None, "", "default") else self.ask.model

    @property
    def wants_logprobs(self) -> bool:
        return self.ask.logprobs is not None and self.ask.logprobs is not False


def read_asked(request: Request, *, chat: bool) -> Asked:
    """Raises the faults of `moorage.gateway.turns.bodies`."""
    if chat:
        ask = read_chat(request)
        keys, tools = read_conversation(ask.messages).keys, tools_digest(ask.tools)
        return Asked(ask, keys, tools, _sampling(request), _content(CHAT, request))
    text = read_completion(request)
    return Asked(text, [_prompt_key(text.prompt)], b"", _sampling(request), _content(COMPLETIONS, request))


def key_of(prompt: bytes, tools: bytes, sampling: dict[str, Any]) -> bytes:
    """[16] what equal requests share; `prompt` is the key after their messages, or `text_key`, or `ids_key`."""
    return digest(b"".join((prompt, tools or bytes(16), _ENCODER.encode(sampling))))


def text_key(prompt: str) -> bytes:
    """[16] of a text completion's prompt."""
    return digest(b"text" + prompt.encode(errors="surrogatepass"))


def ids_key(prompt: bytes) -> bytes:
    """[16] of [P] uint32."""
    return digest(b"ids" + prompt)


def sampling_fields(recorded: bytes) -> dict[str, Any]:
    """The fields of a recorded request that say how to sample; null and absent are the same, as are 1 and 1.0."""
    fields = msgspec.json.decode(recorded or b"{}", type=dict[str, msgspec.Raw])
    read = {name: _value(raw) for name, raw in fields.items() if name not in BESIDE}
    return {name: value for name, value in read.items() if value is not None}


def _content(path: str, request: Request) -> bytes:
    return retry_key(path, request.body, retry_evidence(None, None)).content


def _sampling(request: Request) -> dict[str, Any]:
    return sampling_fields(sampling_of(request.body))


def _prompt_key(prompt: str | Sequence[int]) -> bytes:
    return text_key(prompt) if isinstance(prompt, str) else ids_key(pack_ids(prompt))


def _value(raw: msgspec.Raw) -> Any:
    """Its text, where a number in it is larger than any that can be told apart."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return bytes(raw).decode()
    return int(value) if isinstance(value, float) and value.is_integer() else value
