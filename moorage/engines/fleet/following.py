"""Endpoints that somebody else keeps a list of: which of them serve a name, and what each calls the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.state import EndpointState

__all__ = ["Followed", "Following", "Why", "states_of"]

Why = Callable[[str | None], Exception | None]
"""Why a request for that model cannot be served by the list as it is; None: an endpoint of it should serve it."""


class Followed(NamedTuple):
    """One endpoint of the list. `names`: what requests may call a model → what the endpoint calls it."""

    endpoint: Endpoint
    names: Mapping[str, str]


def states_of(
    followed: Iterable[Followed], known: Iterable[EndpointState], environ: Mapping[str, str]
) -> list[EndpointState]:
    """Their states, under their names as they are now: the known ones go on. Raises as `Endpoint.key`."""
    by_endpoint = {state.url: state for state in known}
    states = []
    for endpoint, names in followed:
        state = by_endpoint.get(endpoint.url)
        if state is None or state.endpoint != endpoint:
            state = EndpointState(endpoint, environ)
        state.rename(names)
        states.append(state)
    return states


class Following:
    """The list as it is now; another one is made with every change, and requests only read it."""

    def __init__(self, states: Iterable[EndpointState], why: Why, default: str | None) -> None:
        """`default`: the name that a request without one means; None: it must name a model."""
        self.why = why
        self._default = default
        self._by_name: dict[str, list[EndpointState]] = {}
        for state in states:
            for name in state.names or ():
                self._by_name.setdefault(name, []).append(state)

    def candidates(self, model: str | None, home: EndpointState | None) -> Sequence[EndpointState]:
        """Those that serve the model. None: the one that the session's home serves, else the default."""
        if model is None:
            model = self._default if home is None or not home.names else next(iter(home.names))
        return self._by_name.get(model, ()) if model is not None else ()

    def has(self, state: EndpointState, model: str | None) -> bool:
        """Whether that endpoint serves the model; None: whatever it serves will do."""
        return model is None or state in self._by_name.get(model, ())
