"""The dialect of each server type."""

from __future__ import annotations

from moorage.engines.contract import Dialect
from moorage.engines.fleet.server_types import ServerType
from moorage.engines.openai.dialect import OpenaiDialect
from moorage.engines.sglang.dialect import SglangDialect
from moorage.engines.trl.dialect import TrlDialect
from moorage.engines.vllm_dialect import VllmDialect

__all__ = ["dialect_of"]


def dialect_of(server_type: ServerType) -> Dialect:
    """How an engine of that type is spoken to."""
    if server_type == "sglang":
        return SglangDialect()
    if server_type == "trl":
        return TrlDialect()
    return OpenaiDialect() if server_type == "openai" else VllmDialect()
