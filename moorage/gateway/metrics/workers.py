"""`/metrics` of one worker or of all: whichever is asked asks the others, and each tells under its own number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from moorage.gateway.metrics.exposition import text_of
from moorage.gateway.metrics.family import Family
from moorage.gateway.metrics.gathered import families_of

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["answer_peers", "metrics_text"]

METRICS = "metrics"


async def metrics_text(gateway: Gateway) -> bytes:
    """Prometheus's text. A worker that does not answer in time is missing in it."""
    mine = await families_of(gateway)
    if gateway.company is None:
        return text_of(mine)
    peers = gateway.company.peers
    answers = await peers.ask(METRICS)
    others = {str(index): msgspec.msgpack.decode(said, type=list[Family]) for index, said in answers}
    return text_of(mine, others, str(peers.index))


def answer_peers(gateway: Gateway) -> None:
    """Tell the other workers what this one counts. Before they are answered."""

    async def tell(said: bytes) -> bytes:
        del said
        return msgspec.msgpack.encode(await families_of(gateway, shared=False))

    if gateway.company is not None:
        gateway.company.peers.on(METRICS, tell)
