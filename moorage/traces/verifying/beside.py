"""What a record names by digest: its extras, and the blobs that calls share."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from moorage.capture.call import Call, Draft, Extras
from moorage.capture.chain import digest
from moorage.capture.messages import reasoning_of, tools_digest
from moorage.pool.archive import Archive, KeptCall
from moorage.traces.verifying.faults import Findings

__all__ = ["Blobs", "check_extras"]

_REMEMBERED = 100_000


class Blobs:
    """The blobs of a store, each looked at once however many calls name it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._said: dict[bytes, str | None] = {}

    async def check(self, calls: Iterable[Call], findings: Findings) -> None:
        """That each named blob is there and is what it is named after. A template is named, and never kept."""
        if len(self._said) > _REMEMBERED:
            self._said.clear()
        named = [(call, field, name) for call in calls for field, name in _named(call.record)]
        new = list(dict.fromkeys(name for _, _, name in named if name not in self._said))
        tools = {name for _, field, name in named if field == "tools_digest"}
        found = await self._archive.blobs(new) if new else {}
        for name in new:
            self._said[name] = _fault(name, found, is_tools=name in tools)
        for call, field, name in named:
            said = self._said[name]
            if said is not None:
                findings.fault(call.record.session_id, call.seq, field, said)


def check_extras(kept: KeptCall, call: Call, findings: Findings) -> Extras | None:
    """The extras of a call; None: there are none, or they are not those of the record."""
    uid, named = call.record.session_id, call.record.extras_digest
    if "extras" in kept.broken:
        findings.fault(uid, call.seq, "extras", kept.broken["extras"])
        return None
    if kept.extras is None:
        if named:
            findings.fault(uid, call.seq, "extras", "they are missing")
        return None
    if digest(kept.extras) != named:
        findings.fault(uid, call.seq, "extras", "they are not those that the record names")
        return None
    try:
        extras = msgspec.json.decode(kept.extras, type=Extras)
        message = msgspec.json.decode(extras.reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        findings.fault(uid, call.seq, "extras", f"they cannot be read: {fault}")
        return None
    reasoning = reasoning_of(message) if isinstance(message, dict) else None
    if (digest(reasoning.encode(errors="surrogatepass")) if reasoning else b"") != call.record.reasoning_digest:
        findings.fault(uid, call.seq, "reasoning_digest", "it is not that of the reasoning in the reply")
    return extras


def _named(record: Draft) -> list[tuple[str, bytes]]:
    fields = ("tools_digest", "sampling_digest", "metadata_digest")
    return [(field, getattr(record, field)) for field in fields if getattr(record, field)]


def _fault(name: bytes, found: dict[bytes, bytes | None], *, is_tools: bool) -> str | None:
    if name not in found:
        return "the blob of this digest is missing"
    content = found[name]
    if content is None:
        return "the blob of this digest cannot be unpacked"
    if digest(content) == name or (is_tools and _tools_named(content) == name):
        return None
    return "the blob of this digest has other content"


def _tools_named(content: bytes) -> bytes | None:
    """Tools are named by their JSON with sorted keys, and kept as they came."""
    try:
        return tools_digest(msgspec.json.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
