"""SGLang's streams as vLLM would give them.

An event of `/generate` repeats everything, or has what is new, as the server was started; the count that stands beside
the log probabilities tells which.
"""

from __future__ import annotations

import msgspec

from moorage.engines.contract import Wanted
from moorage.engines.sglang.reply import (
    check_prompt_tokens,
    refuse_abort,
    retold,
    stop_reason_of,
    tops_of,
    usage_of,
    version_of,
)
from moorage.engines.sglang.shapes import GeneratedSaid, MetaSaid
from moorage.engines.told import DONE, Choice, as_stream, event
from moorage.engines.vllm.events import Events, payload
from moorage.engines.vllm.faults import EngineGaveNoIds, EngineReported, ShortLogprobs, UnreadableReply

__all__ = ["SglangTelling"]


class SglangTelling:
    """See `moorage.engines.contract.Telling`."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._events = Events()
        self._whole: list[bytes] = []
        self._begun = False
        self._choices: dict[int, _Growing] = {}

    def feed(self, data: bytes) -> bytes:
        """Events for what came. Raises faults of the engine's reply."""
        if not self._begun:
            self._begun = True
            if data.lstrip()[:1] in (b"{", b"["):
                self._whole.append(data)
                return b""
        elif self._whole:
            self._whole.append(data)
            return b""
        return b"".join([self._retold(one) for one in self._events.feed(data)])

    def end(self) -> bytes:
        """What is left: all of it, where the engine answered whole."""
        if self._whole:
            return as_stream(retold(b"".join(self._whole), self._wanted))
        rest = self._events.feed(b"\n\n") if self._events.rest().strip() else []
        return b"".join([self._retold(one) for one in rest])

    def _retold(self, one: bytes) -> bytes:
        said = payload(one)
        if said is None:
            return one
        if said == b"[DONE]":
            return self._usage() + DONE
        try:
            if said.startswith(b'{"error"'):
                raise EngineReported(f"the engine reported an error in the middle of the stream: {_message(said)}")
            if b'"choices":' in said[:400]:
                return one.replace(b'"matched_stop":', b'"stop_reason":')
            return self._grown(msgspec.json.decode(said, type=GeneratedSaid))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableReply(f"an event of the engine's stream cannot be read: {error}") from None

    def _grown(self, said: GeneratedSaid) -> bytes:
        meta = said.meta_info
        refuse_abort(meta)
        check_prompt_tokens(meta, self._wanted)
        growing = self._choices.get(said.index)
        first = growing is None
        if growing is None:
            growing = self._choices[said.index] = _Growing(self._wanted)
        piece = growing.piece(said)
        choice = piece.fields(self._wanted.prompt if first else None)
        head = {"id": meta.id, "object": "text_completion", "created": 0, "model": self._wanted.model}
        return event({**head, "choices": [choice]})

    def _usage(self) -> bytes:
        metas = [one.last for one in self._choices.values()]
        if not metas:
            return b""
        head = {"id": metas[0].id, "object": "text_completion", "created": 0, "model": self._wanted.model}
        return event({**head, "choices": [], "usage": usage_of(metas)})


class _Growing:
    """What was said of one choice so far."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._tokens = 0
        self._text = ""
        self._spans: list[tuple[str, int, int]] = []
        self.last = MetaSaid()

    def piece(self, said: GeneratedSaid) -> Choice:
        """What is new. Raises EngineGaveNoIds and ShortLogprobs."""
        meta = self.last = said.meta_info
        triples = meta.output_token_logprobs
        if triples is None:
            if said.text or meta.completion_tokens:
                raise EngineGaveNoIds("the engine gave no output_token_logprobs: nothing was recorded")
            triples = []
        length = meta.output_token_logprobs_length
        if length is None:
            # Older servers repeat everything and do not count.
            length = len(triples)
        begins = length - len(triples)
        if begins not in (0, self._tokens) or length < self._tokens:
            raise ShortLogprobs(f"the engine gave log probabilities {begins} to {length} after {self._tokens}")
        repeats = begins == 0
        text = self._new_text(said.text, repeats=repeats)
        at = self._tokens if repeats else 0
        new = triples[at:]
        tops = meta.output_top_logprobs
        self._tokens = length
        ended = meta.finish_reason
        if ended is not None and meta.completion_tokens not in (None, length):
            message = f"the engine gave {length} log probabilities for {meta.completion_tokens} tokens"
            raise ShortLogprobs(f"{message}: nothing was recorded")
        return Choice(
            index=said.index,
            text=text,
            ids=[token for _, token, _ in new],
            logprobs=[logprob for logprob, _, _ in new],
            finish_reason=None if ended is None else ended.type,
            stop_reason=stop_reason_of(meta, self._wanted),
            tops=None if tops is None else [tops_of(row, self._wanted) for row in tops[at:]],
            spans=self._spanned(version_of(meta), length),
        )

    def _spanned(self, version: str | None, length: int) -> list[tuple[str, int, int]]:
        """Who sampled what so far: weights may have changed since the last event."""
        if version is None or not length:
            return []
        if not self._spans or self._spans[-1][0] != version:
            self._spans.append((version, self._spans[-1][2] if self._spans else 0, length))
        name, start, _ = self._spans[-1]
        self._spans[-1] = (name, start, length)
        return list(self._spans)

    def _new_text(self, text: str, *, repeats: bool) -> str:
        """A text that repeats may have been revised at its end, which was held back then."""
        if not repeats:
            self._text += text
            return text
        new = text[len(self._text) :] if text.startswith(self._text) else ""
        self._text += new
        return new


def _message(said: bytes) -> object:
    error = msgspec.json.decode(said).get("error")
    return error.get("message") if isinstance(error, dict) else error
