"""Server-sent events, line by line."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["EventReader", "Frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it came."""

    id: str
    """Of the latest event that had one; empty: none had."""
    type: str
    data: str


@dataclass(slots=True)
class EventReader:
    """Feed it lines without their ends; an event comes with the empty line after it."""

    last_id: str = ""
    """The id of the latest whole event: what `Last-Event-ID` says when asking again."""
    _id: str = ""
    _type: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> Frame | None:
        """The event that this line ends; None: it ends none. Comments and unknown fields are passed over."""
        if line:
            self._take(line)
            return None
        data, kind = self._data, self._type
        self._data, self._type = [], ""
        if self._id:
            self.last_id = self._id
        return Frame(self.last_id, kind or "message", "\n".join(data)) if data else None

    def begin_again(self) -> None:
        """The connection broke: what had come of an event is dropped."""
        self._data, self._type, self._id = [], "", ""

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
