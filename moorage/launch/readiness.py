"""Whether a server is ready, judged from one answer: pure.

TAO's container servers answer `/api/v1/health/readiness` with 200 or 503 and a `reason`; their chat route, and other
servers, put an `error.type` there instead; the oldest ones know only `/health` with `model_loaded`. Engines (vLLM,
SGLang) answer `/health` with an empty 200, which any server might, so their `/v1/models` must also name our model.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one path."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer, or all of them, mean."""

    state: str
    """`ready`, `waiting` or `fatal`; `next` when the answer does not settle it and the next path must be asked."""
    reason: str | None = None
    """The server's own word (`model_loading`), or ours in words. None when ready."""


@dataclass(frozen=True, slots=True)
class Contract:
    """How one service tells that it is ready."""

    family: str
    """`tao` or `engine`"""
    paths: Sequence[str]
    fatal_reasons: Collection[str]
    job_id: str
    served_model_name: str | None
    """None: not known, so any model counts."""


NOT_LISTENING = "not listening yet"
NO_ADDRESS = "no address yet"
SILENCE = frozenset({NOT_LISTENING, NO_ADDRESS})
"""Reasons of ours that say nothing: what the platform says tells more."""
READY = Verdict("ready")
ASK_NEXT = Verdict("next")


def judge(contract: Contract, index: int, answer: Answer | None) -> Verdict:
    """Judge the answer of `contract.paths[index]`; None means that nothing answered."""
    if answer is None:
        return Verdict("waiting", NOT_LISTENING)
    if contract.family == "engine":
        return _judge_engine(contract, index, answer)
    return _judge_tao(contract, index, answer)


def _judge_engine(contract: Contract, index: int, answer: Answer) -> Verdict:
    if answer.status != 200:
        return _not_ready(contract, answer)
    if index + 1 < len(contract.paths):
        return ASK_NEXT
    names = _served_names(_parse(answer.body))
    if names is None:
        return Verdict("waiting", "the answer is no list of models: another program has this port")
    if contract.served_model_name is not None and contract.served_model_name not in names:
        return Verdict("waiting", f"another service answers here: it serves {', '.join(sorted(names)) or 'nothing'}")
    return READY


def _judge_tao(contract: Contract, index: int, answer: Answer) -> Verdict:
    if answer.status == 404:
        return ASK_NEXT if index + 1 < len(contract.paths) else Verdict("waiting", "no readiness route (404)")
    body = _parse(answer.body)
    if isinstance(body, dict):
        stranger = body.get("job_id")
        if stranger is not None and stranger != contract.job_id:
            return Verdict("waiting", f"another service answers here: job_id {stranger}")
    if answer.status != 200:
        return _not_ready(contract, answer)
    if not isinstance(body, dict):
        return Verdict("waiting", "200 without a JSON object: another program has this port")
    if index > 0 and body.get("model_loaded") is not True:
        return Verdict("waiting", "model_not_loaded")
    status = body.get("status")
    if index == 0 and status is not None and status != "ready":
        return _not_ready(contract, answer)
    return READY


def _not_ready(contract: Contract, answer: Answer) -> Verdict:
    reason = reason_of(_parse(answer.body)) or f"HTTP {answer.status}"
    return Verdict("fatal" if reason in contract.fatal_reasons else "waiting", reason)


def reason_of(body: Any) -> str | None:
    """The server's reason: `reason`, else `error.type`; None when it gives none."""
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("reason"), str) and body["reason"]:
        return str(body["reason"])
    error = body.get("error")
    if isinstance(error, dict) and isinstance(error.get("type"), str) and error["type"]:
        return str(error["type"])
    return None


def _served_names(body: Any) -> set[str] | None:
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return None
    return {str(model["id"]) for model in body["data"] if isinstance(model, dict) and "id" in model}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
