"""The parser process seen from the gateway: started when first needed, restarted when it dies, ended with it.

A parser never fails a model call: what could not be parsed comes back as content, with what went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from moorage.engines.parsing.child import Child, Gone, Late
from moorage.engines.parsing.feeding import Feeding, ParsedStream
from moorage.engines.parsing.parsed import Asked, Parsed
from moorage.engines.parsing.told import Hidden

__all__ = ["Asked", "Parsed", "ParserProcess"]

PROGRAM = Path(__file__).with_name("program.py")
PARSE_S = 30.0
"""How long one text may take; some parsers' patterns take for ever on some texts."""

START_S = 300.0
"""How long the start may take: importing vLLM takes 15 s, and much more on a busy machine."""

RETRY_START_S = 30.0
"""After a failed start, the next one is tried no sooner."""

ATTEMPTS = 2
"""A process that dies takes texts with it that were not at fault."""

MOST_DEATHS, DEATHS_WITHIN_S = 6, 120.0
"""A process that dies more often is left alone until the time is over: each start costs seconds of a core."""

MOST_LOOKING = 32
"""Sessions whose parsers are looked at when the process is there; the others' calls find out."""

MOST_CONSTRAINTS = 128
"""Remembered; an agent has the same tools in every request."""

PASSED_ON = ("PATH", "HOME", "LANG", "LC_", "TMPDIR", "TEMP", "XDG_", "VLLM_", "HF_HOME", "LD_", "CUDA_", "OMP_")
"""Variables that the program gets; keys of services are none of its business."""

_log = logging.getLogger(__name__)


