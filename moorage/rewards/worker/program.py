"""What a worker process runs: it reads orders from the gateway, calls one reward function, and writes what came of it.

Orders come on stdin, a JSON object a line:

    → {"target": …, "options": {…}, "memory_mb": 4096}       first: which function, or
    → {"describe": "module:object"}                          to be told of one, and to end
    ← {"ready": true, "version": …, "lanes": 1}              or {"fault": {…}}, and the end
    → {"id": 7, "sample": {…}}
    ← {"id": 7, "reward": 1.0, "info": {…}}                  or {"id": 7, "fault": {…}}

What the function prints goes to stderr. Nothing that it raises ends the process; what ends it anyway, the gateway sees.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import msgspec

from moorage.errors import FailedError, MoorageError
from moorage.rewards.loading import Loaded, describe, load
from moorage.rewards.sample import Sample, Score

INFO_BYTES = 65536
WORDS = 500
"""Characters of a fault's text that are passed on."""

PR_SET_PDEATHSIG = 1


class Order(msgspec.Struct):
    """A line of stdin."""

    target: str | None = None
    options: dict[str, Any] = {}
    memory_mb: int | None = None
    describe: str | None = None
    id: int | None = None
    sample: Sample | None = None


def main() -> int:
    """Until stdin ends."""
    _die_with_parent()
    orders, say = _streams()
    first = msgspec.json.decode(orders.readline(), type=Order)
    try:
        if first.describe is not None:
            say(describe(first.describe))
            return 0
        loaded = load(first.target or "", first.options)
        # Only now: what the function's own modules need to be loaded is not what a sample may take.
        _limit(first.memory_mb)
    except BaseException as fault:
        say({"fault": fault_of(fault)})
        return 1
    say({"ready": True, "version": loaded.version, "lanes": loaded.lanes})
    _serve(orders, loaded, say)
    return 0


def _serve(orders: IO[bytes], loaded: Loaded, say: Callable[[Any], None]) -> None:
    decoder = msgspec.json.Decoder(Order)
    if loaded.lanes == 1:  # in the main thread: some libraries use signals
        for line in orders:
            say(_judged(loaded, decoder.decode(line)))
        return
    with ThreadPoolExecutor(loaded.lanes) as threads:
        for line in orders:
            order = decoder.decode(line)
            threads.submit(_judge_and_say, loaded, order, say)
    os._exit(0)


def _judge_and_say(loaded: Loaded, order: Order, say: Callable[[Any], None]) -> None:
    say(_judged(loaded, order))


def _judged(loaded: Loaded, order: Order) -> dict[str, Any]:
    try:
        assert order.sample is not None
        reward, info = score_of(loaded.call(order.sample))
        return {"id": order.id, "reward": reward, "info": info}
    except BaseException as fault:  # sys.exit too
        return {"id": order.id, "fault": fault_of(fault)}


def score_of(value: Any) -> tuple[float, msgspec.Raw]:
    """A number and JSON of what a function returned. Raises MoorageError for anything else."""
    info: Any = {}
    if isinstance(value, Score):
        value, info = value.reward, value.info
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        kind = type(value).__name__
        raise FailedError(f"it returned no number, but {kind}", code="reward_no_number")
    reward = float(value)
    if not math.isfinite(reward):
        raise FailedError(f"it returned {reward}", code="reward_not_finite")
    try:
        encoded = msgspec.json.encode(info, enc_hook=_plain)
    except Exception as fault:
        raise FailedError(f"its extra info is no JSON: {_words(fault)}", code="reward_bad_info") from None
    if not encoded.startswith(b"{") or len(encoded) > INFO_BYTES:
        message = f"its extra info is an object of at most {INFO_BYTES} bytes as JSON"
        raise FailedError(message, code="reward_bad_info")
    return reward, msgspec.Raw(encoded)


def fault_of(fault: BaseException) -> dict[str, Any]:
    """What the gateway is told of an exception: text only, and not much of it."""
    if isinstance(fault, MoorageError):
        return {
            "kind": type(fault).__name__,
            "code": fault.code,
            "message": _clean(fault.message),
            "hint": _clean(fault.hint),
            "next": [_clean(line) for line in fault.next[:5]],
        }
    return {"kind": None, "code": "reward_failed", "message": _words(fault), "hint": "", "next": []}


def _words(fault: BaseException) -> str:
    """`ValueError: …`; the text of some exceptions cannot be had."""
    name = type(fault).__name__[:80]
    try:
        text = _clean(str(fault))
    except BaseException:
        return name
    return f"{name}: {text}" if text else name


def _clean(text: str) -> str:
    """Not too long, and nothing that UTF-8 cannot say."""
    return text[:WORDS].encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """For what is no JSON: numbers of libraries as numbers, anything else as text."""
    if hasattr(value, "__float__"):
        return float(value)
    return str(value)[:WORDS]


def _streams() -> tuple[IO[bytes], Callable[[Any], None]]:
    """Orders and replies on descriptors of our own: stdin is empty then, and stdout is stderr."""
    orders = os.fdopen(os.dup(0), "rb")
    replies = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    lock = threading.Lock()

    def say(what: Any) -> None:
        line = msgspec.json.encode(what, enc_hook=_plain) + b"\n"
        with lock:
            while line:
                line = line[os.write(replies, line) :]

    return orders, say


def _die_with_parent() -> None:
    """Where the system can: a function that never ends would not see that stdin has."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit(memory_mb: int | None) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = memory_mb << 20
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with contextlib.suppress(ValueError, OSError):  # not every system has such a limit
            resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    sys.exit(main())
