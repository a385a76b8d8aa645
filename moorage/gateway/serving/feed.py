"""What the serving API tells gateways: every declared model, where it is answered, and who may ask.

    GET /api/v2/serve/endpoints[?version=N&wait_s=S]

Fields that are not named here are passed over.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["FedEndpoint", "FedModel", "FedUser", "Feed", "Quota", "read_feed"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class FedEndpoint(msgspec.Struct, frozen=True):
    """One server of a model."""

    base_url: str
    model: str
    """What it calls the model."""
    adapters: tuple[str, ...] = ()
    key_env: str | None = None
    """The variable of the gateway that holds the key it wants; None: it wants none."""


class FedModel(msgspec.Struct, frozen=True):
    """One declared model."""

    model_id: str
    """The dated name."""
    alias: str
    """`<user>/<suffix>`."""
    user_id: str
    ready: bool
    model_key: str = ""
    state: str = ""
    reason: str = ""
    """Of the condition `Ready`, as its `message` is."""
    message: str = ""
    retry_after_s: float | None = None
    """When to come again while it is not ready; None: the gateway decides."""
    endpoints: tuple[FedEndpoint, ...] = ()


class FedUser(msgspec.Struct, frozen=True):
    """A token that is good."""

    sha256: str
    """Of the token, hexadecimal."""
    user_id: str


class Quota(msgspec.Struct, frozen=True):
    """What each user may use up; None: any amount."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrent_requests: Positive | None = None


class Feed(msgspec.Struct, frozen=True):
    """All of it at one moment."""

    version: int
    auth: Literal["none", "required"]
    models: tuple[FedModel, ...]
    users: tuple[FedUser, ...] = ()
    """Empty where `auth` is none."""
    limits: Quota = Quota()


def read_feed(body: bytes) -> Feed:
    """Raises ValueError with what is wrong, for what is no feed."""
    try:
        return msgspec.json.decode(body, type=Feed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(str(fault)) from None
