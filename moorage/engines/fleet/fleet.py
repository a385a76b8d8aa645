"""The fleet: several endpoints asked as if they were one.

A request goes to its session's home, else to the least loaded healthy endpoint that serves its model. It is asked
again, at most four times in all and elsewhere if there is an elsewhere, when the connection failed or a 5xx came before
anything of a reply was given on. An upstream's own error is a reply like any other: its status and body are returned.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TypeVar

from moorage.engines.contract import Directed
from moorage.engines.fleet.choice import for_request, for_session, serves
from moorage.engines.fleet.endpoint import DEFAULT_MODELS, Endpoint
from moorage.engines.fleet.farewells import Farewells, waited
from moorage.engines.fleet.faults import model_not_found, nobody_of, unknown_base_url
from moorage.engines.fleet.following import Followed, Following, Why, states_of
from moorage.engines.fleet.homes import Homes
from moorage.engines.fleet.lane import Lane
from moorage.engines.fleet.putting import eval_load, passed_on, put, train_load
from moorage.engines.fleet.retries import ATTEMPTS, is_worth_another, pause_s
from moorage.engines.fleet.slots import Slots
from moorage.engines.fleet.state import EndpointState
from moorage.engines.fleet.watch import Watch
from moorage.engines.fleet.whom import Whom, named
from moorage.engines.wire.answer import Answer, StreamedAnswer
from moorage.engines.wire.faults import Broken, Silent, Unreachable
from moorage.engines.wire.origin import Origin
from moorage.errors import UsageError

__all__ = ["Fleet", "MakeBody"]

MakeBody = Callable[[EndpointState], bytes | Directed]
"""The request's body for the endpoint that was chosen: it may name the model otherwise, and want another path."""


Reply = TypeVar("Reply", Answer, StreamedAnswer)


