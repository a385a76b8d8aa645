"""What of a request goes to an endpoint: where, which headers; and by what the least busy one is told."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.engines.contract import Directed
from moorage.engines.fleet.state import EndpointState

__all__ = ["eval_load", "passed_on", "put", "train_load"]

NOT_FORWARDED = frozenset((b"authorization", b"cookie", b"x-api-key", b"api-key"))
"""What a client says to the gateway is not said to the engine."""

ONLY_JSON = ((b"content-type", b"application/json"),)


def put(state: EndpointState, path: str, made: bytes | Directed) -> tuple[str, bytes]:
    """Where and what to ask of an endpoint. `path`: where the caller would, in OpenAI's words."""
    target, body = made if isinstance(made, Directed) else (path, made)
    return (target, body) if state.targets is None else (state.targets(target), body)


def passed_on(headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Bodies are JSON unless the caller says otherwise; engines refuse a body that does not say what it is."""
    if not headers:
        return ONLY_JSON
    passed = [pair for pair in headers if pair[0] not in NOT_FORWARDED]
    if not any(name == b"content-type" for name, _ in passed):
        passed += ONLY_JSON
    return tuple(passed)


def train_load(state: EndpointState) -> float:
    """Of the slots for training."""
    return state.load


def eval_load(state: EndpointState) -> float:
    """Of the slots for evaluation."""
    return state.eval_load
