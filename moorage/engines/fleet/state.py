"""One endpoint as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moorage.engines.dialects import dialect_of
from moorage.engines.fleet.breaker import Breaker
from moorage.engines.fleet.counts import Counts
from moorage.engines.fleet.endpoint import DEFAULT_MODELS, Endpoint
from moorage.engines.fleet.health import Health, Seen, after
from moorage.engines.fleet.slots import Slots
from moorage.engines.fleet.statistics import Statistics
from moorage.engines.openai.azure import targets_of
from moorage.engines.wire.upstream import Upstream

__all__ = ["EndpointState"]


class EndpointState:
    """What the fleet knows of an endpoint; others read it, the fleet alone writes it."""

    def __init__(self, endpoint: Endpoint, environ: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self.url = endpoint.url
        self.dialect = dialect_of(endpoint.server_type)
        """How it is spoken to."""
        self.targets = targets_of(endpoint.origin, endpoint.api_version, endpoint.model_name)
        """From the paths that OpenAI has to its own; None: they are the same."""
        self.upstream = Upstream(endpoint.origin, headers=endpoint.key_headers(environ))
        self.health = Health()
        self.counts = Counts()
        self.statistics = Statistics(endpoint.rolling_buffer_length)
        self.breaker = Breaker()
        self.train = Slots(_share(endpoint.num_max_requests_at_once, endpoint.weight))
        self.evaluation = Slots(_share(endpoint.num_requests_for_eval, endpoint.weight))
        self.sessions = 0
        """How many live there."""
        self.served: tuple[str, ...] = ()
        """The models that it said it serves, its own first."""
        self.models: frozenset[str] = frozenset()
        """The same and the configured name, to look names up in. Empty: not known yet."""
        self.max_model_len: int | None = None
        self.asked_for_models_at: float | None = None
        self.names: Mapping[str, str] | None = None
        """What requests may call its models → what it calls them; None: they use its own names."""
        self.left = False
        """It is on no list any more: what is under way there ends, and whoever waits in its line goes elsewhere."""
        self.draining = False
        """It takes no request at all."""
        self.retired = False
        """Not configured any more: sessions that live there may stay, nothing new comes."""
        self.gives_token_ids: bool | None = None
        """What a reply has shown; None: none has yet, and the server type is all there is to go by."""
        self.generates_from_ids: bool | None = None if endpoint.server_type == "vllm" else False
        """Whether `/inference/v1/generate` is open; None: never asked."""
        self.ignores_n = endpoint.n_kwarg_is_ignored
        """It gives one choice whatever `n` says, or refuses to give more."""

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
    def eval_load(self) -> float:
        return self.evaluation.busy / self.evaluation.limit

    @property
    def tripped(self) -> bool:
        return self.breaker.is_open

    @property
    def records(self) -> bool:
        """Whether calls of sessions may go there: by what its replies have shown, else by its type."""
        return self.dialect.gives_ids if self.gives_token_ids is None else self.gives_token_ids

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
            was = self.health.healthy
            self.health = after(self.health, seen, reason)
            if self.health.healthy is not was:
                self.counts.turned(self.health.healthy)

    def rename(self, names: Mapping[str, str]) -> None:
        """What requests may call its models, from now on."""
        self.names = names
        self.models = frozenset(names)

    def learn_models(self, served: Iterable[str], *, max_model_len: int | None) -> None:
        """What `/v1/models` said."""
        self.served = tuple(served)
        self.max_model_len = max_model_len
        if self.names is not None:
            return  # the list says what it is called
        configured = self.endpoint.model_name
        alias = [configured] if configured and configured not in DEFAULT_MODELS else []
        self.models = frozenset([*self.served, *alias]) if self.served else frozenset()

    def name_for(self, model: str | None) -> str | None:
        """What a request for `model` must call it here: the name itself when served, else the endpoint's own.

        So a configured name that is not the served one still works, as does none at all.
        """
        if self.names is not None:
            return self.names.get(model or "", self.endpoint.model_name)
        return model if model in self.served else self.model_name


def _share(limit: int, weight: float) -> int:
    """The slots that are used."""
    return max(1, round(limit * weight))
