"""One choice of a stream, growing."""

from __future__ import annotations

from array import array

import msgspec

from moorage.capture.call import Span
from moorage.capture.packing import pack_floats, pack_ids
from moorage.engines.contract import Sampled
from moorage.engines.vllm.faults import EngineGaveNoIds, ShortLogprobs
from moorage.engines.vllm.pieces import MessagePieces
from moorage.engines.vllm.reply import check_end, logprobs_of, packed_ids, packed_logprobs
from moorage.engines.vllm.shapes import ChoiceSaid

__all__ = ["ChoiceStream"]


class ChoiceStream:
    """What was said of it in the events so far."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.said_without_ids = False
        """Some event had text or log probabilities, and no ids."""
        self._stop_reason: int | str | None = None
        self._ids = array("I")
        self._logprobs = array("d")
        self._texts: list[str] | None = None
        self._pieces: MessagePieces | None = None
        self._tops: list[bytes] = []
        self._spans: tuple[Span, ...] = ()
        self._fault: EngineGaveNoIds | ShortLogprobs | None = None

    @property
    def tokens(self) -> int:
        """Sampled so far."""
        return len(self._ids)

    def add(self, said: ChoiceSaid) -> None:
        """One event's share. A fault in it is kept until the choice is asked for: the client's stream goes on."""
        if said.delta is not None:
            self._pieces = self._pieces or MessagePieces()
            self._pieces.add(said.delta)
        if said.text is not None:
            self._texts = self._texts if self._texts is not None else []
            self._texts.append(said.text)
        if said.weight_versions:
            self._spans = tuple(Span(one.version, one.start, one.end) for one in said.weight_versions)
        if said.finish_reason is not None:
            self.finish_reason, self._stop_reason = said.finish_reason, said.stop_reason
        try:
            self._add_tokens(said)
        except (EngineGaveNoIds, ShortLogprobs) as fault:
            self._fault = self._fault or fault

    def add_tops(self, rows: bytes) -> None:
        """The alternatives of one event, as a JSON list."""
        inside = rows.strip()[1:-1].strip()
        if inside:
            self._tops.append(inside)

    def sampled(self, *, partial: bool, tops: bool) -> Sampled:
        """The choice. Raises EngineGaveNoIds, ShortLogprobs, and unless `partial` AbortedByEngine."""
        if self._fault is not None:
            raise self._fault
        finish_reason = (self.finish_reason or "abort") if partial else check_end(self.finish_reason)
        return Sampled(
            index=self.index,
            ids=pack_ids(self._ids),
            logprobs=pack_floats(self._logprobs),
            finish_reason=finish_reason,
            stop_reason=self._stop_reason,
            text=None if self._texts is None else "".join(self._texts),
            top_logprobs=msgspec.Raw(b"[" + b",".join(self._tops) + b"]") if tops else None,
            spans=self._spans,
            message=None if self._pieces is None else self._pieces.message(),
        )

    def _add_tokens(self, said: ChoiceSaid) -> None:
        values = logprobs_of(said.logprobs)
        if said.token_ids is None:
            delta = said.delta or {}
            if values or said.text or delta.get("content") or delta.get("reasoning") or delta.get("tool_calls"):
                self.said_without_ids = True
            return
        ids = said.token_ids
        if len(values) != len(ids):
            values = values[len(said.prompt_token_ids or ()) :]  # the prompt was echoed
        try:
            self._logprobs.extend(values)  # type: ignore[arg-type]  # None raises TypeError
            self._ids.extend(ids)
        except TypeError:
            values = []
        except OverflowError:
            packed_ids(ids, "completion")
        if len(values) != len(ids):
            packed_logprobs(values, len(ids), prompt_tokens=0)
