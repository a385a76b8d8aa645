"""One endpoint as configured: where it is, what speaks there, and how much of it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.engines.fleet.server_types import ServerType
from moorage.engines.openai.azure import key_header
from moorage.engines.reasoning.apply import apply
from moorage.engines.reasoning.config import ReasoningConfig
from moorage.engines.reasoning.providers import provider_of
from moorage.engines.wire.origin import Origin
from moorage.errors import PreflightError

__all__ = ["Endpoint"]

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
    """Of training: evaluation has slots of its own."""
    num_requests_for_eval: int = 64
    weight: float = 1.0
    """The share of its slots that is used, above 0; it is given that much less than others."""
    rolling_buffer_length: int = 1000
    """How many of the latest requests statistics are made of."""
    n_kwarg_is_ignored: bool = False
    """It gives one choice whatever `n` says: more are asked for in requests of their own."""
    timeout_s: float | None = None
    """Seconds without a byte; None: the gateway's own."""
    health_check: bool = True
    """False: taken for healthy until a connection fails, and again when it succeeds."""
    followed: bool = False
    """Somebody else keeps the list that it is on, and looks after it: its health here is that `/v1/models` answers."""
    api_version: str | None = None
    """Azure's `api-version`; None: the default where one is needed."""
    reasoning: ReasoningConfig | None = None
    """How much thinking is asked of it in chat requests; None: what the requests themselves say."""

    @property
    def url(self) -> str:
        """What identifies it: two spellings of one place are one endpoint."""
        return self.origin.url

    def key_headers(self, environ: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """How the key is shown with every request. Raises PreflightError as `key` does."""
        key = self.key(environ)
        return [key_header(self.origin.host, key)] if key else []

    def prepared(self, body: bytes, *, chat: bool, has_skip: bool) -> bytes:
        """A request's body as this endpoint is to get it: its reasoning put into chats, `skip_reasoning` taken out.

        `has_skip`: the body has that field. Without it and without a configuration it is the very same.
        """
        if self.reasoning is None and not has_skip:
            return body
        return apply(body, self.reasoning if chat else None, provider_of(self.origin.host))

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
