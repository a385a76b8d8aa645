"""One endpoint as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moorage.engines.fleet.endpoint import DEFAULT_MODELS, Endpoint
from moorage.engines.fleet.health import Health, Seen, after
from moorage.engines.fleet.slots import Slots
from moorage.engines.wire.upstream import Upstream

__all__ = ["EndpointState"]


class EndpointState:
    """What the fleet knows of an endpoint; others read it, the fleet alone writes it."""

    def __init__(self, endpoint: Endpoint, environ: Mapping[str, str]) -> None:
        key = endpoint.key(environ)
        self.endpoint = endpoint
        self.url = endpoint.url
        self.upstream = Upstream(
            endpoint.origin, headers=[(b"authorization", b"Bearer " + key.encode())] if key else []
        )
        self.health = Health()
        self.train = Slots(endpoint.num_max_requests_at_once)
        self.evaluation = Slots(endpoint.num_requests_for_eval)
        self.sessions = 0
        """How many live there."""
        self.served: tuple[str, ...] = ()
        """The models that it said it serves, its own first."""
        self.models: frozenset[str] = frozenset()
        """The same and the configured name, to look names up in. Empty: not known yet."""
        self.max_model_len: int | None = None
        self.asked_for_models_at: float | None = None
        self.draining = False
        """It takes no request at all."""
        self.retired = False
        """Not configured any more: sessions that live there may stay, nothing new comes."""
        self.gives_token_ids: bool | None = None
        """What a reply has shown; None: none has yet, and the server type is all there is to go by."""
        self.generates_from_ids: bool | None = None
        """Whether `/inference/v1/generate` is open; None: never asked."""

    @property
    def healthy(self) -> bool:
        return self.health.healthy

    @property
    def takes_new(self) -> bool:
        return self.health.healthy and not self.draining and not self.retired

    @property
    def keeps_old(self) -> bool:
        return self.health.healthy and not self.draining

    @property
    def load(self) -> float:
        return self.train.busy / self.train.limit

    @property
    def in_flight(self) -> int:
        return self.train.taken + self.evaluation.taken

    @property
    def model_name(self) -> str | None:
        """What to call the model when asking it; None: it has said nothing, and need not be told."""
        configured = self.endpoint.model_name
        if configured and configured not in DEFAULT_MODELS and (not self.served or configured in self.served):
            return configured
        return self.served[0] if self.served else None

    def saw(self, seen: Seen, reason: str = "") -> None:
        """Something of its health was seen."""
        if self.endpoint.health_check and (seen != "answered" or self.health.suspect):
            self.health = after(self.health, seen, reason)

    def learn_models(self, served: Iterable[str], *, max_model_len: int | None) -> None:
        """What `/v1/models` said."""
        self.served = tuple(served)
        self.max_model_len = max_model_len
        configured = self.endpoint.model_name
        alias = [configured] if configured and configured not in DEFAULT_MODELS else []
        self.models = frozenset([*self.served, *alias]) if self.served else frozenset()

    def name_for(self, model: str | None) -> str | None:
        """What a request for `model` must call it here: the name itself when served, else the endpoint's own.

        So a configured name that is not the served one still works, as does none at all.
        """
        return model if model in self.served else self.model_name
