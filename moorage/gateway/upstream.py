"""An engine's error replies, passed on as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moorage.engines.vllm.faults import EngineGaveNoIds
from moorage.gateway.faults import UpstreamError

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import Answer, StreamedAnswer

__all__ = ["learning_of_ids", "refuse_error", "relay_error"]


@contextlib.contextmanager
def learning_of_ids(state: EndpointState) -> Iterator[None]:
    """Note whether the reply that is read within has token ids: new sessions are refused where replies have none."""
    try:
        yield
    except EngineGaveNoIds:
        state.gives_token_ids = False
        raise
    state.gives_token_ids = True


def refuse_error(answered: Answer) -> None:
    """Raise UpstreamError for a reply that is no success."""
    if not 200 <= answered.status < 300:
        raise _error(answered, answered.body)


async def relay_error(streamed: StreamedAnswer) -> None:
    """The same for a streamed reply, which is read to its end then."""
    if not 200 <= streamed.status < 300:
        raise _error(streamed, await streamed.read())


def _error(answered: Answer | StreamedAnswer, body: bytes) -> UpstreamError:
    status = answered.status if answered.status >= 400 else 502
    content_type = answered.header(b"content-type") or b"application/json"
    return UpstreamError(status, body, content_type, answered.header(b"retry-after"))
