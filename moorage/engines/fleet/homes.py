"""Which session lives at which endpoint, so that its prefix stays in one engine's cache."""

from __future__ import annotations

from typing import NamedTuple

from moorage.engines.fleet.state import EndpointState

__all__ = ["Home", "Homes"]

KEPT = 100_000
"""Sessions remembered; one that is forgotten is given a home anew."""


class Home(NamedTuple):
    """`pinned`: for life, whatever happens."""

    state: EndpointState
    pinned: bool


class Homes:
    """Sessions and their homes; it keeps each state's count of sessions right."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._homes: dict[str, Home] = {}

    def __len__(self) -> int:
        return len(self._homes)

    def get(self, session: str) -> Home | None:
        """Where it lives; None: not known."""
        return self._homes.get(session)

    def settle(self, session: str, state: EndpointState, *, pinned: bool) -> None:
        """It lives there from now on."""
        self.forget(session)
        while len(self._homes) >= self._kept:
            self.forget(next(iter(self._homes)))
        self._homes[session] = Home(state, pinned)
        state.sessions += 1

    def forget(self, session: str) -> None:
        """It is over, or is to be settled anew; nothing happens for an unknown one."""
        home = self._homes.pop(session, None)
        if home is not None:
            home.state.sessions -= 1
