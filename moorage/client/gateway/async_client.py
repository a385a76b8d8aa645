"""The gateway as a Python object, awaited."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moorage.client.gateway.asks import control, pool, sessions, trajectories
from moorage.client.gateway.asks.body import encoded, given
from moorage.client.gateway.async_events import async_event_stream
from moorage.client.gateway.async_leases import AsyncLeaseRun
from moorage.client.gateway.lease_terms import LeaseTerms
from moorage.client.gateway.tables import read_table
from moorage.client.gateway.values import Event, Lease, Reward, Session, Step, Trajectory, TrajectoryRow
from moorage.client.http.awaiting import Awaiting
from moorage.client.http.place import KEY_ENV
from moorage.client.http.terms import terms_of

if TYPE_CHECKING:
    import pyarrow

__all__ = ["AsyncGatewayClient"]


class AsyncGatewayClient:
    """One gateway. Cancelling a call closes its connection.

    `key_env` names the variable that holds the key; MOORAGE_KEY may be missing, another one may not. What may be
    repeated is, for as long as `patience_s` allows: a gateway that restarts is waited for. Model calls carry an
    `Idempotency-Key`, so that a repetition is answered by what was recorded. Times are seconds.

    Methods raise errors of `moorage.errors` with the gateway's own `code`: UsageError (400, 422), PreflightError (401,
    403), NotFoundError (404), ConflictError (409), TryAgainError (429, 503, 504, no connection), else FailedError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8100",
        *,
        key_env: str | None = KEY_ENV,
        timeout_s: float = 600.0,
        patience_s: float = 30.0,
        max_connections: int = 1000,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Raises UsageError for what is no address, PreflightError for a key that is not there."""
        terms = terms_of(
            url,
            key_env=key_env,
            environ=environ,
            timeout_s=timeout_s,
            patience_s=patience_s,
            max_connections=max_connections,
        )
        self.url = terms.url
        self._http = Awaiting(terms)

    async def __aenter__(self) -> AsyncGatewayClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    # Trajectories.

    async def init_trajectory(
        self,
        prompt_uid: str | None = None,
        *,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Trajectory:
        """A new trajectory; `prompt_uid` names its group, None: one of its own."""
        return await self._http.send(trajectories.init(prompt_uid, channel, metadata))

    async def register(
        self, trajectory: Trajectory, *, channel: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Its channel and metadata, before its first step."""
        await self._http.send(trajectories.register(trajectory, channel, metadata))

    async def chat(self, trajectory: Trajectory, **body: Any) -> dict[str, Any]:
        """A chat of the trajectory, recorded as its next step; `body` as OpenAI's API has it, the reply too."""
        ask = trajectories.model_call(trajectory, "chat/completions", body, uuid.uuid4().hex)
        return await self._http.send(ask)

    async def completion(self, trajectory: Trajectory, **body: Any) -> dict[str, Any]:
        """A text completion of the trajectory; `prompt` is text or ids."""
        return await self._http.send(trajectories.model_call(trajectory, "completions", body, uuid.uuid4().hex))

    async def complete(
        self, trajectory: Trajectory | str, *, reward: float | None = None, channel: str | None = None
    ) -> None:
        """The run is over; `reward` is its last step's."""
        uid = trajectory if isinstance(trajectory, str) else trajectory.trajectory_uid
        await self._http.send(trajectories.complete(uid, reward, channel))

    async def submit_steps(
        self, steps: Iterable[Step | Mapping[str, Any]], *, channel: str | None = None
    ) -> dict[str, int]:
        """Steps that were sampled elsewhere: `accepted`, and how many of them were there already. All or nothing."""
        return await self._http.send(trajectories.submit(steps, channel))

    async def generate(self, **body: Any) -> dict[str, Any]:
        """One sample from `messages` or `prompt_ids`; nothing is stored."""
        return await self._http.send(trajectories.generate(body))

    # The pool.

    async def lease(
        self,
        channel: str = "train",
        *,
        n_rollouts: int | None = None,
        max_groups: int = 1,
        lease_s: float = 300.0,
        min_policy_version: int | None = None,
        consumer: str | None = None,
        marks: Mapping[str, Any] | None = None,
        wait_s: float = 0.0,
    ) -> list[Lease]:
        """Up to `max_groups` groups; empty when none is ready within `wait_s` (0 to 60)."""
        body = _lease_body(channel, n_rollouts, max_groups, lease_s, min_policy_version, consumer, marks, wait_s)
        return (await self._http.send(pool.lease(body))).leases

    async def lease_table(
        self,
        channel: str = "train",
        *,
        n_rollouts: int | None = None,
        max_groups: int = 1,
        lease_s: float = 300.0,
        min_policy_version: int | None = None,
        consumer: str | None = None,
        marks: Mapping[str, Any] | None = None,
        wait_s: float = 0.0,
    ) -> pyarrow.Table:
        """The same as an Arrow table, a row for each step; `moorage.client.gateway.tables.lease_ids` are its leases."""
        body = _lease_body(channel, n_rollouts, max_groups, lease_s, min_policy_version, consumer, marks, wait_s)
        return read_table(await self._http.send(pool.lease_table(body)))

    def leases(
        self,
        channel: str = "train",
        *,
        n_rollouts: int | None = None,
        max_groups: int = 1,
        lease_s: float = 300.0,
        min_policy_version: int | None = None,
        consumer: str | None = None,
        marks: Mapping[str, Any] | None = None,
        idle_s: float | None = None,
        limit: int | None = None,
    ) -> AsyncLeaseRun:
        """Leases one after the other, acked and given back by themselves: see `AsyncLeaseRun`.

        It ends after `limit` leases, and when nothing was ready for `idle_s`; None: never.
        """
        terms = LeaseTerms(
            channel=channel,
            n_rollouts=n_rollouts,
            max_groups=max_groups,
            lease_s=lease_s,
            min_policy_version=min_policy_version,
            consumer=consumer,
            marks=marks,
            idle_s=idle_s,
            limit=limit,
        )
        return AsyncLeaseRun(self._http, terms)

    async def ack(self, *leases: Lease | str) -> int:
        """These are done with. Raises ConflictError `lease_lost`."""
        return await self._http.send(pool.ack(_ids(leases)))

    async def nack(
        self, *leases: Lease | str, delay_s: float = 0.0, drop: bool = False, reason: str | None = None
    ) -> int:
        """These go back, after `delay_s`, or are dropped for good."""
        return await self._http.send(pool.nack(_ids(leases), delay_s, drop, reason))

    async def stats(self, channel: str | None = None, *, n_rollouts: int | None = None) -> dict[str, Any]:
        """Counts by channel."""
        return await self._http.send(pool.stats(channel, n_rollouts))

    async def steps(self, **filters: Any) -> AsyncIterator[Step]:
        """Stored steps in the order of commits, page by page: `channel`, `trajectory_uid`, `prompt_uid`,
        `policy_version`, `state`, `limit` (a page's rows)."""
        cursor: str | None = None
        while True:
            page = await self._http.send(pool.steps(filters, cursor))
            for row in page.rows:
                yield row
            cursor = page.next_cursor
            if cursor is None:
                return

    async def trajectories(self, **filters: Any) -> AsyncIterator[TrajectoryRow]:
        """Stored trajectories: `channel`, `trajectory_uid`, `prompt_uid`, `state`, `limit`."""
        cursor: str | None = None
        while True:
            page = await self._http.send(pool.trajectories(filters, cursor))
            for row in page.rows:
                yield row
            cursor = page.next_cursor
            if cursor is None:
                return

    async def mark(self, trajectory_uid: str, step_index: int, **marks: Any) -> dict[str, Any]:
        """Set a step's marks, None takes one away; all that it has then."""
        return await self._http.send(pool.mark(trajectory_uid, step_index, marks))

    def events(self, channel: str | None = None, *, after: int | None = None) -> AsyncIterator[Event]:
        """What happens, as it happens, after event `after` (0: everything kept; None: from now on). It never ends.

        When the connection breaks it asks again from the last event that it gave, so none is missed and none comes
        twice. Raises TryAgainError when nobody answers for `patience_s`.
        """
        return async_event_stream(self._http, channel, after)

    # Rewards.

    async def compute_reward(self, **body: Any) -> Reward:
        """What a reward function says of `messages`, or of `prompt_ids` and `response_ids`; fields as /compute_reward
        has them (`function`, `dataset_fields`, `trajectory_uid`, `store`, …)."""
        return await self._http.send(control.compute_reward(body))

    async def set_reward(
        self,
        trajectory_uid: str,
        reward: float,
        *,
        step_index: int | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> int:
        """Of a complete trajectory, or of one step; the number of this version."""
        return await self._http.send(control.set_reward(trajectory_uid, reward, step_index, info))

    async def rewards(self, trajectory_uid: str) -> dict[str, Any]:
        """Every version of its rewards."""
        return await self._http.send(control.rewards(trajectory_uid))

    # Sessions.

    async def create_session(self, **options: Any) -> Session:
        """Fields as /sessions/create has them: `tool_parser`, `mode`, `track_tree`, `base_url`, …"""
        return await self._http.send(sessions.create(options))

    async def session_chat(self, uuid_of: str, **body: Any) -> dict[str, Any]:
        """A chat of a session, recorded."""
        return await self._http.send(sessions.call(uuid_of, "chat/completions", encoded(body), uuid.uuid4().hex))

    async def session_completion(self, uuid_of: str, **body: Any) -> dict[str, Any]:
        """A text completion of a session, recorded."""
        return await self._http.send(sessions.call(uuid_of, "completions", encoded(body), uuid.uuid4().hex))

    async def nodes(self, uuid_of: str, *, undelivered: bool = False) -> list[dict[str, Any]]:
        """What a session has sampled, as Atropos's nodes."""
        return await self._http.send(sessions.nodes(uuid_of, undelivered))

    async def delete_session(self, uuid_of: str) -> None:
        """It is over; what it sampled stays in the store."""
        await self._http.send(sessions.delete(uuid_of))

    # The gateway itself.

    async def pause(self, *, wait_s: float = 0.0, retry_after_s: int = 5, reason: str | None = None) -> dict[str, Any]:
        """No model call begins any more; waits up to `wait_s` for those under way."""
        return await self._http.send(control.pause(wait_s, retry_after_s, reason))

    async def resume(self) -> dict[str, Any]:
        """Model calls are taken again."""
        return await self._http.send(control.resume())

    async def weights(self) -> int | None:
        """The version that calls are stamped with; None: nobody has said."""
        return await self._http.send(control.weights())

    async def set_weights(self, version: int, *, force: bool = False) -> dict[str, Any]:
        """The engines have this version from now on; it goes back only with `force`."""
        return await self._http.send(control.set_weights(version, force))

    async def health(self) -> dict[str, Any]:
        """Asked once. Raises TryAgainError when no engine is healthy, or no gateway answers."""
        return await self._http.send(control.health())

    async def servers(self) -> list[dict[str, Any]]:
        """The engines as the gateway sees them."""
        return await self._http.send(control.servers())


def _lease_body(
    channel: str,
    n_rollouts: int | None,
    max_groups: int,
    lease_s: float,
    min_policy_version: int | None,
    consumer: str | None,
    marks: Mapping[str, Any] | None,
    wait_s: float,
) -> dict[str, Any]:
    return given(
        channel=channel,
        n_rollouts=n_rollouts,
        max_groups=max_groups,
        lease_s=lease_s,
        min_policy_version=min_policy_version,
        consumer=consumer,
        marks=marks,
        wait_s=wait_s,
    )


def _ids(leases: Iterable[Lease | str]) -> list[str]:
    return [lease if isinstance(lease, str) else lease.lease_id for lease in leases]
