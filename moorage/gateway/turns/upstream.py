"""An engine's error replies, passed on as they are."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from moorage.engines.vllm.faults import EngineGaveNoIds
from moorage.gateway.http.faults import UpstreamError

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.engines.wire.answer import Answer, StreamedAnswer

__all__ = ["learning_of_ids", "refuse_error", "relay_error"]


class learning_of_ids:
    """Note whether the reply that is read within has token ids: new sessions are refused where replies have none."""

    __slots__ = ("_state",)

    def __init__(self, state: EndpointState) -> None:
        self._state = state

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if fault is None or isinstance(fault, EngineGaveNoIds):
            self._state.gives_token_ids = fault is None


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
