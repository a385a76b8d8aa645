"""What the engine itself said of a call: ids and log probabilities, read from its replies with nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.observer import Exchange

__all__ = ["Report", "Sample", "read_report"]


@dataclass
class Sample:
    """One choice."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Report:
    """One reply. `tag`: the request's `user`. `whole`: it came to its end."""

    tag: str
    prompt: list[int]
    samples: list[Sample]
    whole: bool
    sent: list[int] | None
    """The ids that the request gave as its prompt; None: it gave text or messages."""


def read_report(exchange: Exchange) -> Report | None:
    """None: no model call, or one that the engine refused."""
    if exchange.path not in ("/v1/chat/completions", "/v1/completions") or exchange.status not in (0, 200):
        return None
    asked = json.loads(exchange.request)
    sent = asked.get("prompt") if isinstance(asked.get("prompt"), list) else None
    report = Report(str(asked.get("user")), [], [], exchange.whole, sent)
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
