"""That an engine has the tokenizer and the template of this gateway, asked of it once, before ids are sent to it.

The engine's own `POST /tokenize` is given a few fixed conversations. An engine that has no such route is believed, and
the log says so once. One that makes other ids of them gets no exact session. It is asked again after it was out, for it
may have come back with another model.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import msgspec

from moorage.errors import MoorageError, TryAgainError
from moorage.gateway.http.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from moorage.capture.call import Mode
    from moorage.engines.fleet.fleet import Fleet
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.rendering.checking.proving import Difference, Question
    from moorage.engines.rendering.plan import Renderer
    from moorage.gateway.log import Log

__all__ = ["TokenizerProof", "mode_of_call", "settled"]

PATH = "/tokenize"
JSON = ((b"content-type", b"application/json"),)
SILENCE_S = 5.0
"""How long an engine has for each answer."""
AGAIN_S = 10.0
"""An engine that could not answer is believed for so long before it is asked again."""

NO_ROUTE = frozenset((401, 403, 404, 405, 501))
TAKES_NO_MESSAGES = frozenset((400, 422))

Shown = Literal["equal", "differs", "believed"]


class Verdict(msgspec.Struct, frozen=True):
    """What was found of an endpoint."""

    shown: Shown
    difference: Difference | None
    renderer: Renderer
    """The one that it was found with."""
    turns: int
    """How often the endpoint had come back then."""
    until_s: float | None = None
    """When it is asked again, on the event loop's clock; None: when it comes back from being out."""


class TokenizerProof:
    """One gateway's; it asks each endpoint once and remembers. `clock`: seconds since the epoch."""

    def __init__(self, *, clock: Callable[[], float], log: Log, again_s: float = AGAIN_S) -> None:
        self._clock, self._log, self._again_s = clock, log, again_s
        self.believes = True
        """An engine that cannot show it is believed where nobody asked for exact; not in front of many models."""
        self._verdicts: WeakKeyDictionary[EndpointState, Verdict] = WeakKeyDictionary()
        self._asking: WeakKeyDictionary[EndpointState, asyncio.Task[None]] = WeakKeyDictionary()

    def known(self, state: EndpointState, renderer: Renderer) -> Verdict | None:
        """What is known of the endpoint as it is now; None: nothing. A look-up and three comparisons."""
        verdict = self._verdicts.get(state)
        if verdict is None or verdict.renderer is not renderer or verdict.turns != state.counts.turns["up"]:
            return None
        if verdict.until_s is not None and verdict.until_s <= asyncio.get_running_loop().time():
            return None
        return verdict

    async def difference(self, state: EndpointState, renderer: Renderer) -> Difference | None:
        """Ask, if nothing is known yet. None: it is equal, or nothing speaks against it."""
        verdict = self.known(state, renderer)
        if verdict is None:
            await self._once(state, renderer)
            verdict = self.known(state, renderer)
        return None if verdict is None else verdict.difference

    async def mode(self, state: EndpointState, renderer: Renderer | None, *, asked: Mode | None) -> Mode:
        """The mode of a session, or of a call, that goes to `state`.

        `asked`: by the client or by `--mode`; None: by nobody, then it is passthrough where ids would be wrong. Raises
        a Fault of 400 `tokenizer_differs` where exact was asked for.
        """
        if renderer is None or asked == "passthrough":
            return asked or "passthrough"
        difference = await self.difference(state, renderer)
        if difference is None:
            return "exact" if self.believes or asked == "exact" or self._is_shown(state, renderer) else "passthrough"
        if asked == "exact":
            raise _refusal(state, difference)
        return "passthrough"

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_shown(self, state: EndpointState, renderer: Renderer) -> bool:
        verdict = self.known(state, renderer)
        return verdict is not None and verdict.shown == "equal"

    async def _once(self, state: EndpointState, renderer: Renderer) -> None:
        """However many wait, one asks; a client that goes away breaks off nobody else's wait."""
        task = self._asking.get(state)
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(self._ask(state, renderer))
            self._asking[state] = task
        await asyncio.shield(task)

    async def _ask(self, state: EndpointState, renderer: Renderer) -> None:
        turns, before = state.counts.turns["up"], self._verdicts.get(state)
        until_s, difference, why = None, None, ""
        try:
            shown, difference, why = await _compared(state, renderer, datetime.fromtimestamp(self._clock()))
        except MoorageError as fault:
            shown, why = "believed", fault.message
            until_s = asyncio.get_running_loop().time() + self._again_s
        self._verdicts[state] = Verdict(shown, difference, renderer, turns, until_s)
        if before is None or before.shown != shown or before.difference != difference:
            self._tell(state, shown, difference, why)

    def _tell(self, state: EndpointState, shown: Shown, difference: Difference | None, why: str) -> None:
        upstream = state.endpoint.base_url
        if difference is not None:
            hint = "give the tokenizer and the chat template that the engine has, or use --mode passthrough"
            told = msgspec.structs.asdict(difference)
            self._log.warning("tokenizer_differs", upstream=upstream, **told, hint=hint)
        elif shown == "believed":
            self._log.info("tokenizer_unproven", upstream=upstream, why=why)
        else:
            self._log.info("tokenizer_proven", upstream=upstream)


