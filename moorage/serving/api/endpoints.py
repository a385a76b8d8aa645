"""Where requests for models go, for the gateway: made once for every version of the store."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from moorage.serving.model import Condition, Model, State
from moorage.serving.settings import Settings
from moorage.serving.store.contract import Store

__all__ = ["Endpoints", "model_endpoints"]

SOON_S, LATER_S, LONGEST_S = 5, 60, 300
RETRY_AFTER_S: Mapping[State, int] = MappingProxyType(
    {
        State.QUEUED: SOON_S,
        State.DEPLOYING: SOON_S,
        State.RUNNING: SOON_S,
        State.FAILED: LATER_S,
        State.DELETING: LATER_S,
        State.DELETED: LATER_S,
    }
)


class Endpoints:
    """The document, as bytes."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._store = store
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._made: tuple[int, bytes] | None = None

    def document(self) -> tuple[int, bytes]:
        """Its version, and JSON. It is at least as new as the version says."""
        version = self._store.version()
        with self._lock:
            if self._made is None or self._made[0] != version:
                self._made = (version, msgspec.json.encode(self._data(version)))
            return self._made

    def _data(self, version: int) -> dict[str, Any]:
        now, config = self._clock(), self._settings.config
        required = config.auth == "required"
        digests = self._store.token_digests() if required else ()
        return {
            "version": version,
            "auth": config.auth,
            "models": [model_endpoints(model, now) for model in self._store.live()],
            "users": [{"sha256": one.sha256, "user_id": one.user_id} for one in digests],
            "limits": {
                "requests_per_minute": config.quotas.requests_per_minute,
                "tokens_per_minute": config.quotas.tokens_per_minute,
                "concurrent_requests": config.quotas.concurrent_requests,
            },
        }


def model_endpoints(model: Model, now: float) -> dict[str, Any]:
    """One model for the gateway. `now`: Unix seconds. A model that is being deleted takes no more requests."""
    ready = next((one for one in model.conditions if one.type == "Ready"), None)
    deleting = model.state in (State.DELETING, State.DELETED)
    endpoints = () if deleting else model.progress.endpoints
    is_ready = bool(endpoints) and ready is not None and ready.status is True
    return {
        "model_key": model.model_key,
        "model_id": model.model_id,
        "alias": model.alias,
        "user_id": model.user_id,
        "state": model.state.value,
        "ready": is_ready,
        "reason": ready.reason if ready is not None else "WaitingForReconciler",
        "message": _message(ready, bool(endpoints)),
        "retry_after_s": _retry_after_s(model, now),
        "endpoints": [
            {"base_url": one.base_url, "model": one.model, "adapters": list(one.adapters), "key_env": one.key_env}
            for one in endpoints
        ],
    }


def _message(ready: Condition | None, has_endpoints: bool) -> str:
    """For those who ask a model that is not ready: it may run, and still have no address, as those in memory do."""
    if ready is None:
        return ""
    return "it runs, but there is no address to ask it at" if ready.status and not has_endpoints else ready.message


def _retry_after_s(model: Model, now: float) -> int:
    """When it makes sense to ask again, if it is not ready."""
    not_before = model.progress.not_before
    backed_off_s = math.ceil(not_before - now) if not_before is not None and model.state is not State.FAILED else 0
    return min(max(RETRY_AFTER_S[model.state], backed_off_s), LONGEST_S)
