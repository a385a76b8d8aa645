"""Servers as Atropos's scripts describe them: the same fields, the same defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = ["APIServerConfig", "ServerBaseline", "ServerManagerConfig"]


class ServerBaseline(BaseModel):
    """What servers have in common. Given in place of a list, it stands for four local ones, on ports 9004 to 9007."""

    timeout: int = 1200
    """Seconds without a byte of a reply."""
    num_max_requests_at_once: int = 512
    """Of training, at one server."""
    num_requests_for_eval: int = 64
    """Of evaluation, beside those."""
    model_name: str = "default"
    """`default`: what the server says it serves."""
    rolling_buffer_length: int = 1000
    """How many of the latest requests statistics are made of."""
    server_type: Literal["openai", "trl", "sglang", "vllm"] = "openai"
    tokenizer_name: str = "none"
    """A folder or a public name; `none`: the model's."""


class APIServerConfig(ServerBaseline):
    """One server."""

    api_key: str | None = ""
    base_url: str | None = ""
    n_kwarg_is_ignored: bool = False
    """It gives one choice whatever `n` says."""
    health_check: bool = True
    api_key_env: str | None = None
    """The variable that holds the key, so that no configuration holds it."""


class ServerManagerConfig(BaseModel):
    """How a manager is made, beside its servers."""

    slurm: bool = False
    testing: bool = False
    max_n_completions: int = 8
    proxy_url: str | None = None