async def settled(
    fleet: Fleet,
    proof: TokenizerProof,
    renderer: Renderer | None,
    uid: str,
    *,
    model: str | None,
    pin: str | None,
    fits: Callable[[EndpointState], bool],
    asked: Mode | None,
) -> tuple[EndpointState, Mode]:
    """A new session's home and mode. Where exact is asked for, another endpoint is tried than one that differs.

    Raises as `Fleet.settle`, and a Fault of 400 `tokenizer_differs`; then the session has no home.
    """
    differing: set[EndpointState] = set()
    while True:
        state = fleet.settle(uid, model=model, pin=pin, fits=lambda one: one not in differing and fits(one))
        try:
            return state, await proof.mode(state, renderer, asked=asked)
        except BaseException as fault:
            fleet.forget(uid)
            differing.add(state)
            others = [one for one in fleet.states() if one.takes_new and one not in differing and fits(one)]
            if not isinstance(fault, Fault) or pin is not None or not others:
                raise


async def mode_of_call(
    fleet: Fleet,
    proof: TokenizerProof,
    renderer: Renderer,
    uid: str,
    *,
    model: str | None,
    pin: str | None,
    asked: Mode | None,
) -> Mode:
    """The mode of a call whose session would have it exact: its home may be another than when it was created.

    Costs a few look-ups where the home is proven. Raises a Fault of 400 `tokenizer_differs`; where nobody is there to
    ask, the call itself finds that out.
    """
    home = fleet.home(uid)
    if pin is not None:
        home = fleet.find(pin)
    elif home is None or not home.keeps_old:
        try:
            home = fleet.settle(uid, model=model)
        except MoorageError:
            return "exact"
    return await proof.mode(home, renderer, asked=asked)


class _Ids(msgspec.Struct):
    tokens: list[int]


async def _compared(state: EndpointState, renderer: Renderer, now: datetime) -> tuple[Shown, Difference | None, str]:
    """(what was shown, the difference, why it is only believed). Raises MoorageError when it does not answer."""
    from moorage.engines.rendering.checking.proving import questions

    as_text, proven = False, False
    for question in questions(renderer, now):
        status, ids = await _ids(state, question, as_text=as_text)
        if status in TAKES_NO_MESSAGES and not proven and not as_text and question.text is not None:
            as_text = True  # an engine that takes no messages may take a text
            status, ids = await _ids(state, question, as_text=True)
        if ids is None and question.text is not None and (not proven or status in NO_ROUTE):
            return "believed", None, f"POST {PATH} answers {status}"
        if ids is None and as_text:
            continue
        difference = question.difference(renderer, ids)
        if difference is not None:
            return "differs", difference, ""
        proven = True
    if as_text or not proven:
        return "believed", None, f"POST {PATH} takes texts and no messages: the template is not proven"
    return "equal", None, ""


async def _ids(state: EndpointState, question: Question, *, as_text: bool) -> tuple[int, list[int] | None]:
    """The status, and the ids; None: it gives none. Raises MoorageError for no answer and for a 5xx."""
    body: dict[str, Any] = {"model": state.model_name} if state.model_name else {}
    if as_text:
        body |= {"prompt": question.text or "", "add_special_tokens": False}
    else:
        body |= {"messages": question.messages, "add_generation_prompt": True}
        body |= {"tools": question.tools} if question.tools else {}
    answered = await state.upstream.ask("POST", PATH, JSON, msgspec.json.encode(body), silence_s=SILENCE_S)
    if answered.status >= 500 and answered.status not in NO_ROUTE:
        raise TryAgainError(f"POST {PATH} answers {answered.status}")
    if answered.status != 200:
        return answered.status, None
    try:
        return 200, msgspec.json.decode(answered.body, type=_Ids).tokens
    except msgspec.DecodeError:
        return 501, None


def _refusal(state: EndpointState, found: Difference) -> Fault:
    message = (
        f"mode exact: {state.endpoint.base_url} makes other ids of {found.conversation} than this gateway's tokenizer, "
        f"from token {found.token} on: {found.our_text!r} here, {found.their_text!r} there; "
        "start with the --tokenizer-path of the model that is served, or use passthrough"
    )
    return Fault(400, message, code="tokenizer_differs", param="mode")
