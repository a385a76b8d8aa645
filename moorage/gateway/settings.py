"""How a gateway was told to behave: the flags of `moor gateway`, as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moorage.capture.call import Mode

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are seconds, sizes bytes, lengths tokens. None means what each line says."""

    host: str = "127.0.0.1"
    port: int = 8100
    db: str
    """`sqlite:///FILE`."""
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
    max_body_bytes: int = 64 * 1024 * 1024
    memory_bytes: int = 512 * 1024 * 1024
    """About what sessions may take in memory; older ones are read from the store again."""
    reward: str | None = None
    access_log: bool = False
