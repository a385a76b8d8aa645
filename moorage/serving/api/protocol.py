"""HTTP/1.1 by h11, whose heads are bounded; what is no HTTP gets a problem as everything else does."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from moorage.serving.api.problems import Problem, reply_of

__all__ = ["LONGEST_HEAD_BYTES", "HttpProtocol"]

LONGEST_HEAD_BYTES = 64 * 1024
LINGER_S = 2.0
"""A connection that is closed while its client still sends is reset, and the reply is lost to it."""


class HttpProtocol(H11Protocol):
    """uvicorn's, but for the reply to what cannot be read."""

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """After a refusal nothing is read any more, only taken."""
        if not self._is_refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Called where h11 gave up on the connection, also in the middle of a request."""
        self._is_refused = True
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.transport.is_closing():
            self.transport.close()
            return
        detail = f"{msg} A head may have {LONGEST_HEAD_BYTES} bytes."
        reply = reply_of(Problem(400, detail, code="bad_http"))
        headers = [*reply.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(reply.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
