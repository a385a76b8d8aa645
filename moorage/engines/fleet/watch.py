"""Probing: each endpoint is looked at once a second, at once after a fault, and never made to generate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import msgspec

from moorage.engines.fleet.health import EVERY_S, PROBE_TIMEOUT_S, Seen, health_target
from moorage.engines.fleet.state import EndpointState
from moorage.engines.wire.answer import Answer
from moorage.engines.wire.faults import Unreachable
from moorage.errors import MoorageError

__all__ = ["Watch"]

MODELS_EVERY_S = 30.0
MODELS_AT_ONCE_S = 1.0
"""A request for an unknown model asks again, but not more often than this."""
FOLLOWED_EVERY_S = 5.0
"""One that somebody else looks after too, while it is well."""
LOOK_S = 1.0
"""How long a request that nobody can serve waits for another look."""


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class Watch:
    """One task an endpoint."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[EndpointState, asyncio.Task[None]] = {}
        self._bells: dict[EndpointState, asyncio.Event] = {}
        self._looks: dict[EndpointState, asyncio.Task[None]] = {}
        """The looks that requests wait for now: one at an endpoint for all of them."""

    async def start(self, states: Iterable[EndpointState]) -> None:
        """Probe those that are not watched yet, at the same time, then go on watching them."""
        new = [state for state in states if state not in self._tasks]
        await self._probe_all(new)
        for state in new:
            self._bells[state] = asyncio.Event()
            self._tasks[state] = asyncio.create_task(self._keep_looking(state))

    def begin(self, states: Iterable[EndpointState]) -> None:
        """The same without waiting: those that are not watched yet are probed at once, and used meanwhile."""
        for state in states:
            if state not in self._tasks:
                self._bells[state] = asyncio.Event()
                self._bells[state].set()
                self._tasks[state] = asyncio.create_task(self._keep_looking(state))

    async def leave(self, state: EndpointState) -> None:
        """Watch it no longer."""
        task = self.drop(state)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def drop(self, state: EndpointState) -> asyncio.Task[None] | None:
        """The same without waiting; what is to be waited for."""
        task = self._tasks.pop(state, None)
        self._bells.pop(state, None)
        if task is not None:
            task.cancel()
        return task

    async def close(self) -> None:
        """Watch none."""
        for look in self._looks.values():
            look.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)
        for state in list(self._tasks):
            await self.leave(state)

    def saw(self, state: EndpointState, seen: Seen, reason: str) -> None:
        """A request met a fault: judge, and look again at once."""
        state.saw(seen, reason)
        bell = self._bells.get(state)
        if bell is not None:
            bell.set()

    async def refresh_models(self, states: Iterable[EndpointState]) -> None:
        """Ask the healthy ones what they serve, at the same time: an adapter may have been loaded just now."""
        now_s = self._clock()
        due = [
            state
            for state in states
            if state.healthy
            and (state.asked_for_models_at is None or now_s - state.asked_for_models_at >= MODELS_AT_ONCE_S)
        ]
        await asyncio.gather(*(self._ask_for_models(state) for state in due))

    async def look_again(self, states: Iterable[EndpointState]) -> None:
        """Probe those that are out, before a request is refused: one may have come up since its last probe."""
        self._looks = {state: look for state, look in self._looks.items() if not look.done()}
        looks = []
        for state in states:
            if not state.healthy:
                look = self._looks.get(state) or asyncio.create_task(self.probe(state))
                self._looks[state] = look
                looks.append(look)
        if looks:
            await asyncio.wait(looks, timeout=LOOK_S)

    async def probe(self, state: EndpointState) -> None:
        """Look once."""
        if not state.endpoint.health_check:
            await self._ask_for_models(state)
            return
        followed = state.endpoint.followed
        target = "/v1/models" if followed else health_target(state.endpoint.server_type)
        target = target if state.targets is None else state.targets(target)
        try:
            answer = await state.upstream.ask("GET", target, silence_s=PROBE_TIMEOUT_S)
        except Unreachable as fault:
            state.saw("probe_refused", fault.message)
            return
        except MoorageError as fault:
            state.saw("probe_failed", fault.message)
            return
        # Some engines have no health route, or want a key for it: whoever answers that is alive.
        # What stands before a followed one answers 404 for it when it is gone.
        if answer.status >= 500 or (followed and answer.status != 200):
            state.saw("probe_failed", f"{target} answers {answer.status}")
            return
        came_back = not state.healthy
        state.saw("probe_ok")
        if followed:
            state.asked_for_models_at = self._clock()
            _learn(state, answer)
            return
        asked_at = state.asked_for_models_at
        if came_back or asked_at is None or self._clock() - asked_at >= MODELS_EVERY_S:
            await self._ask_for_models(state)

    async def _probe_all(self, states: Iterable[EndpointState]) -> None:
        await asyncio.gather(*(self.probe(state) for state in states))

    async def _keep_looking(self, state: EndpointState) -> None:
        bell = self._bells[state]
        while not (state.retired and not state.sessions and not state.in_flight):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_pause_s(state)):
                    await bell.wait()
            bell.clear()
            await self.probe(state)
        self._tasks.pop(state, None)
        self._bells.pop(state, None)

    async def _ask_for_models(self, state: EndpointState) -> None:
        state.asked_for_models_at = self._clock()
        try:
            target = "/v1/models" if state.targets is None else state.targets("/v1/models")
            answer = await state.upstream.ask("GET", target, silence_s=PROBE_TIMEOUT_S)
        except MoorageError:
            return
        _learn(state, answer)


def _learn(state: EndpointState, answer: Answer) -> None:
    """What an answer to `/v1/models` says; nothing when it is none."""
    try:
        said = msgspec.json.decode(answer.body, type=_Models) if answer.status == 200 else None
    except msgspec.DecodeError:
        return
    if said is not None and said.data:
        longest = [model.max_model_len for model in said.data if model.max_model_len]
        state.learn_models([model.id for model in said.data], max_model_len=max(longest, default=None))


def _pause_s(state: EndpointState) -> float:
    """Until it is looked at again."""
    return FOLLOWED_EVERY_S if state.endpoint.followed and state.healthy else EVERY_S
