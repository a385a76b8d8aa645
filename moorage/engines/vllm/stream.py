"""A stream of vLLM on its way to the client, captured in passing.

The client's bytes are cut at once; what is to be recorded is only kept then, and parsed in batches, so that an event
costs the stream little. The events that end the stream are held back: they are given by `finish`, when the caller has
made the call durable.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from moorage.engines.contract import Generation
from moorage.engines.vllm.asked import Asked, wants_ids, wants_logprobs
from moorage.engines.vllm.choice_stream import ChoiceStream
from moorage.engines.vllm.client_event import client_event, is_ours_alone, with_fingerprint
from moorage.engines.vllm.events import Events, payload
from moorage.engines.vllm.faults import AbortedByEngine, EngineGaveNoIds, EngineReported, UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.engines.vllm.reply import packed_ids, without_known
from moorage.engines.vllm.shapes import ReplySaid, TopsReply

__all__ = ["CaptureStream"]

Shape = TypeVar("Shape", ReplySaid, TopsReply)
BATCH = 64
"""Events parsed together: few enough that one batch does not hold up other streams."""
DONE = b"[DONE]"


class CaptureStream:
    """One streamed reply, of chat or of completions.

    `full_reply`: the client gets everything. `known`: ids that the prompt probably begins with. `top_logprobs`: keep
    what the client asked to see.
    """

    def __init__(
        self, asked: Asked, *, full_reply: bool = False, known: Known | None = None, top_logprobs: bool = False
    ) -> None:
        self._ids = not full_reply and not wants_ids(asked)
        self._logprobs = not full_reply and not wants_logprobs(asked)
        self._usage = full_reply or asked.wants_usage or asked.stream_options is not None
        self._tops = top_logprobs
        self._known = known
        self._expected = asked.n or 1
        self._events = Events()
        self._waiting: list[bytes] = []
        self._held: list[bytes] = []
        self._ended = 0
        self._prompt: bytes | None = None
        self._model = ""
        self._counts: dict[str, object] | None = None
        self._choices: dict[int, ChoiceStream] = {}
        self._fault: EngineReported | UnreadableReply | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The client's events for what came; none for what ends the stream."""
        given: list[bytes] = []
        for event in self._events.feed(data):
            said = payload(event)
            if said is None:
                given.append(event)  # a comment that keeps the connection alive
            elif said == DONE:
                self._held.append(event)
            elif said.startswith(b'{"error"'):
                self._waiting.append(said)  # `generation` raises it, and the caller says it in its own words
            else:
                self._take(event, said, given)
        if len(self._waiting) >= BATCH:
            self._parse()
        return given

    def finish(self) -> list[bytes]:
        """The events that end the stream, for the client. Called after the last `feed`."""
        last = self._feed_rest()
        held, self._held = self._held, []
        return [*last, *held]

    def generation(self, *, partial: bool = False) -> Generation:
        """What was sampled. `partial`: as far as it came; a choice without an end then has finish reason `abort`.

        Raises EngineReported (an error in the stream), AbortedByEngine (no end came), EngineGaveNoIds, ShortLogprobs,
        UnreadableReply.
        """
        if not partial:
            self._held = [*self._feed_rest(), *self._held]
        self._parse()
        if self._fault is not None and not partial:
            raise self._fault
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not partial and not choices:
            raise AbortedByEngine("the engine ended the stream before it began")
        if self._prompt is None and choices:
            packed_ids(None, "prompt")
        self._check_count(choices)
        return Generation(
            prompt=self._prompt or b"",
            choices=tuple(choice.sampled(partial=partial, tops=self._tops) for choice in choices),
            model=self._model,
            usage=self._counts,
        )

    def _feed_rest(self) -> list[bytes]:
        """An engine may leave out the blank line at the very end."""
        return self.feed(b"\n\n") if self._events.rest().strip() else []

    def _take(self, event: bytes, said: bytes, given: list[bytes]) -> None:
        self._waiting.append(said)
        if self._ended >= self._expected and (b'"choices":[]' in said or b'"choices": []' in said):
            if self._usage:
                self._held.append(event)
            elif self._held:
                self._held[-1] = with_fingerprint(self._held[-1], said)
            return
        # A quoted key before a quoted value cannot lie inside a string.
        self._ended += said.count(b'"finish_reason":"') or said.count(b'"finish_reason": "')
        if self._ids or self._logprobs:
            event = client_event(event, ids=self._ids, logprobs=self._logprobs)
            if self._ids and self._logprobs and is_ours_alone(event):
                return
        (self._held if self._ended >= self._expected else given).append(event)

    def _parse(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        cut = None
        if self._prompt is None and self._known is not None and self._known.ids:
            cut = without_known(waiting[0], self._known.text)
            waiting[0] = waiting[0] if cut is None else cut
        for said in self._decoded(waiting, ReplySaid):
            self._add(said, known=self._known if cut is not None else None)
        if self._tops:
            for tops in self._decoded(waiting, TopsReply):
                for choice in tops.choices:
                    self._choice(choice.index).add_tops(choice.rows())

    def _decoded(self, waiting: list[bytes], shape: type[Shape]) -> list[Shape]:
        """The events, all at once; one by one up to the first unreadable one, should there be one."""
        try:
            return msgspec.json.decode(b"[" + b",".join(waiting) + b"]", type=list[shape])  # type: ignore[valid-type]
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        events: list[Shape] = []
        for one in waiting:
            try:
                events.append(msgspec.json.decode(one, type=shape))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                what = f"an event of the engine's stream cannot be read: {error}"
                self._fault = self._fault or UnreadableReply(what)
                break
        return events

    def _add(self, said: ReplySaid, *, known: Known | None) -> None:
        if bytes(said.error) != b"null":
            self._fault = self._fault or EngineReported(_error_message(said.error))
        self._model = said.model or self._model
        self._counts = said.usage or self._counts
        for choice in said.choices:
            if self._prompt is None:
                ids = said.prompt_token_ids if said.prompt_token_ids is not None else choice.prompt_token_ids
                if ids is not None:
                    self._prompt = (known.ids if known is not None else b"") + packed_ids(ids, "prompt")
            self._choice(choice.index).add(choice)

    def _choice(self, index: int) -> ChoiceStream:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = ChoiceStream(index)
        return choice

    def _check_count(self, choices: list[ChoiceStream]) -> None:
        """By what the engine counted; while it has counted nothing, no text may have come without ids."""
        counted = None if self._counts is None else self._counts.get("completion_tokens")
        if not isinstance(counted, int) or not all(choice.finish_reason for choice in choices):
            if any(choice.said_without_ids for choice in choices):
                packed_ids(None, "completion")
            return
        sampled = sum(choice.tokens for choice in choices)
        if sampled == 0 and counted:
            packed_ids(None, "completion")
        if sampled != counted:
            raise EngineGaveNoIds(f"the engine streamed {sampled} token ids of {counted} that it sampled")


def _error_message(said: msgspec.Raw) -> str:
    try:
        error = msgspec.json.decode(said)
    except msgspec.DecodeError:
        error = None
    message = error.get("message") if isinstance(error, dict) else error
    return f"the engine reported an error in the middle of the stream: {message}"