class ParserProcess:
    """One process for one tokenizer. Texts are parsed one after the other, in the order they came."""

    def __init__(
        self,
        python: Path | None,
        tokenizer_folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        parse_s: float = PARSE_S,
        start_s: float = START_S,
        clock: Callable[[], float] = time.monotonic,
        program: Path = PROGRAM,
    ) -> None:
        """`python`: of an environment with vLLM; None: parsing is off."""
        self.hidden: Hidden | None = None
        """The tokenizer's special tokens; None until somebody needed them."""
        self._python, self._folder, self._program = python, tokenizer_folder, program
        self._environ = _passed_on(os.environ if environ is None else environ)
        self._parse_s, self._start_s, self._clock = parse_s, start_s, clock
        self._child: Child | None = None
        self._starting: asyncio.Task[Child] | None = None
        self._failed: tuple[float, str] | None = None
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._closed = False
        self._warned = False
        self._checked: set[tuple[str | None, str | None]] = set()
        self._faults: dict[tuple[str, str], str] = {}
        self._constraints: OrderedDict[bytes, dict[str, Any] | None] = OrderedDict()
        self._looking: set[asyncio.Task[None]] = set()
        self._feeding = Feeding(self._ask_now)

    @property
    def enabled(self) -> bool:
        """Whether there is an engine's Python to parse with."""
        return self._python is not None

    @property
    def is_ready(self) -> bool:
        """Whether a text would be parsed at once."""
        return self._child is not None and self._child.alive and self._child.is_ready

    def fault(self, kind: Literal["tool", "reasoning"], name: str | None) -> str | None:
        """Why a parser cannot be used with this tokenizer; None: it can, or that is not known yet."""
        return None if name is None else self._faults.get((kind, name))

    async def parse(self, text: str, *, asked: Asked, ids: Sequence[int] | None = None) -> Parsed:
        """Split one reply, with its special tokens in it. `ids`: what was sampled, for parsers that go by them.

        Without parsers, and without tools for the tool parser alone, nothing is to do and nothing is started.
        """
        if not asked.wants_parser:
            return Parsed(content=text)
        if not self.enabled:
            self._warn_once()
            return Parsed(content=text, error="parsing is off: there is no vLLM environment")
        reply = await self._ask({"text": text, "ids": None if ids is None else list(ids), **asked.as_line()})
        self._learn(asked, reply)
        return _parsed(text, reply)

    async def check(self, tool_parser: str | None, reasoning_parser: str | None) -> None:
        """Learn whether the parsers can be made for this tokenizer; then `fault` says so. Starts the process."""
        asked = Asked(tool_parser=tool_parser, reasoning_parser=reasoning_parser)
        if self.enabled and (tool_parser, reasoning_parser) not in self._checked:
            reply = await self._ask({"check": asked.as_line()})
            self._learn(asked, reply)
            if "faults" in reply:
                self._checked.add((tool_parser, reasoning_parser))

    def check_later(self, tool_parser: str | None, reasoning_parser: str | None) -> None:
        """The same without waiting: the process may have to be started first."""
        if len(self._looking) < MOST_LOOKING and not self._closed:
            task = asyncio.get_running_loop().create_task(self.check(tool_parser, reasoning_parser))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def constrain(self, asked: Asked, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """vLLM's `structured_outputs` that make the engine keep to `asked.tool_choice`, as its chat route would.

        `given`: the client's own `response_format` and `structured_outputs`. None: nothing is to be kept to. Raises
        ValueError where it cannot be said; the message is the parser's.
        """
        if not self.enabled or not asked.wants_parser:
            raise ValueError("no parser")
        line = {**asked.as_line(), **given}
        key = msgspec.json.encode(line)
        if key in self._constraints:
            self._constraints.move_to_end(key)
            return self._constraints[key]
        reply = await self._ask({"constrain": line})
        self._learn(asked, reply)
        if "structured_outputs" not in reply:
            raise ValueError(str(reply.get("error") or reply.get("faults")))
        self._constraints[key] = reply["structured_outputs"]
        if len(self._constraints) > MOST_CONSTRAINTS:
            self._constraints.popitem(last=False)
        return self._constraints[key]

    def stream(self, asked: Asked, prompt: Sequence[int] = ()) -> ParsedStream:
        """A reply that is sampled still. `prompt`: its ids, for reasoning parsers: thoughts may begin in it."""
        needed = list(prompt) if asked.reasoning_parser is not None else []
        return self._feeding.open({**asked.as_line(), "prompt": needed})

    async def start(self) -> bool:
        """Start it now rather than at first need; whether it runs."""
        if not self.enabled or self._closed:
            return False
        with contextlib.suppress(Gone, OSError):
            await self._running()
            return True
        return False

    async def close(self) -> None:
        """End the process; whatever is still being parsed comes back unparsed."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*self._looking, return_exceptions=True)
        await self._feeding.close()
        if self._child is not None:
            await self._child.close()

    async def _ask(self, ask: dict[str, Any]) -> dict[str, Any]:
        """The program's reply, or `{"error"}`."""
        killed = 0
        while True:
            try:
                child = await self._running()
                return await child.ask(ask, self._parse_s)
            except Late as late:
                self._drop(late.child)
                return {"error": str(late)}
            except OSError as fault:
                return {"error": f"the parser process cannot be started: {fault}"}
            except Gone as gone:
                # One that died before it was given this text did not die of it.
                killed += gone.begun
                if gone.child is not None:
                    self._drop(gone.child)
                if gone.child is None or killed == ATTEMPTS:
                    return {"error": str(gone)}

    async def _ask_now(self, ask: dict[str, Any], within_s: float) -> dict[str, Any] | None:
        """The reply of a process that is ready; None: there is none. Raises Gone and Late."""
        child = self._child
        if self._closed or child is None or not self.is_ready:
            return None
        try:
            return await child.ask(ask, within_s)
        except (Gone, Late):
            self._drop(child)
            raise

    async def _running(self) -> Child:
        if self._closed:
            raise Gone("the parser process was closed", None)
        if self._child is not None and self.is_ready:
            return self._child
        if self._starting is None or self._starting.done():
            # A task of its own: the start goes on when the request that needed it is cancelled.
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_look_at_fault)
        return await asyncio.shield(self._starting)

    async def _start(self) -> Child:
        if self._failed is not None and self._clock() < self._failed[0] + RETRY_START_S:
            raise Gone(self._failed[1], None)
        if len(self._deaths) == MOST_DEATHS and self._clock() < self._deaths[0] + DEATHS_WITHIN_S:
            raise Gone("the parser process dies again and again; it is not started for now", None)
        child = self._child = await Child.spawn(self._python, self._program, self._folder, self._environ)
        try:
            if self._closed:
                raise Gone("the parser process was closed", None)
            await child.ready(self._start_s)
        except Gone as gone:
            child.kill()
            self._failed = (self._clock(), str(gone))
            if not self._closed:
                _log.warning("parsing is off for now: %s", gone)
            raise Gone(str(gone), None) from None
        self._failed = None
        return child

    def _drop(self, child: Child) -> None:
        child.kill()
        if self._child is child:
            self._child = None
            self._deaths.append(self._clock())

    def _learn(self, asked: Asked, reply: dict[str, Any]) -> None:
        faults = reply.get("faults") or {}
        for kind, name in (("tool", asked.tool_parser), ("reasoning", asked.reasoning_parser)):
            if kind in faults and name is not None and (kind, name) not in self._faults:
                self._faults[kind, name] = str(faults[kind])
                _log.warning("%s_parser %s cannot be used with this tokenizer: %s", kind, name, faults[kind])

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "tool calls and reasoning stay in the content: no vLLM environment was found to parse them with; "
                "`moor engine install vllm` makes one, MOORAGE_VLLM_PYTHON names another"
            )


def _look_at_fault(task: asyncio.Task[Child]) -> None:
    """Whoever waits is told; when nobody does any more, the fault is not to be complained of."""
    if not task.cancelled():
        task.exception()


def _parsed(text: str, reply: dict[str, Any]) -> Parsed:
    error = reply.get("error")
    if error is not None:
        return Parsed(content=text, error=str(error))
    return Parsed(
        content=reply.get("content"), reasoning=reply.get("reasoning"), tool_calls=reply.get("tool_calls") or []
    )


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    passed = {name: value for name, value in environ.items() if name.startswith(PASSED_ON)}
    # The folder is on this machine: nothing is looked up elsewhere, and nobody is told.
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    # Parsing needs no device; without this each import would look for one.
    return {**passed, **quiet, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
