"""What can be wrong with a body or a spec: every fault at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moorage.errors import UsageError

__all__ = ["MOST_FAULTS", "Fault", "SpecError", "SpecFaults", "pointer"]

MOST_FAULTS = 1000
"""So many are told one by one: a body full of unknown fields must not make an answer a hundred times its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    pointer: str
    """A JSON pointer into the spec; "" is the spec itself."""
    detail: str
    code: str
    status: int = 400
    """HTTP: 400, 403 or 422."""
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As an answer's `errors` hold it."""
        shown: dict[str, Any] = {"pointer": self.pointer, "detail": self.detail, "code": self.code}
        return {**shown, "hint": self.hint} if self.hint else shown


class SpecError(UsageError):
    """The body is not one mapping that can be read: nothing in it was looked at."""

    code = "invalid_document"

    def __init__(self, message: str, *, code: str, hint: str = "", status: int = 400) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        """HTTP: 400, 413 or 415."""


class SpecFaults(UsageError):
    """The body was read, and the spec in it cannot be accepted.

    `status` is the first of 400, 403 and 422 that a fault has; `code` and the message are those of the first fault with
    that status, and `invalid_spec` when there are several faults.
    """

    code = "invalid_spec"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = _told(tuple(faults))
        self.status = min(fault.status for fault in self.faults)
        first = next(fault for fault in self.faults if fault.status == self.status)
        alone = len(self.faults) == 1
        super().__init__(
            first.detail if alone else f"{first.detail} (and {len(self.faults) - 1} more: see errors)",
            code=first.code if alone else "invalid_spec",
            hint=first.hint,
            data={"faults": [fault.as_dict() for fault in self.faults]},
        )


def pointer(parts: Sequence[str | int]) -> str:
    """A JSON pointer of the keys and indices on the way: RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _told(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    if len(faults) <= MOST_FAULTS:
        return faults
    # The overall status must not depend on which of them are told.
    kept = sorted(faults, key=lambda fault: fault.status)[: MOST_FAULTS - 1]
    rest = len(faults) - len(kept)
    return (*kept, Fault(pointer="", detail=f"and {rest} more faults", code="too_many_faults", status=kept[0].status))
