"""How a gateway was told to behave: the flags of `moor gateway`, as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from moorage.capture.call import Mode

if TYPE_CHECKING:
    from moorage.rewards.configured import Configured

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are seconds, sizes bytes, lengths tokens. None means what each line says."""

    host: str = "127.0.0.1"
    port: int = 8100
    db: str
    """`sqlite:///FILE` or `postgresql://…`; it may hold a password, so it is not shown."""
    mode: Mode | None = None
    """None: exact where a tokenizer is at hand, else passthrough."""
    tokenizer_path: Path | None = None
    """None: the model's own name is tried; without any, every session is passthrough."""
    response_length: int | None = None
    """`max_tokens` of `/generate` when not given; None: the engine decides."""
    prompt_length: int | None = None
    """Longer prompts of exact sessions are cut from the left; None: never cut."""
    n_rollouts: int = 1
    upstream_timeout_s: float = 600.0
    """Seconds without any byte from the upstream; of a call that is not streamed, the whole generation."""
    pool_max_attempts: int = 5
    retain_age_s: float | None = None
    """What is done and was untouched for longer goes; None: never for its age."""
    retain_bytes: int | None = None
    """The oldest that is done goes until the store holds no more; None: never for its size."""
    compat_claw: bool = False
    """Claw-R1's leniency: unknown trajectories are accepted."""
    full_reply: bool = False
    """Leave ids and log probabilities that only the gateway asked for in the reply."""
    escape_special: bool = False
    """The text of special tokens in user content is encoded as plain text."""
    session_ttl_s: float | None = None
    """An idle session ends after this; None: never."""
    max_sessions: int = 100_000
    """Open ones; more are refused with 429."""
    max_concurrency: int | None = None
    """Model calls under way at once; more are refused with 429. None: as many as come."""
    max_body_bytes: int = 64 * 1024 * 1024
    max_connections: int = 20_000
    """Open at once; more are refused with 503."""
    client_timeout_s: float = 30.0
    """A request's head has so long to come, a body and the reading of a reply so long to go on."""
    idle_timeout_s: float = 75.0
    """A connection without a request is closed after it."""
    drain_s: float = 30.0
    """Requests in flight have this long to end when the gateway is told to stop."""
    memory_bytes: int = 512 * 1024 * 1024
    """About what sessions may take in memory; older ones are read from the store again."""
    rewards: tuple[Configured, ...] = ()
    """Of `/compute_reward`, the default first."""
    allow_dummy: bool = False
    """Engines without token ids may be recorded, with placeholders that are marked."""
    access_log: bool = False
    auth: Literal["auto", "keys", "none"] = "auto"
    """auto: keys, but on loopback."""
    tls_cert: Path | None = None
    """PEM, the whole chain; None: plain HTTP."""
    tls_key: Path | None = None
    serving_url: str | None = None
    """Of the serving API that says which models there are; None: the endpoints are configured."""
    serving_token_env: str | None = None
    """The variable that holds the token for it; None: none is sent."""
