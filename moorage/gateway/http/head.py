"""The head of a reply, as bytes."""

from __future__ import annotations

from moorage.gateway.http.reply import Reply

__all__ = ["PHRASES", "TOO_MANY", "head_of"]

PHRASES = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}

STATUS = b"HTTP/1.1 %d %b\r\ncontent-type: "
BEGINNINGS = {status: STATUS % (status, phrase) for status, phrase in PHRASES.items()}

BUSY = b'{"error":{"message":"too many connections are open","type":"server_error","param":null,"code":"too_busy"}}'
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BUSY), BUSY)
)
"""The whole reply to a connection that there is no room for."""


def head_of(reply: Reply, length: bytes, request_id: str, *, last: bool) -> bytes:
    """`length`: the line that says how long the body is. `last`: the connection ends with this reply."""
    beginning = BEGINNINGS.get(reply.status) or STATUS % (reply.status, b"Status")
    parts = [beginning, reply.content_type, b"\r\n", length, b"\r\nx-request-id: ", request_id.encode("latin-1")]
    if last:
        parts.append(b"\r\nconnection: close")
    for pair in reply.headers:
        parts.append(b"\r\n%b: %b" % pair)
    parts.append(b"\r\n\r\n")
    return b"".join(parts)
