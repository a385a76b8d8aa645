"""Which endpoint serves a request: pure, over what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeVar

__all__ = ["Candidate", "for_request", "for_session", "serves"]


class Candidate(Protocol):
    """One endpoint as it stands."""

    @property
    def url(self) -> str:
        """What identifies it."""

    @property
    def takes_new(self) -> bool:
        """Healthy, neither draining nor retired: anything may go there."""

    @property
    def keeps_old(self) -> bool:
        """Healthy and not draining: sessions that live there may stay."""

    @property
    def load(self) -> float:
        """Requests in flight and waiting, as a share of its limit; above 1 some wait."""

    @property
    def sessions(self) -> int:
        """How many live there."""

    @property
    def models(self) -> frozenset[str]:
        """The names it serves. Empty: not known yet, or it does not say."""


One = TypeVar("One", bound=Candidate)


def serves(candidate: Candidate, model: str | None) -> bool:
    """Whether it serves that model, or may. None: any will do."""
    return model is None or not candidate.models or model in candidate.models


def for_session(candidates: Iterable[One], model: str | None) -> One | None:
    """Where a new session goes: to the fewest sessions, then the least load, then the first; None: nowhere now."""
    fitting = (one for one in candidates if one.takes_new and serves(one, model))
    return min(fitting, key=lambda one: (one.sessions, one.load), default=None)


def for_request(
    candidates: Collection[One],
    model: str | None,
    *,
    home: str | None = None,
    pinned: bool = False,
    failed: Collection[str] = (),
    spared: Collection[str] = (),
    load: Callable[[One], float] = lambda one: one.load,
) -> One | None:
    """Where a request goes; None: nowhere now.

    `home`: the URL where its session lives; with `pinned` it goes nowhere else. `failed`: URLs where this very request
    failed before, `spared`: those that failed many: another one is better, but the only one is asked. `load`: by what
    the least loaded is told.
    """
    at_home = next((one for one in candidates if one.url == home and one.keeps_old), None)
    if pinned or (at_home is not None and at_home.url not in failed and at_home.url not in spared):
        return at_home
    fitting = [one for one in candidates if one.takes_new and serves(one, model)]
    untried = [one for one in fitting if one.url not in failed]
    calm = [one for one in untried if one.url not in spared] if spared else untried
    return min(calm or untried or fitting, key=lambda one: (load(one), one.sessions), default=at_home)
