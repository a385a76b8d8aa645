"""Computing a reward: what the request says of a sample put together, judged out of the event loop, faults told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from moorage.errors import MoorageError, UsageError
from moorage.gateway.http.faults import BodyWrong, Fault
from moorage.rewards.sample import Sample
from moorage.rewards.worker.crew import Judged

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.http.request import Request

__all__ = ["fault_of_reward", "judged", "reply_text"]

STATUSES = {
    **dict.fromkeys(("reward_timeout", "reward_model_late"), 504),
    **dict.fromkeys(("reward_busy", "reward_not_started"), 503),
    **dict.fromkeys(
        ("reward_failed", "reward_crashed", "reward_no_number", "reward_not_finite", "reward_bad_info"), 500
    ),
    **dict.fromkeys(("reward_model_gone", "reward_model_refused", "reward_model_reply"), 502),
    "reward_unknown": 400,
}
DECODED_HERE = 8192
"""More ids than that are decoded in a thread."""


async def judged(gateway: Gateway, request: Request, function: str | None, sample: Sample) -> Judged:
    """Raises a Fault: a function that fails is its request's error and nobody else's."""
    try:
        return await request.while_connected(gateway.scorer.judge(function, sample))
    except MoorageError as fault:
        raise fault_of_reward(fault) from None


def fault_of_reward(fault: MoorageError) -> Fault:
    """What the client is told."""
    status = STATUSES.get(fault.code)
    message = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
    if status is None and isinstance(fault, UsageError):
        return Fault(422, message, code=fault.code, errors=({"pointer": "", "detail": message},))
    status = status or fault.http_status
    return Fault(status, message, code=fault.code, retry_after_s=1 if status == 503 else None)


async def reply_text(gateway: Gateway, messages: list[dict[str, Any]] | None, ids: list[int] | None) -> str | None:
    """The text of the last assistant message, or of the ids; None: there is no tokenizer to read them with."""
    if messages is not None:
        said = [message.get("content") for message in messages if message.get("role") == "assistant"]
        if not said:
            raise BodyWrong("no message is an assistant's: there is nothing to judge", "/messages")
        return _text(said[-1])
    if gateway.renderer is None or ids is None:
        return None
    if len(ids) <= DECODED_HERE:
        return gateway.decode_text(ids, skip_special=True)
    return await asyncio.to_thread(gateway.decode_text, ids, skip_special=True)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
