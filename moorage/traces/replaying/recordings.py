"""Which calls can be replayed, and for which request: an index in memory; what was said stays in the store.

About half a kilobyte a call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from moorage.capture.call import Call, Draft, Extras
from moorage.capture.tree import CallTree
from moorage.errors import FailedError
from moorage.pool.archive import Archive, KeptCall, Trace
from moorage.traces.calls import drafts_of, record_broken
from moorage.traces.replaying.asked import Asked, ids_key, key_of, sampling_fields, text_key

__all__ = ["Place", "Recordings", "Sample"]

_SEQ_BITS = 32
_ALIKE = 32
"""Calls of one conversation among which the nearest is looked for."""


class Place(NamedTuple):
    """A request's first call."""

    uid: str
    seq: int


class Sample(NamedTuple):
    """What a request is answered: the recording, and which of how many it is (from 1)."""

    place: Place
    number: int
    of: int


class Recordings:
    """What was recorded of one or several trajectories."""

    def __init__(self) -> None:
        self.calls = 0
        """How many requests can be replayed."""
        self.undelivered = 0
        self.models: list[str] = []
        self._uids: list[str] = []
        self._numbers: dict[str, int] = {}
        self._prompt_uids: dict[str, str | None] = {}
        self._by_key: dict[bytes, list[int]] = {}
        self._model_of: dict[int, str] = {}
        """Only where there is more than one model."""
        self._reached: dict[bytes, int | list[int]] = {}
        """Key of a conversation → the calls that were given it, or else one that said its last message."""
        self._sampling: dict[bytes, dict[str, Any]] = {}
        self._given: dict[tuple[int | None, str | None, bytes], int] = {}

    @property
    def uids(self) -> list[str]:
        return self._uids

    def prompt_uid(self, uid: str) -> str | None:
        """Raises KeyError for a trajectory that is not here; None: it has none."""
        return self._prompt_uids[uid]

    async def add(self, archive: Archive, trace: Trace) -> None:
        """Take in a trajectory. Raises FailedError for a record that cannot be read."""
        uid = trace.trajectory.uid
        number = self._numbers[uid] = len(self._uids)
        self._uids.append(uid)
        self._prompt_uids[uid] = trace.trajectory.prompt_uid if trace.trajectory.kind == "trajectory" else None
        prompts = _Prompts(archive, uid)
        async for kept, draft in _calls(archive, uid):
            prompts.take(kept, draft)
            if draft.source == "submitted" or draft.choice:
                continue
            if not draft.delivered:
                self.undelivered += 1
                continue
            sampling = await self._sampling_of(archive, uid, kept.seq, draft)
            prompt = draft.prompt_key or await prompts.key(kept.seq)
            self._put(number << _SEQ_BITS | kept.seq, prompt, draft, sampling)
            if not draft.prompt_key and draft.retry_key:
                self._by_key.setdefault(draft.retry_key, []).append(number << _SEQ_BITS | kept.seq)

    def take(self, asked: Asked, uid: str | None, *, again: bool) -> Sample | None:
        """The next sample of a request, round and round; `again`: the one that was given last.

        `uid`: only of this trajectory. None: it was not recorded.
        """
        number = None if uid is None else self._numbers[uid]
        key = asked.key
        places = self._places(key, asked.model, number)
        if not places:  # of a text prompt that the engine encoded, only the body's digest is kept
            key = asked.content
            places = self._places(key, asked.model, number)
        if not places:
            return None
        turn = (number, asked.model, key)
        given = self._given.get(turn, 0)
        if not (again and given):
            given += 1
            self._given[turn] = given
        at = (given - 1) % len(places)
        return Sample(self._place(places[at]), at + 1, len(places))

    def like(self, asked: Asked, uid: str | None) -> tuple[list[Place], int] | None:
        """Calls that were given the longest beginning of the request's messages, or said it; and how many they are.

        None: no recording begins as the request does.
        """
        for length in range(len(asked.keys), 0, -1):
            found = self._reached.get(asked.keys[length - 1], [])
            places = [self._place(one) for one in ([found] if isinstance(found, int) else found)]
            fits = [place for place in places if uid in (None, place.uid)]
            if fits:
                return fits, length
        return None

    def first(self, uid: str | None) -> Place | None:
        """The first call that can be replayed."""
        number = None if uid is None else self._numbers[uid]
        every = (one for places in self._by_key.values() for one in places)
        fits = [one for one in every if number is None or one >> _SEQ_BITS == number]
        return self._place(min(fits)) if fits else None

    def _put(self, place: int, prompt: bytes, draft: Draft, sampling: dict[str, Any]) -> None:
        self.calls += 1
        self._by_key.setdefault(key_of(prompt, draft.tools_digest, sampling), []).append(place)
        known = self._reached.get(prompt)
        if known is None:
            self._reached[prompt] = place
        elif isinstance(known, int):
            self._reached[prompt] = [known, place]
        elif len(known) < _ALIKE:
            known.append(place)
        if draft.reply_key:
            self._reached.setdefault(draft.reply_key, place)
        if draft.model not in self.models:
            self.models.append(draft.model)
        if draft.model != self.models[0]:
            self._model_of[place] = draft.model

    def _places(self, key: bytes, model: str | None, number: int | None) -> list[int]:
        """Of the model that was asked for, if any of them is."""
        found = self._by_key.get(key, [])
        fits = [one for one in found if number is None or one >> _SEQ_BITS == number]
        if model is None or not self.models:
            return fits
        of_model = [one for one in fits if self._model_of.get(one, self.models[0]) == model]
        return of_model or fits

    def _place(self, place: int) -> Place:
        return Place(self._uids[place >> _SEQ_BITS], place & ((1 << _SEQ_BITS) - 1))

    async def _sampling_of(self, archive: Archive, uid: str, seq: int, draft: Draft) -> dict[str, Any]:
        name = draft.sampling_digest
        if name and name not in self._sampling:
            content = (await archive.blobs([name])).get(name)
            if content is None:
                raise record_broken(uid, f"how call {seq} was sampled cannot be read")
            self._sampling[name] = sampling_fields(content)
        return self._sampling.get(name, {})


class _Prompts:
    """Keys of prompts that are no messages: of texts from the extras, of ids from the calls before."""

    def __init__(self, archive: Archive, uid: str) -> None:
        self._archive, self._uid = archive, uid
        self._calls: list[Call] = []
        self._tree = CallTree()
        """Of the first calls, as far as it was asked for: conversations never do."""

    def take(self, kept: KeptCall, draft: Draft) -> None:
        self._calls.append(Call(record=draft, seq=kept.seq, step_index=kept.step_index, hash=kept.hash))

    async def key(self, seq: int) -> bytes:
        stored = (await self._archive.extras(self._uid, [seq])).get(seq)
        text = msgspec.json.decode(stored, type=Extras).prompt_text if stored else None
        if text is not None:
            return text_key(text)
        try:
            for call in self._calls[len(self._tree) :]:
                self._tree.add(call)
            return ids_key(self._tree.prompt(self._tree.node(seq)))
        except (ValueError, KeyError) as fault:
            raise record_broken(self._uid, str(fault)) from None


async def _calls(archive: Archive, uid: str) -> AsyncIterator[tuple[KeptCall, Draft]]:
    after = -1
    while page := await archive.kept(uid, after, 512):
        for kept, draft in zip(page, drafts_of(page), strict=True):
            if draft is None:
                raise _unreadable(uid, kept.seq)
            yield kept, draft
        after = page[-1].seq


def _unreadable(uid: str, seq: int) -> FailedError:
    return record_broken(uid, f"the record of call {seq} cannot be read")
