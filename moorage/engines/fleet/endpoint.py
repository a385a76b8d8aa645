"""One endpoint as configured: where it is, what speaks there, and how much of it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from moorage.engines.wire.origin import Origin
from moorage.errors import PreflightError

__all__ = ["SERVER_TYPES", "Endpoint", "ServerType"]

ServerType = Literal["vllm", "sglang", "trl", "openai"]
SERVER_TYPES: tuple[str, ...] = get_args(ServerType)
DEFAULT_MODELS = ("", "default")
"""Names that mean: whatever the upstream serves."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The fields of Atropos's server configuration that mean something to a gateway."""

    origin: Origin
    base_url: str
    """As the user wrote it: replies say it back."""
    server_type: ServerType = "vllm"
    model_name: str | None = None
    """None: what `/v1/models` says first."""
    tokenizer_name: str | None = None
    """None: the model's."""
    api_key: str | None = field(default=None, repr=False)
    api_key_env: str | None = None
    """The variable that holds the key; `api_key` comes before it."""
    num_max_requests_at_once: int = 512
    num_requests_for_eval: int = 64
    timeout_s: float | None = None
    """Seconds without a byte; None: the gateway's own."""
    health_check: bool = True
    """False: taken for healthy until a connection fails, and again when it succeeds."""

    @property
    def url(self) -> str:
        """What identifies it: two spellings of one place are one endpoint."""
        return self.origin.url

    @property
    def gives_token_ids(self) -> bool:
        """Whether engines of this type give token ids, as far as the type tells."""
        return self.server_type in ("vllm", "sglang")

    def key(self, environ: Mapping[str, str]) -> str | None:
        """The key's value; None: none is sent.

        Raises PreflightError for a variable that is not set, and for a value that could not stand in a header.
        """
        value = self.api_key
        if not value and self.api_key_env is not None:
            value = environ.get(self.api_key_env)
            if not value:
                raise PreflightError(
                    f"{self.api_key_env} is not set, and {self.base_url} needs it",
                    code="api_key_missing",
                    hint=f"export {self.api_key_env}",
                )
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise PreflightError(f"the key for {self.base_url} cannot stand in a header", code="api_key_unusable")
        return value or None
