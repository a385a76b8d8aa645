"""One run of the parser program: lines in, lines out, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Child", "Gone", "Late"]

END_S = 5.0
LINE_BYTES = 256 * 1024 * 1024


class Gone(Exception):
    """The process cannot answer. `child`: the one that died; None: none could be started. `begun`: it had the text."""

    def __init__(self, message: str, child: Child | None, *, begun: bool = True) -> None:
        super().__init__(message)
        self.child = child
        self.begun = begun


class Late(Exception):
    """One text took too long."""

    def __init__(self, message: str, child: Child) -> None:
        super().__init__(message)
        self.child = child


class Child:
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
    async def spawn(cls, python: Path | None, program: Path, folder: Path, environ: Mapping[str, str]) -> Child:
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
        """Raises Gone when it dies or is not ready in time."""
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), within_s)
        except TimeoutError:
            raise Gone(f"vLLM's parsers were not ready within {within_s:g} s", self) from None

    async def ask(self, ask: dict[str, Any], within_s: float) -> dict[str, Any]:
        """Raises Gone when the process dies meanwhile, Late when this text takes too long."""
        async with self._turn:  # the time that a text takes does not count against those behind it
            if not self.alive or self._process.stdin is None:
                raise Gone(self._death(), self, begun=False)
            number = next(self._numbers)
            answer = self._waiting[number] = asyncio.get_running_loop().create_future()
            try:
                self._process.stdin.write(json.dumps({"id": number, **ask}).encode() + b"\n")
                await self._process.stdin.drain()
                return await asyncio.wait_for(answer, within_s)
            except TimeoutError:
                raise Late(f"the parser took longer than {within_s:g} s", self) from None
            except ConnectionError:
                raise Gone(self._death(), self) from None
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
                self._take(json.loads(line))
        except (ValueError, TypeError):
            self._said.append("it said what is no reply")
            self.kill()
        finally:
            await self._end()
            await asyncio.gather(self._tasks[1], return_exceptions=True)
            for waiting in [self._ready, *self._waiting.values()]:
                if not waiting.done():
                    waiting.set_exception(Gone(self._death(), self))
            self._ready.exception() if not self._ready.cancelled() else None

    async def _end(self) -> None:
        """Wait for it; what closed its output and goes on answers nothing any more."""
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), END_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def _take(self, reply: Any) -> None:
        if not isinstance(reply, dict):
            raise TypeError("no object")
        waiting = self._waiting.get(reply["id"]) if isinstance(reply.get("id"), int) else None
        if reply.get("ready") and not self._ready.done():
            self._ready.set_result(reply)
        elif waiting is not None and not waiting.done():
            waiting.set_result(reply)

    async def _read_talk(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._said.append(line.decode(errors="replace").rstrip())

    def _death(self) -> str:
        last = next((line for line in reversed(self._said) if line.strip()), "")
        return f"the parser process ended with status {self._process.returncode}: {last}"
