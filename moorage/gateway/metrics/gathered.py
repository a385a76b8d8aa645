"""Everything that `/metrics` tells of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.gateway.metrics.family import Family, counter, gauge, histogram
from moorage.gateway.metrics.process import build_family, disk_families, process_families
from moorage.gateway.metrics.serving import serving_families
from moorage.gateway.metrics.upstreams import upstream_families
from moorage.pool.meter import BATCH_BOUNDS, COMMIT_BOUNDS_S, StoreMeter

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["families_of"]


async def families_of(gateway: Gateway, *, shared: bool = True) -> list[Family]:
    """As they are now; those of the pool a few seconds old. `shared`: also what every worker would say the same."""
    meter: StoreMeter | None = getattr(gateway.store, "meter", None)
    return [
        *(await _shared(gateway) if shared else ()),
        build_family(),
        *gateway.metrics.families(),
        *_control(gateway),
        *(serving_families(gateway.serving) if gateway.serving is not None else ()),
        *_sessions(gateway),
        *_connections(gateway),
        *upstream_families(gateway.fleet.states()),
        *(_store(meter) if meter is not None else ()),
        gateway.loop_lag.family(),
        *process_families(),
    ]


async def _shared(gateway: Gateway) -> list[Family]:
    workers = 1 if gateway.company is None else gateway.company.peers.count
    return [
        gauge("moorage_workers", "Processes that share the port.", workers, shared=True),
        gauge("moorage_sessions_open", "Sessions that are open.", gateway.sessions.open, shared=True),
        *disk_families(gateway.settings.db),
        *await gateway.pool_watch.families(),
    ]


def _control(gateway: Gateway) -> list[Family]:
    gate = gateway.gate
    refused = {(why,): float(many) for why, many in gate.refused.items()}
    version = {} if gateway.weight_version is None else {(): float(gateway.weight_version)}
    since = {} if gate.paused is None else {(): gate.paused.since}
    return [
        gauge("moorage_paused", "1 while somebody has paused model calls.", float(gate.paused is not None)),
        gauge("moorage_paused_since_timestamp_seconds", "When it was paused; absent when it is not.", since),
        gauge("moorage_weights_version", "What calls are stamped with; absent until it was named.", version),
        gauge("moorage_calls_in_flight", "Model calls under way.", gate.in_flight),
        counter("moorage_calls_refused", "Model calls that were not begun.", refused, "reason"),
    ]


def _sessions(gateway: Gateway) -> list[Family]:
    sessions = gateway.sessions
    return [
        gauge("moorage_sessions_in_memory", "Sessions and trajectories in this worker's memory.", sessions.in_memory),
        gauge("moorage_session_memory_bytes", "About what those take.", sessions.memory_bytes),
    ]


def _connections(gateway: Gateway) -> list[Family]:
    listener = gateway.listener
    if listener is None:
        return []
    ended = {(why,): float(many) for why, many in listener.ended.items()}
    return [
        gauge("moorage_connections_open", "Clients' connections.", len(listener.connections)),
        counter("moorage_connections_refused", "Connections beyond --max-connections.", listener.refused),
        counter("moorage_connections_ended", "Connections on which the client took too long.", ended, "late"),
    ]


def _store(meter: StoreMeter) -> list[Family]:
    commits = {(): (meter.commit_s, meter.commit_sum_s)}
    batches = {(): (meter.batches, float(meter.writes))}
    return [
        histogram("moorage_store_commit_seconds", "From a commit's beginning to the disk.", COMMIT_BOUNDS_S, commits),
        histogram("moorage_store_batch_writes", "Writes that one commit made durable.", BATCH_BOUNDS, batches),
        gauge("moorage_store_waiting_writes", "Writes that wait for a commit, or are in it.", meter.waiting()),
        counter("moorage_store_faults", "Writes that could not be made durable.", meter.faults),
    ]