class Fleet:
    """Made from configuration; `start` it inside the event loop that will use it."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        clock: Callable[[], float],
        silence_s: float,
        environ: Mapping[str, str] = os.environ,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._environ = environ
        self._silence_s = silence_s
        self._sleep = sleep
        self._clock = clock
        self._spared: dict[str, EndpointState] = {}
        """Those whose circuit breaker is open, by URL."""
        self._take([EndpointState(endpoint, environ) for endpoint in _once_each(endpoints)])
        self._homes = Homes()
        self._watch = Watch(clock)
        self._following: Following | None = None
        """The list that somebody else keeps of the endpoints; None: they are the configured ones."""
        self._farewells = Farewells()

    async def start(self) -> None:
        """Probe every endpoint once, for at most five seconds, and from then on each second."""
        await self._watch.start(self._states)

    async def close(self) -> None:
        """Stop watching and close every connection, whatever is in flight."""
        await self._watch.close()
        await self._farewells.close()
        for state in self._states:
            await state.upstream.close()

    def states(self) -> Sequence[EndpointState]:
        """The configured endpoints as they are now, in the order given."""
        return [state for state in self._states if not state.retired]

    def models(self) -> list[str]:
        """Every name that some endpoint serves, in their order, each once."""
        return list(dict.fromkeys(name for state in self.states() for name in (state.served or _configured(state))))

    # Sessions.

    def find(self, base_url: str) -> EndpointState:
        """The endpoint of that URL; a trailing slash and `/v1` do not matter. Raises NotFoundError with the list."""
        try:
            wanted = Origin.parse(base_url).url
        except UsageError:
            wanted = ""
        for state in self._states:
            if state.url == wanted and not state.retired:
                return state
        raise unknown_base_url(base_url, [state.endpoint.base_url for state in self.states()])

    def settle(
        self,
        session: str,
        *,
        model: str | None = None,
        pin: str | None = None,
        fits: Callable[[EndpointState], bool] = lambda _: True,
    ) -> EndpointState:
        """Give a session its home: `pin`'s endpoint for life, else the one that `fits` with the fewest sessions.

        Raises NotFoundError (unknown pin, or a model that nobody serves) and NoUpstream.
        """
        model = named(model)
        following = self._following
        among = self._recording if following is None else following.candidates(model, None)
        fitting = [state for state in among if fits(state)]
        state = self.find(pin) if pin is not None else for_session(fitting, model)
        if state is None or (following is not None and not following.has(state, model)):
            raise self._nobody(model)
        self._homes.settle(session, state, pinned=pin is not None)
        return state

    def home(self, session: str) -> EndpointState | None:
        """Where it lives; None: nowhere yet."""
        home = self._homes.get(session)
        return None if home is None else home.state

    def forget(self, session: str) -> None:
        """A session is over."""
        self._homes.forget(session)

    # Requests.

    async def ask(
        self,
        path: str,
        make_body: MakeBody,
        *,
        model: str | None = None,
        session: str | None = None,
        pin: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        method: str = "POST",
        lane: Lane = "train",
        fits: Callable[[EndpointState], bool] | None = None,
    ) -> tuple[EndpointState, Answer]:
        """One request and its whole reply, whatever its status; `path` begins with `/v1/…` or the like.

        Raises NoUpstream, NotFoundError (model, pin), and Unreachable, Broken or Silent of the last attempt.
        """
        passed = passed_on(headers)

        def once(state: EndpointState) -> Awaitable[Answer]:
            silence_s = state.endpoint.timeout_s or self._silence_s
            target, body = put(state, path, make_body(state))
            return state.upstream.ask(method, target, passed, body, silence_s=silence_s)

        state, slots, answer = await self._attempt(once, Whom(named(model), session, pin, lane, fits))
        slots.give()
        return state, answer

    async def open(
        self,
        path: str,
        make_body: MakeBody,
        *,
        model: str | None = None,
        session: str | None = None,
        pin: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        method: str = "POST",
        lane: Lane = "train",
        fits: Callable[[EndpointState], bool] | None = None,
    ) -> tuple[EndpointState, StreamedAnswer]:
        """The same, as soon as a reply's body begins. It must be read to its end or aborted: until then it counts as
        in flight.

        An error reply is given as it came: `await answer.read()` has its body.
        """
        passed = passed_on(headers)

        async def once(state: EndpointState) -> StreamedAnswer:
            silence_s = state.endpoint.timeout_s or self._silence_s
            target, body = put(state, path, make_body(state))
            answer = await state.upstream.open(method, target, passed, body, silence_s=silence_s)
            # Until a byte of it came, nobody has seen anything of it: it may still be asked elsewhere.
            await answer.begun()
            return answer

        state, slots, answer = await self._attempt(once, Whom(named(model), session, pin, lane, fits))
        answer.call_at_end(slots.give)
        return state, answer

    async def _attempt(
        self,
        once: Callable[[EndpointState], Awaitable[Reply]],
        whom: Whom,
    ) -> tuple[EndpointState, Slots, Reply]:
        """Ask until there is a reply to return; its slot is still held then."""
        failed: list[str] = []
        fault: Unreachable | Broken | None = None
        while True:
            state = self._choose(whom, failed) or await self._choose_anew(whom, failed)
            if state is None:
                raise fault or self._nobody(whom.model, whom.pin)
            slots = state.train if whom.lane == "train" else state.evaluation
            if not slots.try_take() and not await waited(state, slots):
                continue
            began = perf_counter()
            try:
                reply = await once(state)
            except (Unreachable, Broken) as error:
                slots.give()
                self._failed(state, error.code)
                fault, pause = error, pause_s(len(failed))
                self._watch.saw(state, "connect_refused" if isinstance(error, Unreachable) else "broken", error.message)
            except BaseException as error:
                slots.give()
                if isinstance(error, Silent):
                    self._failed(state, error.code)
                    self._watch.saw(state, "broken", error.message)
                raise
            else:
                if self._is_final(state, reply, perf_counter() - began, len(failed) + 1, whom.lane):
                    return state, slots, reply
                pause = pause_s(len(failed), reply.header(b"retry-after"))
                await _drop(reply, slots)
            failed.append(state.url)
            if len(failed) >= ATTEMPTS and fault is not None:
                raise fault
            state.counts.retries += 1
            await self._sleep(pause)

    async def _choose_anew(self, whom: Whom, failed: Sequence[str]) -> EndpointState | None:
        """An endpoint that was out may have come up just now, or have loaded a model that nobody had."""
        if failed:
            return None
        following = self._following
        if following is not None and following.why(whom.model) is not None:
            return None
        await self._watch.look_again(self._states if following is None else following.candidates(whom.model, None))
        state = self._choose(whom, failed)
        if state is not None or whom.model is None or following is not None:
            return state
        await self._watch.refresh_models(self._states)
        return self._choose(whom, failed)

    def _choose(self, whom: Whom, failed: Sequence[str]) -> EndpointState | None:
        """Where the next attempt goes; None: nowhere."""
        model, session, fits = whom.model, whom.session, whom.fits
        following = self._following
        if whom.pin is not None:
            pinned = self.find(whom.pin)
            return pinned if pinned.keeps_old and (following is None or following.has(pinned, model)) else None
        home = None if session is None else self._homes.get(session)
        states: Sequence[EndpointState] = self._states if session is None else self._recording
        if following is not None:
            states = following.candidates(model, None if home is None else home.state)
        if fits is not None:
            states = [state for state in states if fits(state)] or states
        spared = self._still_spared() if self._spared else ()
        lives = None if home is None else home.state
        if lives is not None and not failed and lives in states and lives.takes_new and lives.url not in spared:
            return lives  # nearly all
        state = for_request(
            states,
            model,
            home=None if home is None else home.state.url,
            pinned=home is not None and home.pinned,
            failed=failed,
            spared=spared,
            load=eval_load if whom.lane == "eval" else train_load,
        )
        if session is not None and state is not None and (home is None or home.state is not state):
            if home is None and not failed:
                state = for_session([one for one in states if one.url not in spared], model) or state
            self._homes.settle(session, state, pinned=False)
        return state

    def _is_final(
        self, state: EndpointState, reply: Answer | StreamedAnswer, took_s: float, attempts: int, lane: Lane
    ) -> bool:
        """Note that an attempt was answered; whether the caller gets this answer."""
        state.saw("answered")
        state.counts.answered(reply.status, took_s, streamed=isinstance(reply, StreamedAnswer))
        if reply.status < 500:
            state.breaker.succeeded()
            state.statistics.answered(took_s, attempts, lane)
            return True
        if not is_worth_another(reply.status):
            return True
        self._failed(state)
        return attempts >= ATTEMPTS

    def _failed(self, state: EndpointState, code: str | None = None) -> None:
        """An attempt failed: by a fault of that code, or (None) by a 5xx that may pass."""
        if code is not None:
            state.counts.failed(code)
        if state.breaker.failed(self._clock()):
            self._spared[state.url] = state

    def _still_spared(self) -> Mapping[str, EndpointState]:
        """Those whose pause is not over yet."""
        now_s = self._clock()
        self._spared = {url: state for url, state in self._spared.items() if not state.breaker.try_again(now_s)}
        return self._spared

    def _take(self, states: list[EndpointState]) -> None:
        """These are the endpoints from now on."""
        self._states = states
        self._spared = {url: state for url, state in self._spared.items() if state in states}
        recording = [state for state in states if state.dialect.gives_ids]
        self._recording = recording or states
        """Where calls of sessions may go: to engines that give token ids, where there are any."""

    def _nobody(self, model: str | None, pin: str | None = None) -> Exception:
        if self._following is not None:
            return self._following.why(model) or nobody_of(self._following.candidates(model, None))
        healthy = [state for state in self._states if state.takes_new]
        if model is not None and pin is None and healthy and not any(serves(state, model) for state in healthy):
            return model_not_found(model, self.models())
        return nobody_of(self._states)

    # Changes.

    async def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Other endpoints from now on; none given, nothing changes.

        Those that stay keep their state. The others take nothing new, and sessions that live there may end there.
        """
        wanted_endpoints = _once_each(endpoints)
        if not wanted_endpoints:
            return
        known = {state.url: state for state in self._states}
        wanted = [
            known.pop(endpoint.url)
            if endpoint.url in known and known[endpoint.url].endpoint == endpoint
            else EndpointState(endpoint, self._environ)
            for endpoint in wanted_endpoints
        ]
        for state in wanted:
            state.retired = False
        kept = set(wanted)
        leaving = [state for state in self._states if state not in kept]
        for state in leaving:
            state.retired = True
        over = [state for state in leaving if not state.sessions and not state.in_flight]
        self._take([*wanted, *(state for state in leaving if state not in over)])
        for state in over:
            await self._watch.leave(state)
            await state.upstream.close()
        await self._watch.start(wanted)

    def follow(self, followed: Iterable[Followed], why: Why, default: str | None = None) -> None:
        """Exactly these from now on, under these names; there may be none. Call it inside the event loop.

        Those that stay keep their state. The others take nothing more: what is under way there ends in peace, and
        sessions that live there go elsewhere. `default`: what a request without a model means; None: it must name one.
        """
        states = states_of(followed, self._states, self._environ)
        leaving = set(self._states).difference(states)
        self._take(states)
        self._following = Following(states, why, default)
        self._watch.begin(states)
        for state in leaving:
            self._watch.drop(state)
            self._farewells.begin(state)

    async def drain(self, base_url: str | None = None, *, timeout_s: float) -> bool:
        """Send nothing more to an endpoint (None: to any) and wait for what is in flight; False: some is left.

        Sessions that live there go elsewhere with their next request; pinned ones are refused. Raises NotFoundError.
        """
        states = list(self._states) if base_url is None else [self.find(base_url)]
        for state in states:
            state.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                for state in states:
                    await state.train.wait_until_quiet()
                    await state.evaluation.wait_until_quiet()
        except TimeoutError:
            return False
        return True


async def _drop(reply: Answer | StreamedAnswer, slots: Slots) -> None:
    """Give up a reply that will be asked for again."""
    if isinstance(reply, StreamedAnswer):
        reply.abort()
    slots.give()


def _once_each(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    return list({endpoint.url: endpoint for endpoint in endpoints}.values())


def _configured(state: EndpointState) -> tuple[str, ...]:
    name = state.endpoint.model_name
    return () if name is None or name in DEFAULT_MODELS else (name,)
