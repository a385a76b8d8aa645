"""Stock vLLM as a dialect: its replies are the form that is read, so nothing is retold."""

from __future__ import annotations

from moorage.engines.contract import Scoring
from moorage.engines.vllm.ask import capture_body, tokens_body
from moorage.engines.vllm_scores import VllmScoring

__all__ = ["VllmDialect"]


class VllmDialect:
    """Chats with `return_token_ids`; token ids as the prompt of a text completion."""

    gives_ids = True
    has_openai_routes = True
    retelling = None
    scoring: Scoring = VllmScoring()
    captured = staticmethod(capture_body)
    from_tokens = staticmethod(tokens_body)
