"""The parser process seen from the gateway: started when first needed, restarted when it dies, ended with it.

A parser never fails a model call: what could not be parsed comes back as content, with what went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Parsed", "ParserProcess"]

PROGRAM = Path(__file__).with_name("program.py")
PARSE_S = 30.0
"""How long one text may take; some parsers' patterns take for ever on some texts."""

START_S = 300.0
"""How long the start may take: importing vLLM takes 15 s, and much more on a busy machine."""

RETRY_START_S = 30.0
"""After a failed start, the next one is tried no sooner."""

ATTEMPTS = 2
"""A process that dies takes texts with it that were not at fault."""

LINE_BYTES = 256 * 1024 * 1024
PASSED_ON = ("PATH", "HOME", "LANG", "LC_", "TMPDIR", "TEMP", "XDG_", "VLLM_", "HF_HOME", "LD_", "CUDA_", "OMP_")
"""Variables that the program gets; keys of services are none of its business."""

_log = logging.getLogger(__name__)


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What a model wrote, split."""

    content: str | None
    """None: nothing but calls or reasoning."""
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] = []
    """As OpenAI writes them, arguments as a JSON string."""
    error: str | None = None
    """Why nothing was parsed: then `content` is the whole text."""


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
        self._python, self._folder, self._program = python, tokenizer_folder, program
        self._environ = _passed_on(os.environ if environ is None else environ)
        self._parse_s, self._start_s, self._clock = parse_s, start_s, clock
        self._child: _Child | None = None
        self._starting: asyncio.Task[_Child] | None = None
        self._failed: tuple[float, str] | None = None
        self._closed = False
        self._warned = False

    @property
    def enabled(self) -> bool:
        """Whether there is an engine's Python to parse with."""
        return self._python is not None

    async def parse(
        self,
        text: str,
        *,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        tools: Sequence[Any] | None = None,
        ids: Sequence[int] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Parsed:
        """Split one reply. `ids`: what was sampled, for parsers that look for special tokens.

        Without parsers, and without tools for the tool parser alone, nothing is to do and nothing is started.
        """
        if reasoning_parser is None and (tool_parser is None or not tools):
            return Parsed(content=text)
        if not self.enabled:
            self._warn_once()
            return Parsed(content=text, error="parsing is off: there is no vLLM environment")
        ask = {
            "text": text,
            "ids": None if ids is None else list(ids),
            "tool_parser": tool_parser,
            "reasoning_parser": reasoning_parser,
            "tools": list(tools or ()),
            "template_kwargs": dict(template_kwargs or {}),
        }
        return await self._ask(text, ask)

    async def start(self) -> bool:
        """Start it now rather than at first need; whether it runs."""
        if not self.enabled or self._closed:
            return False
        with contextlib.suppress(_Gone, OSError):
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
        if self._child is not None:
            await self._child.close()

    async def _ask(self, text: str, ask: dict[str, Any]) -> Parsed:
        killed = 0
        while True:
            try:
                child = await self._running()
                return _parsed(text, await child.ask(ask, self._parse_s))
            except _Late as late:
                self._drop(late.child)
                return Parsed(content=text, error=str(late))
            except OSError as fault:
                return Parsed(content=text, error=f"the parser process cannot be started: {fault}")
            except _Gone as gone:
                # One that died before it was given this text did not die of it.
                killed += gone.begun
                if gone.child is None or killed == ATTEMPTS:
                    return Parsed(content=text, error=str(gone))
                self._drop(gone.child)

    async def _running(self) -> _Child:
        if self._closed:
            raise _Gone("the parser process was closed", None)
        if self._child is not None and self._child.alive and self._child.is_ready:
            return self._child
        if self._starting is None or self._starting.done():
            # A task of its own: the start goes on when the request that needed it is cancelled.
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_look_at_fault)
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Child:
        if self._failed is not None and self._clock() < self._failed[0] + RETRY_START_S:
            raise _Gone(self._failed[1], None)
        child = self._child = await _Child.spawn(self._python, self._program, self._folder, self._environ)
        try:
            if self._closed:
                raise _Gone("the parser process was closed", None)
            await child.ready(self._start_s)
        except _Gone as gone:
            child.kill()
            self._failed = (self._clock(), str(gone))
            if not self._closed:
                _log.warning("parsing is off for now: %s", gone)
            raise _Gone(str(gone), None) from None
        self._failed = None
        return child

    def _drop(self, child: _Child) -> None:
        child.kill()
        if self._child is child:
            self._child = None

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "tool calls and reasoning stay in the content: no vLLM environment was found to parse them with; "
                "`moor engine install vllm` makes one, MOORAGE_VLLM_PYTHON names another"
            )


