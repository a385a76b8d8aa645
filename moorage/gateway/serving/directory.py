"""Which declared model a name means, and where it is answered: pure, of one feed.

A model is asked for by its dated name or by its alias, an adapter of it by `<either>:<adapter>`, never by its own name
alone: two users may give one name to two adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.following import Followed
from moorage.engines.wire.origin import Origin
from moorage.errors import MoorageError, PreflightError, UsageError
from moorage.gateway.serving.feed import FedEndpoint, FedModel, Feed
from moorage.gateway.serving.refusals import (
    model_missing,
    model_not_ready,
    model_unknown,
    nothing_heard,
)

__all__ = ["Directory"]


class Directory:
    """Never changed: another feed makes another one."""

    def __init__(
        self, feed: Feed | None, before: Directory | None = None, *, environ: Mapping[str, str] | None = None
    ) -> None:
        """None: nothing was heard yet. `before`: the last one, whose work is not done again. `environ`: has the keys
        that endpoints want; the same as of `before`."""
        self.feed = feed
        self._environ = environ or {}
        self.wrong: list[str] = []
        """Endpoints that cannot be asked, and why: their models are served by the others, if there are any."""
        self._models: dict[str, FedModel] = {}
        """Dated names, aliases, and adapters with either in front."""
        self._places: dict[FedEndpoint, Endpoint] = {}
        """Those that can be asked."""
        self._unusable: dict[str, str] = {}
        """Dated name → why an endpoint of the model cannot be asked, for those who ask the model."""
        self._known = {} if before is None else before._places
        # A ready one comes last: it is meant where two have a name.
        models = sorted(feed.models if feed is not None else (), key=lambda one: one.ready)
        for model in models:
            self._places.update(self._parsed(model))
            self._models.update((name, model) for adapter in _adapters_of(model) for name in _whole(model, adapter))
        for model in models:
            self._models[model.alias] = self._models[model.model_id] = model
        self._known = {}

    @property
    def default(self) -> str | None:
        """What a request without a model means: the only one there is; None: it must name one."""
        return self.feed.models[0].model_id if self.feed is not None and len(self.feed.models) == 1 else None

    @property
    def default_alias(self) -> str:
        """The same by its stable name; empty where there is none."""
        return self.feed.models[0].alias if self.feed is not None and self.default is not None else ""

    @property
    def ready(self) -> list[FedModel]:
        """Those that requests are answered for, in the feed's order."""
        return [] if self.feed is None else [model for model in self.feed.models if self._is_ready(model)]

    def why(self, name: str | None) -> MoorageError | None:
        """Why a request for it cannot be served; None: it can, as far as the feed says."""
        if self.feed is None:
            return nothing_heard()
        if name is None:
            name = self.default
            if name is None:
                return model_missing(self._ready_names())
        model = self._models.get(name)
        if model is None:
            base = self._models.get(name.rpartition(":")[0])
            if base is None or self._is_ready(base):
                return model_unknown(name, self._ready_names())
            model = base  # which adapters it has is told when it is ready
        return None if self._is_ready(model) else model_not_ready(model, self._unusable.get(model.model_id, ""))

    def followed(self) -> list[Followed]:
        """The endpoints of ready models under the names that are theirs, each place once."""
        places: dict[str, Followed] = {}
        for model in self.ready:
            for endpoint in model.endpoints:
                where = self._places.get(endpoint)
                if where is None:
                    continue
                names = dict(self._names(model, endpoint))
                known = places.get(where.url)
                if known is not None:
                    places[where.url] = known._replace(names={**names, **known.names})
                    continue
                places[where.url] = Followed(where, names)
        return list(places.values())

    def listing(self, created: int) -> list[dict[str, Any]]:
        """OpenAI's entries of what can be asked for. `created`: Unix seconds."""
        rows = []
        for model in self.ready:
            common = {"object": "model", "created": created, "owned_by": model.user_id, "root": model.model_id}
            rows += [{"id": name, **common, "parent": None} for name in (model.model_id, model.alias)]
            for adapter in _adapters_of(model):
                rows += [{"id": name, **common, "parent": model.model_id} for name in _whole(model, adapter)]
        return rows

    def _names(self, model: FedModel, endpoint: FedEndpoint) -> Iterator[tuple[str, str]]:
        """(what it is asked for by, what the endpoint calls it); the dated name first."""
        for name in (model.model_id, model.alias):
            if self._models[name] is model:
                yield name, endpoint.model
        for adapter in endpoint.adapters:
            for name in _whole(model, adapter):
                if self._models[name] is model:
                    yield name, adapter

    def _is_ready(self, model: FedModel) -> bool:
        return model.ready and any(endpoint in self._places for endpoint in model.endpoints)

    def _ready_names(self) -> list[str]:
        return [name for model in self.ready for name in (model.model_id, model.alias)]

    def _parsed(self, model: FedModel) -> Iterator[tuple[FedEndpoint, Endpoint]]:
        for endpoint in model.endpoints:
            try:
                yield endpoint, self._known.get(endpoint) or _place(endpoint, self._environ)
            except UsageError as fault:
                self._wrong(model, fault, "its address is none that can be asked")
            except PreflightError as fault:
                missing = fault.code == "api_key_missing"
                why = "is not set where the gateway runs" if missing else "has a value that cannot stand in a header"
                self._wrong(model, fault, f"{endpoint.key_env}, the variable of its endpoint's key, {why}")

    def _wrong(self, model: FedModel, fault: MoorageError, why: str) -> None:
        """`why`: without the address, which is none of a user's business."""
        self.wrong.append(f"{model.model_id}: {fault.message}")
        self._unusable.setdefault(model.model_id, why)


def _place(endpoint: FedEndpoint, environ: Mapping[str, str]) -> Endpoint:
    """Raises UsageError for what is no address, PreflightError for a key that is not there."""
    made = Endpoint(
        origin=Origin.parse(endpoint.base_url),
        base_url=endpoint.base_url,
        model_name=endpoint.model,
        api_key_env=endpoint.key_env,
        followed=True,
    )
    made.key(environ)
    return made


def _adapters_of(model: FedModel) -> list[str]:
    """Each once, of all of its endpoints."""
    return list(dict.fromkeys(adapter for endpoint in model.endpoints for adapter in endpoint.adapters))


def _whole(model: FedModel, adapter: str) -> tuple[str, str]:
    """What it is asked for by."""
    return f"{model.model_id}:{adapter}", f"{model.alias}:{adapter}"
