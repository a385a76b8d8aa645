"""What the routes stand on: made once, when the API starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from moorage.serving.api.changes import Changes
from moorage.serving.api.declaring import Declaring
from moorage.serving.api.door import Door
from moorage.serving.api.endpoints import Endpoints
from moorage.serving.api.readers import Readers
from moorage.serving.api.recent import Recent
from moorage.serving.api.shared_backend import SharedBackend
from moorage.serving.log import Log
from moorage.serving.settings import Settings
from moorage.serving.store.contract import Store

__all__ = ["Parts", "parts_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Threads share all of it."""

    settings: Settings
    store: Store
    backend: SharedBackend
    door: Door
    declaring: Declaring
    endpoints: Endpoints
    changes: Changes
    recent: Recent
    watch_readers: Readers
    feed_readers: Readers
    """Those of gateways: however much there is to read for watches."""
    clock: Callable[[], float]
    """Unix seconds."""
    log: Log

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts
