"""Feeds for tests."""

from __future__ import annotations

import json
from typing import Any

from moorage.gateway.serving.feed import Feed, read_feed
from tests.contract.serving_feed import fed

__all__ = ["fed", "feed_of"]


def feed_of(*models: dict[str, Any], version: int = 1, **more: Any) -> Feed:
    """As the serving API writes it."""
    return read_feed(json.dumps({"version": version, "auth": "none", "models": models, **more}).encode())
