"""One worker process seen from the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from moorage import errors
from moorage.errors import FailedError, MoorageError, TryAgainError
from moorage.rewards.configured import Configured
from moorage.rewards.sample import Sample

__all__ = ["Child", "Ready", "Reply", "command", "fault_said", "kept_environ"]

START_S = 120.0
"""Loading a function may import much, on a busy machine."""
LINE_BYTES = 1 << 20
TAIL_BYTES = 4096
LAST_WORDS_S = 1.0
"""What it wrote last is still in its pipes when it has ended."""

HARMLESS = ("PATH", "HOME", "USER", "LANG", "LC_", "TZ", "TMPDIR", "TEMP", "XDG_", "PYTHON", "LD_", "SSL_CERT_")
"""Beginnings of variables that every process gets; what else it needs is named by its configuration."""

START = "import sys; sys.path.append({root!r}); from moorage.rewards.worker.program import main; sys.exit(main())"


class Ready(msgspec.Struct):
    """What a process says first."""

    ready: bool = False
    version: str | None = None
    lanes: int = 1
    fault: dict[str, Any] | None = None


class Reply(msgspec.Struct):
    """What a process says of one sample."""

    id: int | None = None
    reward: float | None = None
    info: dict[str, Any] = {}
    fault: dict[str, Any] | None = None


class Child:
    """A process that was started. `lanes`: how many samples it takes at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._tail = b""
        self._tasks: list[asyncio.Task[None]] = []
        self.lanes = 1
        self.version: str | None = None
        self.retired = False
        """It gets no more samples, and is ended when it has none."""
        self.promised = 0
        """Samples that it has, or is about to get."""

    @classmethod
    async def start(cls, what: Configured, environ: Mapping[str, str]) -> Child:
        """One that is ready. Raises what the function said, FailedError when it died, TryAgainError when it is late."""
        process = await asyncio.create_subprocess_exec(
            *command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            env=kept_environ(environ, what.env),
            start_new_session=True,  # a Ctrl-C of the terminal is for the gateway; and all it starts ends with it
        )
        child = cls(process)
        child._tasks.append(asyncio.create_task(child._read_talk()))
        try:
            await asyncio.wait_for(child._hear_ready(what), START_S)
        except BaseException as fault:
            child.kill()
            await child.gone()
            if isinstance(fault, TimeoutError):
                message = f"the reward {what.name!r} was not ready within {START_S:g} s"
                raise TryAgainError(message, code="reward_not_started") from None
            raise
        child._tasks.append(asyncio.create_task(child._read_replies()))
        child._tasks.append(asyncio.create_task(child._watch()))
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not any(task.done() for task in self._tasks[1:])

    @property
    def said_last(self) -> str:
        """The last line that it wrote to stderr."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return lines[-1][-500:] if lines else ""

    async def judge(self, sample: Sample, within_s: float) -> Reply:
        """Raises TimeoutError, and FailedError `reward_crashed` when the process dies meanwhile."""
        number = next(self._numbers)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(within_s):
                if not self.alive:
                    raise self._death()
                assert self._process.stdin is not None
                self._process.stdin.write(msgspec.json.encode({"id": number, "sample": sample}) + b"\n")
                with contextlib.suppress(ConnectionError):  # it has died: the end of its replies tells
                    await self._process.stdin.drain()
                return await answer
        finally:
            self._waiting.pop(number, None)

    def kill(self) -> None:
        """End it, and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until it has ended, after `kill`."""
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        for task in self._tasks:  # what it started in another session may hold its pipes
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hear_ready(self, what: Configured) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"target": what.target, "options": what.options, "memory_mb": what.memory_mb}
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)
            message = f"the reward {what.name!r} cannot be started: {_how(self._process.returncode)}"
            raise FailedError(message, code="reward_unloadable", hint=self.said_last)
        ready = msgspec.json.decode(line, type=Ready)
        if ready.fault is not None:
            raise fault_said(ready.fault, f"the reward {what.name!r}")
        self.lanes, self.version = ready.lanes, ready.version

    async def _read_replies(self) -> None:
        assert self._process.stdout is not None
        decoder = msgspec.json.Decoder(Reply)
        try:
            while line := await self._process.stdout.readline():
                reply = decoder.decode(line)
                waiting = self._waiting.get(-1 if reply.id is None else reply.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (ValueError, msgspec.DecodeError):
            pass  # something else writes there: it cannot be trusted any more
        self.kill()

    async def _watch(self) -> None:
        """Its end, which what it started may outlive with its pipes in hand."""
        await self._process.wait()
        self.kill()
        await asyncio.wait(self._tasks[:2], timeout=LAST_WORDS_S)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._death())

    async def _read_talk(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(65536):
            self._tail = (self._tail + piece)[-TAIL_BYTES:]

    def _death(self) -> FailedError:
        return FailedError(f"its process ended with {_how(self._process.returncode)}", code="reward_crashed")


def command() -> list[str]:
    """The program, in this Python. The package is found where this one was, though not before anything else."""
    root = str(Path(errors.__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", START.format(root=root)]


def kept_environ(environ: Mapping[str, str], named: tuple[str, ...] = ()) -> dict[str, str]:
    """What a process gets of the environment: keys of others are none of its business."""
    return {name: value for name, value in environ.items() if name in named or name.startswith(HARMLESS)}


def fault_said(said: dict[str, Any], who: str) -> MoorageError:
    """A fault as a process told it, as one of ours."""
    kinds = {kind.__name__: kind for kind in (errors.UsageError, errors.PreflightError, errors.TryAgainError)}
    kind = kinds.get(str(said.get("kind")), FailedError)
    return kind(
        f"{who}: {said.get('message')}",
        code=str(said.get("code")),
        hint=str(said.get("hint") or ""),
        next=[str(line) for line in said.get("next") or ()],
    )


def _how(status: int | None) -> str:
    if status is None:
        return "no status yet"
    return f"signal {-status}" if status < 0 else f"status {status}"
