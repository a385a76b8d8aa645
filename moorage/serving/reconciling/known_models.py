"""The models of a store, read once and then only as far as they change."""

from __future__ import annotations

from moorage.errors import ConflictError
from moorage.serving.model import Model, State
from moorage.serving.store.contract import Store

__all__ = ["KnownModels"]


class KnownModels:
    """Every model that is not DELETED. For one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._models: dict[str, Model] | None = None
        self._version = 0

    @property
    def version(self) -> int:
        """The store's when they were read last."""
        return self._version

    def read(self) -> tuple[Model, ...]:
        """As they are now."""
        if self._models is not None and not self._follow(self._models):
            self._models = None
        if self._models is None:
            version = self._store.version()  # before: what changes while they are read is read again
            self._models = {model.model_key: model for model in self._store.live()}
            self._version = version
        return tuple(self._models.values())

    def forget(self) -> None:
        """Read them all again."""
        self._models = None

    def _follow(self, models: dict[str, Model]) -> bool:
        """Whether they are as they are now. Not when some are gone for good that nobody said were DELETED."""
        if self._store.version() == self._version:
            return True
        try:
            self._version, changed = self._store.changed_since(self._version, None)
        except ConflictError as fault:
            if fault.code != "version_forgotten":
                raise
            return False
        for model in changed:
            models[model.model_key] = model
            if model.state is State.DELETED:
                del models[model.model_key]
        return True
