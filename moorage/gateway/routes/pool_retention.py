"""Letting old trajectories go: when somebody asks, and now and then by itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import msgspec

from moorage.errors import MoorageError
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.pool.contract import Retention
from moorage.pool.retention import check_retention, told

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.settings import Settings

__all__ = ["RetainBody", "retain", "retention_of", "sweep_old"]

_EVERY_S = 300.0
"""Between two sweeps; the first begins a while after the start, so that a gateway in trouble restarts fast."""
_FIRST_S = 30.0


class RetainBody(msgspec.Struct, frozen=True):
    older_than_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    n_rollouts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    keep: list[str] = []
    dry_run: bool = False


async def retain(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/retain`: what went, or with `dry_run` what would. Whoever goes away meanwhile does not stop it."""
    body = request.decode(RetainBody)
    ask = Retention(
        older_than_s=body.older_than_s,
        max_bytes=body.max_bytes,
        n_rollouts=body.n_rollouts or gateway.settings.n_rollouts,
        keep=frozenset(body.keep),
    )
    check_retention(ask)
    retained = await gateway.store.retain(ask, dry_run=body.dry_run)
    return json_reply({"dry_run": body.dry_run, **told(retained)})


def retention_of(settings: Settings) -> Retention | None:
    """What a gateway's flags ask for; None: everything stays. Raises UsageError `bad_retention`."""
    if settings.retain_age_s is None and settings.retain_bytes is None:
        return None
    ask = Retention(older_than_s=settings.retain_age_s, max_bytes=settings.retain_bytes, n_rollouts=settings.n_rollouts)
    check_retention(ask)
    return ask


async def sweep_old(gateway: Gateway, ask: Retention) -> None:
    """Let go what `ask` lets go, now and then, until the gateway stops. A fault is told, and it goes on."""
    # Several gateways over one store do not begin together.
    pause_s = _FIRST_S + _EVERY_S * int(gateway.new_uid()[:4], 16) / 0xFFFF
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gateway.stopping.wait(), pause_s)
            return
        pause_s = _EVERY_S
        try:
            retained = await gateway.store.retain(ask, dry_run=False)
        except MoorageError as fault:
            gateway.log.fault(fault)
            continue
        if retained.trajectories:
            gateway.log.info("retained", **told(retained))
