"""What a worker tells its parent when it starts: that it listens, or why it does not. One JSON object."""

from __future__ import annotations

import inspect
import json
from typing import Any

from moorage import errors
from moorage.errors import FailedError, MoorageError

__all__ = ["fault_of", "said_fault", "said_ready", "url_of"]


def said_ready(url: str) -> bytes:
    """It listens at `url`."""
    return json.dumps({"url": url}).encode()


def said_fault(fault: MoorageError) -> bytes:
    """It cannot start."""
    kind = next(one.__name__ for one in type(fault).__mro__ if one.__module__ == errors.__name__)
    told = {"code": fault.code, "hint": fault.hint, "next": fault.next, "data": fault.data}
    return json.dumps({"kind": kind, "message": fault.message, **told}, default=str).encode()


def url_of(said: bytes) -> str | None:
    """Where it listens; None: it does not."""
    return _read(said).get("url")


def fault_of(said: bytes) -> MoorageError | None:
    """Why it cannot start; None: it has not said."""
    told = _read(said)
    if "kind" not in told:
        return None
    kind = getattr(errors, str(told["kind"]), None)
    kind = kind if inspect.isclass(kind) and issubclass(kind, MoorageError) else FailedError
    # The class may have a constructor of its own: what it made is copied, not made again.
    fault: MoorageError = kind.__new__(kind)
    MoorageError.__init__(
        fault, told["message"], code=told["code"], hint=told["hint"], next=told["next"], data=told["data"]
    )
    return fault


def _read(said: bytes) -> dict[str, Any]:
    """Empty for what is cut off: the worker died while it wrote."""
    try:
        told = json.loads(said)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
