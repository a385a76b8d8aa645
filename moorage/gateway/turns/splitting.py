"""A stream's text, parsed while it comes: what of it is reasoning, content and calls is told as soon as it is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.capture.packing import unpack_ids
from moorage.engines.contract import Sampled
from moorage.engines.parsing.feeding import ParsedStream, Piece
from moorage.engines.parsing.names import WHOLE_ALONE
from moorage.engines.parsing.told import Told
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.constraining import asked_of
from moorage.gateway.turns.saying import hidden_of

if TYPE_CHECKING:
    from moorage.engines.parsing.process import ParserProcess
    from moorage.gateway.turns.call import ModelCall

__all__ = ["LiveSplit"]


class LiveSplit:
    """The choices of one call. What is not told while it comes is told at the end, by `settle`."""

    def __init__(self, call: ModelCall, parser: ParserProcess, prompt: bytes) -> None:
        """`prompt`: [P] uint32."""
        self._call, self._parser = call, parser
        self._asked = asked_of(call)
        self._prompt = unpack_ids(prompt) if self._asked.reasoning_parser is not None else []
        self._streams: dict[int, ParsedStream] = {}
        self._told: dict[int, Told] = {}
        self._waiting: dict[int, list[Piece]] = {}
        """Pieces that came before the process was there."""

    @classmethod
    def of(cls, call: ModelCall, prompt: bytes) -> LiveSplit | None:
        """None: there is nothing to split, or nothing to split with, or its parser is for whole replies."""
        parser, tool_parser = call.gateway.parser, call.tool_parser
        if parser is None or not parser.enabled or (tool_parser is None and call.reasoning_parser is None):
            return None
        if tool_parser in WHOLE_ALONE:
            return None
        return cls(call, parser, prompt)

    async def feed(self, events: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
        """OpenAI's deltas, each with its choice's index, that these events of the engine's stream give rise to."""
        for event in events:
            for choice in event.get("choices", ()):
                piece = Piece(choice.get("text") or "", choice.get("token_ids") or [])
                self._waiting.setdefault(choice["index"], []).append(piece)
        if not self._parser.is_ready:
            return []
        waiting, self._waiting = self._waiting, {}
        said = await asyncio.gather(*(self._stream(index).feed(pieces) for index, pieces in waiting.items()))
        deltas = [
            (index, self._choice(index).add(one)) for index, found in zip(waiting, said, strict=True) for one in found
        ]
        return [(index, delta) for index, delta in deltas if delta]

    def settle(self, choice: Sampled) -> tuple[Sampled, dict[str, Any]]:
        """The choice as it is recorded, and what is still to be told of it. Raises Disagrees; record `choice` then."""
        message = choice.message or {}
        settled, rest = self._choice(choice.index).settle(message, cut=choice.finish_reason == "length")
        return msgspec.structs.replace(choice, message=settled), rest

    def close(self) -> None:
        """Nothing comes any more."""
        for stream in self._streams.values():
            stream.close()

    def _stream(self, index: int) -> ParsedStream:
        if index not in self._streams:
            self._streams[index] = self._parser.stream(self._asked, self._prompt)
        return self._streams[index]

    def _choice(self, index: int) -> Told:
        if index not in self._told:
            self._told[index] = Told(
                hidden_of(self._call),
                new_id=self._call.gateway.new_id,
                single_call=self._asked.parallel_tool_calls is False,
                stop_texts=self._call.ask.stop_texts if isinstance(self._call.ask, ChatAsk) else (),
            )
        return self._told[index]
