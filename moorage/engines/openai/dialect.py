"""The dialect of servers that give no token ids: open routes alone."""

from __future__ import annotations

from typing import NoReturn

from moorage.engines.vllm.asked import Asked
from moorage.engines.vllm.faults import EngineGaveNoIds
from moorage.engines.vllm.known import Known

__all__ = ["OpenaiDialect"]


class OpenaiDialect:
    """OpenAI, OpenRouter, Azure, and anything else that speaks as they do."""

    gives_ids = False
    has_openai_routes = True
    retelling = None
    scoring = None

    def captured(self, raw: bytes, asked: Asked, model: str | None) -> NoReturn:
        """Raises EngineGaveNoIds."""
        del raw, asked, model
        raise _refusal()

    def from_tokens(
        self, raw: bytes, prompt: bytes | Known, *, model: str | None, n: int = 1, max_tokens: int | None = None
    ) -> NoReturn:
        """Raises EngineGaveNoIds."""
        del raw, prompt, model, n, max_tokens
        raise _refusal()


def _refusal() -> EngineGaveNoIds:
    return EngineGaveNoIds(
        "an endpoint of server_type openai gives no token ids: its calls cannot be recorded",
        hint="use vllm, sglang or trl, or --allow-dummy for placeholder tokens",
    )
