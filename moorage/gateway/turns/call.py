"""A model call on its way: everything that its steps pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.retry import RetryKey
from moorage.gateway.http.request import Request
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk, sampling_of
from moorage.gateway.turns.commit import Asked
from moorage.gateway.turns.lanes import lane_of
from moorage.gateway.turns.live import LiveSession
from moorage.gateway.turns.reading import ChatRead

if TYPE_CHECKING:
    from moorage.engines.fleet.lane import Lane
    from moorage.gateway.gateway import Gateway

__all__ = ["ModelCall"]


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one session. `path`: `/v1/chat/completions` or `/v1/completions`."""

    gateway: Gateway
    live: LiveSession
    request: Request
    path: str
    ask: ChatAsk | CompletionAsk
    read: ChatRead | None
    """None: a text completion."""
    retry: RetryKey
    weight_version: int | None = None
    """What `/weights` said when the call began; None: nothing."""

    @property
    def uid(self) -> str:
        """The session's."""
        return self.live.trajectory.uid

    @property
    def small_body(self) -> bytes:
        """The body, perhaps with the new messages alone: its other fields are whole."""
        return self.read.small if self.read is not None else self.request.body

    @property
    def model(self) -> str | None:
        """The model that was named; None, or `default`: the upstream's own.

        Of declared models the session's, else the only one there is. Raises MoorageError where there are several.
        """
        if self.ask.model not in (None, "", "default"):
            return self.ask.model
        serving = self.gateway.serving
        return None if serving is None else self.live.trajectory.options.get("model_name") or serving.meant(None)

    @property
    def pin(self) -> str | None:
        """The upstream that the session was created on, when it was pinned."""
        pinned: str | None = self.live.trajectory.options.get("base_url")
        return pinned

    @property
    def lane(self) -> Lane:
        """Training or evaluation. Raises a Fault of 400 for a header that says neither."""
        return lane_of(self.request, self.live.trajectory.options)

    @property
    def shows_ids(self) -> bool:
        """Whether the client gets token ids: it asked, or `--reply full` gives them to everyone."""
        return self.ask.return_token_ids is True or self.gateway.settings.full_reply

    @property
    def wants_logprobs(self) -> bool:
        """Whether the client asks to see log probabilities."""
        return self.ask.logprobs is not None and self.ask.logprobs is not False

    def asked(self) -> Asked:
        """What the record keeps of the request; its conversation is filled in later."""
        return Asked(
            request_id=self.gateway.new_id(),
            sampling=self.read.sampling if self.read is not None else sampling_of(self.request.body),
            retry_key=self.retry.content,
            idempotency_digest=self.retry.idempotency_digest,
            tools=self.ask.tools if isinstance(self.ask, ChatAsk) else None,
            weight_version=self.weight_version,
        )

    @property
    def tool_parser(self) -> str | None:
        """The parser for this request's calls; None: it has no tools, wants none, or the session has no parser."""
        if not isinstance(self.ask, ChatAsk) or not self.ask.tools or self.ask.tool_choice == "none":
            return None
        name: str | None = self.live.trajectory.options.get("tool_parser", "hermes")
        return name

    @property
    def reasoning_parser(self) -> str | None:
        """The session's; None: the think block stays in the content."""
        name: str | None = self.live.trajectory.options.get("reasoning_parser")
        return name

    def extra_fields(self) -> dict[str, Any]:
        """What stands at the top of the reply beside OpenAI's fields."""
        asked_for_tools = isinstance(self.ask, ChatAsk) and bool(self.ask.tools)
        parser, name = self.gateway.parser, self.tool_parser
        parsed = name is not None and parser is not None and parser.enabled and parser.fault("tool", name) is None
        return {"tool_parsing": "disabled"} if asked_for_tools and not parsed and self.ask_parses_tools else {}

    @property
    def ask_parses_tools(self) -> bool:
        """Whether the request left it open to call tools."""
        return isinstance(self.ask, ChatAsk) and self.ask.tool_choice != "none"
