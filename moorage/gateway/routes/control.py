"""A trainer's hold on the gateway: pause model calls while weights change, and say which weights they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.routes.pool import rfc3339

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["PauseBody", "WeightsBody", "pause", "paused", "resume", "set_weights", "weights"]

LONGEST_WAIT_S = 600.0
REASON_CHARS = 500


class PauseBody(msgspec.Struct, frozen=True):
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT_S)] = 0.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] | None = None


class WeightsBody(msgspec.Struct, frozen=True):
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    force: bool = False


async def pause(gateway: Gateway, request: Request) -> Reply:
    """`POST /pause`: no model call begins any more, in any gateway over the store; those under way end.

    Waits up to `wait_s` until none is under way, and says how many are left.
    """
    body = request.decode(PauseBody, empty=b"{}")
    await gateway.orders.pause(retry_after_s=body.retry_after_s, reason=body.reason)
    return json_reply(await request.while_connected(_paused(gateway, body.wait_s)))


async def paused(gateway: Gateway, request: Request) -> Reply:
    """`GET /pause`: whether it is paused, and what is under way."""
    del request
    return json_reply(await _paused(gateway, 0.0))


async def resume(gateway: Gateway, request: Request) -> Reply:
    """`POST /resume`: model calls are taken again."""
    del request
    was = await gateway.orders.resume()
    paused_s = None if was is None else round(max(0.0, gateway.clock() - was.since), 3)
    return json_reply({"paused": False, "paused_s": paused_s})


async def weights(gateway: Gateway, request: Request) -> Reply:
    """`GET /weights`: the version that calls are stamped with."""
    del request
    return json_reply({"version": gateway.orders.weights})


async def set_weights(gateway: Gateway, request: Request) -> Reply:
    """`POST /weights`: the engines have this version from now on. It never goes back without `force`."""
    body = request.decode(WeightsBody)
    before = await gateway.orders.name_weights(body.version, force=body.force)
    return json_reply({"version": body.version, "before": before})


async def _paused(gateway: Gateway, wait_s: float) -> dict[str, Any]:
    drained = await gateway.orders.drained(wait_s)
    now = gateway.gate.paused
    told = {} if now is None else {"retry_after_s": now.retry_after_s, "reason": now.reason}
    return {
        "paused": now is not None,
        "since": None if now is None else rfc3339(now.since),
        **told,
        **msgspec.structs.asdict(drained),
    }
