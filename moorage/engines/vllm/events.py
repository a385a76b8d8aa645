"""Server-sent events out of a byte stream, whole and unread."""

from __future__ import annotations

__all__ = ["Events", "payload"]


class Events:
    """Splits what comes into events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Lines may end in LF or CRLF."""
        data = self._rest + data if self._rest else data
        ends = b"\r\n\r\n" if b"\r\n" in data else b"\n\n"
        *whole, self._rest = data.split(ends)
        return [event + ends for event in whole]

    def rest(self) -> bytes:
        """What came after the last blank line."""
        return self._rest


def payload(event: bytes) -> bytes | None:
    """The data of an event that has one line of it; None for comments and the like."""
    if event.startswith(b"data:"):
        return event[5:].strip()
    for line in event.splitlines():
        if line.startswith(b"data:"):
            return line[5:].strip()
    return None