class _Gone(Exception):
    """The process cannot answer. `child`: the one that died; None: none could be started. `begun`: it had the text."""

    def __init__(self, message: str, child: _Child | None, *, begun: bool = True) -> None:
        super().__init__(message)
        self.child = child
        self.begun = begun


class _Late(Exception):
    """One text took too long."""

    def __init__(self, message: str, child: _Child) -> None:
        super().__init__(message)
        self.child = child


class _Child:
    """One run of the program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._said: deque[str] = deque(maxlen=20)
        self._tasks = [asyncio.create_task(self._read_replies()), asyncio.create_task(self._read_talk())]
        self._turn = asyncio.Lock()

    @classmethod
    async def spawn(cls, python: Path | None, program: Path, folder: Path, environ: Mapping[str, str]) -> _Child:
        process = await asyncio.create_subprocess_exec(
            str(python),
            "-I",  # the program's folder is part of this package, and not to be imported from
            str(program),
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            env=dict(environ),
            start_new_session=True,  # a Ctrl-C of the terminal is for the gateway to act on
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._tasks[0].done()

    @property
    def is_ready(self) -> bool:
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    async def ready(self, within_s: float) -> None:
        """Raises _Gone when it dies or is not ready in time."""
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), within_s)
        except TimeoutError:
            raise _Gone(f"vLLM's parsers were not ready within {within_s:g} s", self) from None

    async def ask(self, ask: dict[str, Any], within_s: float) -> dict[str, Any]:
        """Raises _Gone when the process dies meanwhile, _Late when this text takes too long."""
        async with self._turn:  # the time that a text takes does not count against those behind it
            if not self.alive or self._process.stdin is None:
                raise _Gone(self._death(), self, begun=False)
            number = next(self._numbers)
            answer = self._waiting[number] = asyncio.get_running_loop().create_future()
            try:
                self._process.stdin.write(json.dumps({"id": number, **ask}).encode() + b"\n")
                await self._process.stdin.drain()
                return await asyncio.wait_for(answer, within_s)
            except TimeoutError:
                raise _Late(f"the parser took longer than {within_s:g} s", self) from None
            except ConnectionError:
                raise _Gone(self._death(), self) from None
            finally:
                self._waiting.pop(number, None)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        self.kill()
        await self._process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_replies(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                reply = json.loads(line)
                waiting = self._waiting.get(reply.get("id"))
                if reply.get("ready") and not self._ready.done():
                    self._ready.set_result(reply)
                elif waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        finally:
            await self._process.wait()
            await asyncio.gather(self._tasks[1], return_exceptions=True)
            for waiting in [self._ready, *self._waiting.values()]:
                if not waiting.done():
                    waiting.set_exception(_Gone(self._death(), self))
            self._ready.exception() if not self._ready.cancelled() else None

    async def _read_talk(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._said.append(line.decode(errors="replace").rstrip())

    def _death(self) -> str:
        last = next((line for line in reversed(self._said) if line.strip()), "")
        return f"the parser process ended with status {self._process.returncode}: {last}"


def _look_at_fault(task: asyncio.Task[_Child]) -> None:
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
