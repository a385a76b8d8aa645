"""TRL's dialect."""

from __future__ import annotations

from moorage.engines.contract import Retelling, Wanted
from moorage.engines.told import as_stream
from moorage.engines.trl.ask import captured_request, tokens_request
from moorage.engines.trl.reply import retold

__all__ = ["TrlDialect"]


class TrlTelling:
    """It streams nothing: the reply comes whole, and is told as a stream at its end."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """See `moorage.engines.contract.Telling`."""
        self._pieces.append(data)
        return b""

    def end(self) -> bytes:
        """All of it. Raises faults of the engine's reply."""
        return as_stream(retold(b"".join(self._pieces), self._wanted))


class TrlRetelling:
    """See `moorage.engines.contract.Retelling`."""

    whole = staticmethod(retold)
    events = TrlTelling


class TrlDialect:
    """It has no OpenAI routes, so open requests are put in its own words too."""

    gives_ids = True
    has_openai_routes = False
    retelling: Retelling = TrlRetelling()
    scoring = None
    captured = staticmethod(captured_request)
    from_tokens = staticmethod(tokens_request)
