"""What is told of a request that was never recorded: the nearest one that was, and in what it differs."""

from __future__ import annotations

from typing import Any

from moorage.capture.call import Draft
from moorage.gateway.http.faults import Fault
from moorage.gateway.turns.bodies import ChatAsk
from moorage.pool.archive import Archive
from moorage.traces.calls import drafts_of
from moorage.traces.replaying.asked import Asked, sampling_fields
from moorage.traces.replaying.recordings import Place, Recordings

__all__ = ["not_recorded"]


async def not_recorded(archive: Archive, recordings: Recordings, asked: Asked, uid: str | None) -> Fault:
    """A 404 whose message says what to look at."""
    place, hint = await _hint(archive, recordings, asked, uid)
    nearest = {"nearest": None if place is None else {"uid": place.uid, "call": place.seq}}
    return Fault(404, f"this request was not recorded; {hint}", code="not_recorded", extra=nearest)


async def _hint(archive: Archive, recordings: Recordings, asked: Asked, uid: str | None) -> tuple[Place | None, str]:
    like = recordings.like(asked, uid)
    if like is None:
        first = recordings.first(uid)
        if first is None:
            return None, "nothing that can be replayed is recorded here"
        return first, f"the nearest is {_name(first)}: {_other_beginning(asked)}"
    places, length = like
    drafts = [await _draft(archive, place) for place in places]
    same = [
        (draft, place)
        for draft, place in zip(drafts, places, strict=True)
        if draft is not None and draft.prompt_key in (b"", asked.keys[-1])
    ]
    if length < len(asked.keys) or not same:
        return places[0], f"the nearest is {_name(places[0])}: {_parted(asked, length)}"
    differing = [(await _differences(archive, asked, draft), place) for draft, place in same]
    differ, place = min(differing, key=lambda pair: len(pair[0]))
    return place, f"the nearest is {_name(place)}, which has the same messages, but {'; '.join(differ)}"


def _name(place: Place) -> str:
    return f"call {place.seq} of {place.uid}"


def _other_beginning(asked: Asked) -> str:
    return "its first message is another" if isinstance(asked.ask, ChatAsk) else "its prompt is another"


def _parted(asked: Asked, length: int) -> str:
    """`length` messages are the same as there."""
    same = "its first message is" if length == 1 else f"its first {length} messages are"
    if length == len(asked.keys):
        return f"{same} the same, and there the conversation went on"
    messages = asked.ask.messages if isinstance(asked.ask, ChatAsk) else []
    role = messages[length].get("role") if length < len(messages) else None
    return f"{same} the same, message {length + 1} ({role}) was never sent after them"


async def _draft(archive: Archive, place: Place) -> Draft | None:
    return (drafts_of(await archive.kept(place.uid, place.seq - 1, 1)) or [None])[0]


async def _differences(archive: Archive, asked: Asked, draft: Draft) -> list[str]:
    differ = []
    if draft.tools_digest != asked.tools:
        differ.append("other tools" if draft.tools_digest and asked.tools else f"{_with(draft)} tools")
    content = (
        (await archive.blobs([draft.sampling_digest])).get(draft.sampling_digest) if draft.sampling_digest else b""
    )
    there = sampling_fields(content or b"")
    for name in sorted(there.keys() | asked.sampling.keys()):
        if there.get(name) != asked.sampling.get(name):
            differ.append(f"{name} is {_said(there.get(name))} there and {_said(asked.sampling.get(name))} here")
    return differ or ["another call of the same messages is meant"]


def _with(draft: Draft) -> str:
    return "it has" if draft.tools_digest else "it has no"


def _said(value: Any) -> str:
    text = "not given" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
