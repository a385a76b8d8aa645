"""SGLang's dialect."""

from __future__ import annotations

from moorage.engines.contract import Retelling, Scoring
from moorage.engines.sglang.ask import captured_body, generate_request
from moorage.engines.sglang.reply import retold
from moorage.engines.sglang.scores import SglangScoring
from moorage.engines.sglang.stream import SglangTelling

__all__ = ["SglangDialect"]


class SglangRetelling:
    """See `moorage.engines.contract.Retelling`."""

    whole = staticmethod(retold)
    events = SglangTelling


class SglangDialect:
    """A chat that is to be streamed is asked for whole: SGLang streams chats without ids."""

    gives_ids = True
    has_openai_routes = True
    retelling: Retelling = SglangRetelling()
    scoring: Scoring = SglangScoring()
    captured = staticmethod(captured_body)
    from_tokens = staticmethod(generate_request)
