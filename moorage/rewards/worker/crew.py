"""The processes of one reward function: as many as it may have, replaced when they hang or die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from moorage.errors import FailedError, MoorageError, TryAgainError
from moorage.rewards.configured import Configured
from moorage.rewards.sample import Sample
from moorage.rewards.worker.child import Child, fault_said

__all__ = ["Crew", "Judged", "Tell"]

MOST_WAITING = 4096
LONGEST_WAIT_S = 120.0
"""A sample that nobody has taken by then is given back."""

CLOSE_S = 5.0

Tell = Callable[..., None]
"""`tell(event, **fields)`: something that a person may want to know."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A reward and where it is from."""

    reward: float
    info: dict[str, Any]
    function: str
    version: str | None


class Crew:
    """Takes samples of one function. Nothing that happens here ends the gateway."""

    def __init__(self, what: Configured, environ: Mapping[str, str], tell: Tell) -> None:
        self.what = what
        self._environ = environ
        self._tell = tell
        self._children: list[Child] = []
        self._busy = 0
        """Samples that have a lane, or wait for a process to start."""
        self._lanes = 1
        self._queue: list[asyncio.Future[None]] = []
        self._work: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def start(self) -> None:
        """Start the first process. Raises what the function says of its options, FailedError when it cannot run."""
        child = await self._started()
        self._lanes = child.lanes

    async def judge(self, sample: Sample) -> Judged:
        """Raises MoorageError: what the function said, `reward_timeout`, `reward_crashed`, `reward_busy`.

        One that nobody waits for any more still has its time, and its process is free again after it.
        """
        if self._closed:
            raise _closing(self.what.name)
        work = asyncio.create_task(self._in_turn(sample))
        self._work.add(work)
        work.add_done_callback(self._forget)
        return await asyncio.shield(work)

    async def close(self) -> None:
        """End all processes; what is under way ends with a fault."""
        self._closed = True
        for waiting in self._queue:
            if not waiting.done():
                waiting.set_exception(_closing(self.what.name))
        children = list(self._children)
        for child in children:
            child.kill()
        if self._work:
            await asyncio.wait(self._work, timeout=CLOSE_S)
        for work in self._work:  # a process that starts, maybe
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await asyncio.gather(*(child.gone() for child in {*children, *self._children}), return_exceptions=True)

    async def _in_turn(self, sample: Sample) -> Judged:
        await self._take_lane()
        try:
            return await self._judge(sample)
        finally:
            self._busy -= 1
            self._wake()

    async def _take_lane(self) -> None:
        if self._busy < self._most and not self._queue:
            self._busy += 1
            return
        if len(self._queue) >= MOST_WAITING:
            raise self._too_busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await asyncio.wait_for(turn, LONGEST_WAIT_S)
        except TimeoutError:
            raise self._too_busy() from None
        finally:
            if turn in self._queue:
                self._queue.remove(turn)

    def _wake(self) -> None:
        while self._queue and self._busy < self._most:
            turn = self._queue.pop(0)
            if not turn.done():
                self._busy += 1
                turn.set_result(None)

    @property
    def _most(self) -> int:
        return self.what.processes * self._lanes

    async def _judge(self, sample: Sample) -> Judged:
        child = await self._free_child()
        name, within_s = self.what.name, self.what.timeout_s
        try:
            reply = await child.judge(sample, within_s)
        except TimeoutError:
            child.retired = True
            self._tell("reward_timeout", reward=name, timeout_s=within_s)
            message = f"the reward {name!r} took longer than {within_s:g} s"
            raise TryAgainError(message, code="reward_timeout") from None
        except MoorageError as fault:
            self._tell("reward_crashed", reward=name, why=fault.message, said_last=child.said_last)
            raise FailedError(f"the reward {name!r}: {fault.message}", code=fault.code) from None
        finally:
            await self._let_go(child)
        if reply.fault is not None:
            raise fault_said(reply.fault, f"the reward {name!r}")
        if reply.reward is None:
            raise FailedError(f"the reward {name!r} said nothing", code="reward_failed")
        return Judged(reward=reply.reward, info=reply.info, function=name, version=child.version)

    async def _free_child(self) -> Child:
        for dead in [child for child in self._children if not child.alive and not child.promised]:
            self._children.remove(dead)
            await dead.gone()
        free = [child for child in self._children if child.alive and child.promised < child.lanes and not child.retired]
        if not free:
            child = await self._started()
        else:
            child = min(free, key=lambda one: one.promised)
        child.promised += 1
        return child

    async def _started(self) -> Child:
        child = await Child.start(self.what, self._environ)
        if self._closed:
            child.kill()
            await child.gone()
            raise _closing(self.what.name)
        self._children.append(child)
        return child

    async def _let_go(self, child: Child) -> None:
        child.promised -= 1
        if (child.retired or not child.alive) and not child.promised:
            child.kill()
            if child in self._children:
                self._children.remove(child)
            await child.gone()

    def _forget(self, work: asyncio.Task[Any]) -> None:
        self._work.discard(work)
        if not work.cancelled():
            work.exception()  # nobody may wait for it any more

    def _too_busy(self) -> TryAgainError:
        return TryAgainError(f"the reward {self.what.name!r} has too much to do", code="reward_busy")


def _closing(name: str) -> TryAgainError:
    return TryAgainError(f"the reward {name!r} is being closed", code="reward_busy")
