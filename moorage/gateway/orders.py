"""What all gateways over one store are told: to pause, and which weights the engines have.

It stands in the store's state, so it outlives a restart and counts for every gateway:

    paused          {id, since, retry_after_s, reason}; absent: not paused
    weights.vN      one for each version named lately: the highest counts, so that two who write at once cannot go back
    gateway.ID      a gateway that runs: {paused, in_flight, beat}: the pause that it has obeyed, its calls under way,
                    and while there are some another beat every second

A gateway sees what another was told within LOOK_EVERY_S. Whoever pauses and wants to wait until nothing is in flight
waits for what each of the others says under its name; one that says nothing is taken for dead, and its name removed
(it comes back by itself when it lives).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from moorage.errors import ConflictError, MoorageError
from moorage.gateway.gate import Gate, Pause
from moorage.gateway.log import Log
from moorage.pool.contract import Store

__all__ = ["Drained", "Orders"]

LOOK_EVERY_S = 0.25
BEAT_S = 1.0
SILENT_S = 3.0
"""A gateway that has not obeyed a pause for so long, or has said nothing new of its calls, is taken for dead."""
GATEWAY = "gateway."
WEIGHTS = "weights.v"


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """How far a pause has come. `in_flight`: model calls under way, in all gateways that answer."""

    in_flight: int
    gateways: int
    silent: int
    """Gateways that have not obeyed yet: what they do is not in `in_flight`."""


class Orders:
    """Of this gateway. `on_weights` is called with the version whenever it changes; None: nobody has named one."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        *,
        name: str,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        on_weights: Callable[[int | None], None],
        log: Log,
    ) -> None:
        """`name`: of this gateway among those over the store. `clock` gives Unix seconds."""
        self._store = store
        self._gate = gate
        self._name = GATEWAY + name
        self._clock = clock
        self._new_id = new_id
        self._on_weights = on_weights
        self._log = log
        self._stamp: int | None = None
        self._weights: int | None = None
        self._said: dict[str, Any] | None = None
        """What stands under this gateway's name."""
        self._reporting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._faulty = False

    async def start(self) -> None:
        """Obey what stands in the store, before the first request. Raises StoreFault."""
        await self._look()
        await self._say({"paused": self._pause_id, "in_flight": 0})
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Take this gateway's name away."""
        tasks = [task for task in (self._watching, self._reporting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._said is not None:
            with contextlib.suppress(MoorageError):  # it will be found silent
                await self._store.set_state({self._name: None})

    @property
    def weights(self) -> int | None:
        """The version of the weights that the engines have; None: nobody has said."""
        return self._weights

    async def pause(self, *, retry_after_s: int, reason: str | None) -> Pause:
        """No gateway begins a model call from now on; again changes only what clients are told. Raises StoreFault."""
        now = self._gate.paused
        pause = Pause(
            id=self._new_id(),  # another one each time: every gateway that lives answers anew
            since=now.since if now else self._clock(),
            retry_after_s=retry_after_s,
            reason=reason,
        )
        self._obey(await self._store.set_state({"paused": msgspec.to_builtins(pause)}))
        if now is None:
            self._log.info("paused", reason=reason)
        return pause

    async def resume(self) -> Pause | None:
        """Model calls are taken again; the pause that is over, None when there was none. Raises StoreFault."""
        was = self._gate.paused
        self._obey(await self._store.set_state({"paused": None}))
        if was is not None:
            self._log.info("resumed", paused_s=round(max(0.0, self._clock() - was.since), 3))
        return was

    async def drained(self, wait_s: float) -> Drained:
        """Wait until no gateway has a model call under way, or resumed, or the time is over. Raises StoreFault."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        heard: dict[str, tuple[dict[str, Any], float]] = {}
        while True:
            left_s = began + wait_s - loop.time()
            pause = self._gate.paused
            mine = await self._gate.wait_until_quiet(min(left_s, LOOK_EVERY_S)) if left_s > 0 else self._gate.in_flight
            others = _others(await self._store.state(), self._name)
            obeyed = {name: said for name, said in others.items() if pause is None or said.get("paused") == pause.id}
            silent = [name for name in others if name not in obeyed]
            in_flight = mine + sum(_count(said) for said in obeyed.values())
            done = (not in_flight and not silent) or pause is None or self._gate.draining
            dead = _dead(others, obeyed, heard, loop.time(), began)
            if dead and not done and left_s > 0:
                await self._store.set_state(dict.fromkeys(dead))
                self._log.warning("gateways_silent", gateways=[name.removeprefix(GATEWAY) for name in dead])
                continue
            if done or left_s <= 0:
                return Drained(in_flight=in_flight, gateways=1 + len(others), silent=len(silent))
            if not mine:
                await asyncio.sleep(min(left_s, LOOK_EVERY_S / 5))

    async def name_weights(self, version: int, *, force: bool) -> int | None:
        """Calls that begin from now on are stamped with it; the version before.

        Raises ConflictError `weights_older` when a higher one was named, unless `force`; StoreFault.
        """
        state = await self._store.state()
        before = _highest(state)
        if before is None or version != before:
            if before is not None and version < before and not force:
                raise _older(version, before)
            known = _versions(state)
            gone = [number for number in known if number != version and (force or number < version)]
            changes = {WEIGHTS + str(number): None for number in gone}
            state = await self._store.set_state({**changes, WEIGHTS + str(version): {"at": self._clock()}})
            self._log.info("weights", version=version, before=before)
        self._obey(state)
        if self._weights != version:  # somebody named a higher one at the same time: theirs came after ours
            raise _older(version, self._weights)
        return before

    async def _watch(self) -> None:
        """See what other gateways were told."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
                if self._said is None:
                    await self._say({"paused": self._pause_id, "in_flight": self._gate.in_flight})
                self._faulty = False
            except MoorageError as fault:
                if not self._faulty:  # once, not four times a second
                    self._log.fault(fault)
                self._faulty = True

    async def _look(self) -> None:
        stamp = await self._store.stamp("")
        if stamp != self._stamp:
            self._obey(await self._store.state())
            self._stamp = stamp

    def _obey(self, state: Mapping[str, Any]) -> None:
        pause = _pause_of(state)
        if self._said is not None and self._name not in state:
            self._said = None  # somebody took us for dead
        if pause != self._gate.paused:
            new = pause is not None and pause.id != self._pause_id
            self._gate.pause(pause)
            if new:
                self._report()
        version = _highest(state)
        if version != self._weights:
            self._weights = version
            self._on_weights(version)

    @property
    def _pause_id(self) -> str | None:
        return self._gate.paused.id if self._gate.paused else None

    def _report(self) -> None:
        """Tell under this gateway's name that it has obeyed, and what is under way still."""
        if self._watching is None:
            return  # it starts, and says so itself
        if self._reporting is not None:
            self._reporting.cancel()
        self._reporting = asyncio.get_running_loop().create_task(self._report_until_quiet(self._pause_id))

    async def _report_until_quiet(self, pause_id: str | None) -> None:
        beat = 0
        while self._pause_id == pause_id:
            said = {"paused": pause_id, "in_flight": self._gate.in_flight, "beat": beat}
            beat += 1
            try:
                await self._say(said)
            except MoorageError as fault:
                self._log.fault(fault)
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            if not said["in_flight"]:
                return
            await self._gate.wait_until_quiet(BEAT_S)

    async def _say(self, said: dict[str, Any]) -> None:
        await self._store.set_state({self._name: said})
        self._said = said


def _pause_of(state: Mapping[str, Any]) -> Pause | None:
    """What cannot be read was written by another version of us: better to wait than to let calls through."""
    paused = state.get("paused")
    if not paused:
        return None
    try:
        return msgspec.convert(paused, Pause)
    except msgspec.ValidationError:
        return Pause(id=repr(paused)[:200], since=0.0, reason="by a gateway of another version")


def _others(state: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """What the other gateways say."""
    return {one: said for one, said in state.items() if one.startswith(GATEWAY) and one != name}


def _dead(
    others: Mapping[str, dict[str, Any]],
    obeyed: Mapping[str, dict[str, Any]],
    heard: dict[str, tuple[dict[str, Any], float]],
    now: float,
    began: float,
) -> list[str]:
    """Those that say nothing new, though they have to. `heard`: what each said when it was last new, updated here."""
    dead = []
    for name, said in others.items():
        if name not in heard or heard[name][0] != said:
            heard[name] = (said, now)
        owes = name not in obeyed or _count(said) > 0
        if owes and now - max(began, heard[name][1]) > SILENT_S:
            dead.append(name)
    return dead


def _count(said: Mapping[str, Any]) -> int:
    count = said.get("in_flight")
    return count if type(count) is int else 0


def _versions(state: Mapping[str, Any]) -> list[int]:
    return [int(name.removeprefix(WEIGHTS)) for name in state if re.fullmatch(r"weights\.v[0-9]{1,19}", name)]


def _highest(state: Mapping[str, Any]) -> int | None:
    return max(_versions(state), default=None)


def _older(version: int, named: int | None) -> ConflictError:
    return ConflictError(
        f"the weights are at version {named}, and {version} is older",
        code="weights_older",
        hint='to go back all the same, add "force": true',
        data={"version": named},
    )
