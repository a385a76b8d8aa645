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

BUSY = b'{"error":{"message":"too many connections are open","type":"server_error","param":null,"code":"too_busy"}}'
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BUSY), BUSY)
)
"""The whole reply to a connection that there is no room for."""


def head_of(reply: Reply, length: bytes, request_id: str, *, last: bool) -> bytes:
    """`length`: the line that says how long the body is. `last`: the connection ends with this reply."""
    lines = [
        b"HTTP/1.1 %d %b" % (reply.status, PHRASES.get(reply.status, b"Status")),
        b"content-type: " + reply.content_type,
        length,
        b"x-request-id: " + request_id.encode("latin-1"),
    ]
    if last:
        lines.append(b"connection: close")
    lines += [name + b": " + value for name, value in reply.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
