"""Telling the backend what should run, so that one application that it refuses stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from moorage.errors import MoorageError
from moorage.serving.backends.contract import BackendUnreachable, Wanted
from moorage.serving.plan.plan import Difference

__all__ = ["Applying", "apply", "said"]


class Applying(Protocol):
    """Of a backend, what applying needs."""

    def apply(self, wanted: Sequence[Wanted]) -> None: ...


def apply(
    backend: Applying,
    wanted: Sequence[Wanted],
    gap: Difference,
    *,
    held: Callable[[Wanted], Wanted | None],
    before_each: Callable[[], object],
) -> dict[str, str]:
    """Have the backend run `wanted`; the applications that it refused, and what it said of each.

    A list that is refused is gone through: first with nothing new, then with one new or changed application more at a
    time. `held(wanted)`: what the backend has in the place of a changed one; None: nobody knows. `before_each`: called
    before every call, raises to stop.

    Raises BackendUnreachable, also when it cannot be found out what it refused: then it was told nothing.
    """
    before_each()
    try:
        backend.apply(wanted)
    except BackendUnreachable:
        raise
    except Exception as fault:
        return _one_by_one(backend, wanted, gap, held, before_each, fault)
    return {}


def _one_by_one(
    backend: Applying,
    wanted: Sequence[Wanted],
    gap: Difference,
    held: Callable[[Wanted], Wanted | None],
    before_each: Callable[[], object],
    fault: Exception,
) -> dict[str, str]:
    suspects = (*gap.changed, *gap.added)
    if len(suspects) == 1 and not gap.gone:
        return {suspects[0].app: said(fault)}
    had = {one.app: held(one) for one in gap.changed}
    if not suspects or None in had.values():
        raise _stuck(fault) from fault
    # What runs now stays in every list, or the backend would take it away.
    running = {one.app: had.get(one.app) or one for one in wanted if one not in gap.added}
    if gap.gone:
        before_each()
        _take_away(backend, list(running.values()))
    refused: dict[str, str] = {}
    for one in suspects:
        before_each()
        try:
            backend.apply(list((running | {one.app: one}).values()))
        except BackendUnreachable:
            raise
        except Exception as again:
            refused[one.app] = said(again)
        else:
            running[one.app] = one
    return refused


def _take_away(backend: Applying, kept: Sequence[Wanted]) -> None:
    try:
        backend.apply(kept)
    except BackendUnreachable:
        raise
    except Exception as fault:
        raise _stuck(fault) from fault


def _stuck(fault: Exception) -> BackendUnreachable:
    return BackendUnreachable(f"the backend refuses what it runs already: {said(fault)}")


def said(fault: Exception) -> str:
    """What a fault says to a user: of ours its message, of another one its type too."""
    return fault.message if isinstance(fault, MoorageError) else f"{type(fault).__name__}: {fault}"
