"""What the engine itself said of a call: ids and log probabilities, read from its replies with nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.conversations.observer import Exchange

__all__ = ["Report", "Said", "Sample", "read_report"]


ROUTES = ("/v1/chat/completions", "/v1/completions", "/inference/v1/generate")


@dataclass
class Sample:
    """One choice."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Report:
    """One reply. `whole`: it came to its end."""

    tag: str | None
    """The request's `user`; None: it went to the route that takes and gives tokens alone."""
    prompt: list[int]
    samples: list[Sample]
    whole: bool
    sent: list[int] | None
    """The ids that the request gave as its prompt; None: it gave text or messages."""


def read_report(exchange: Exchange) -> Report | None:
    """None: no model call, or one that the engine refused."""
    if exchange.path not in ROUTES or exchange.status not in (0, 200):
        return None
    asked = json.loads(exchange.request)
    given = asked.get("token_ids", asked.get("prompt"))
    sent = given if isinstance(given, list) else None
    # That route does not repeat the prompt: what was sent is all there is.
    prompt = sent if sent is not None and "token_ids" in asked else []
    report = Report(asked.get("user"), prompt, [], exchange.whole, sent)
    for piece in _pieces(exchange, bool(asked.get("stream"))):
        _add(report, piece)
    return report


def _pieces(exchange: Exchange, streamed: bool) -> Iterable[dict[str, Any]]:
    text = exchange.reply.decode(errors="replace")
    if not streamed:
        return [json.loads(text)] if exchange.whole and text else []
    *events, _ = text.split("\n\n")  # what has no blank line after it is cut off
    said = [event.removeprefix("data: ") for event in events if event.startswith("data: {")]
    return map(json.loads, said)


def _add(report: Report, piece: dict[str, Any]) -> None:
    if piece.get("prompt_token_ids") is not None:
        report.prompt = piece["prompt_token_ids"]
    for choice in piece.get("choices", ()):
        while len(report.samples) <= choice["index"]:
            report.samples.append(Sample())
        sample = report.samples[choice["index"]]
        if choice.get("prompt_token_ids") is not None:
            report.prompt = choice["prompt_token_ids"]
        sample.ids += choice.get("token_ids") or []
        logprobs = choice.get("logprobs") or {}
        sample.logprobs += [entry["logprob"] for entry in logprobs.get("content") or ()]
        sample.logprobs += logprobs.get("token_logprobs") or []
        sample.finish_reason = choice.get("finish_reason") or sample.finish_reason


class Said:
    """All that the engine said; each sample is taken once, by the record that holds it."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._tagged: dict[str, list[tuple[Report, Sample]]] = {}
        self._others: dict[tuple[int, ...], list[tuple[Report, Sample]]] = {}
        """Those without a tag, by their prompt."""
        for report in reports:
            for sample in report.samples:
                if report.tag is not None:
                    self._tagged.setdefault(report.tag, []).append((report, sample))
                else:
                    self._others.setdefault(tuple(report.prompt), []).append((report, sample))

    def take(self, tag: str, prompt: list[int], matches: Callable[[Report, Sample], bool]) -> Report | None:
        """The report of the first sample that matches; None: the engine never said that."""
        for heap in (self._tagged.get(tag, []), self._others.get(tuple(prompt), [])):
            for pair in heap:
                if matches(*pair):
                    heap.remove(pair)
                    return pair[0]
        return None

    def rest(self) -> list[Report]:
        """Of samples that no record took, those that came to their end."""
        heaps = [*self._tagged.values(), *self._others.values()]
        return [report for heap in heaps for report, _ in heap if report.whole]
