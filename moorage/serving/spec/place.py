"""Where a source really is: followed link by link, and never one step into a folder that is not the user's.

Every folder is opened by its parent's descriptor without following links, so what was judged is what was opened, even
while somebody exchanges folders for links. A link that leads out is where it ends: what lies behind is not looked at,
so no answer tells whether it is there.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from moorage.serving.spec.source import SourcePath, home_of

__all__ = ["Place", "Places", "look"]

MOST_LINKS = 40
"""On one way, as the kernel has it."""
MOST_OPENED = 50_000
"""Files and folders in one look: an honest model takes some thousand, and a maze of links must not hold a thread."""
MOST_ENTRIES = 10_000
"""Of a model's folder."""

Parts = tuple[str, ...]


class Place(Enum):
    """What a source turned out to be."""

    THERE = "there"
    MISSING = "missing"
    """An allowed place, but no folder or file is there, or the links go round in a circle."""
    UNREADABLE = "unreadable"
    """An allowed place, but this server may not look into it."""
    CROWDED = "crowded"
    """A folder with more entries, or a longer way through links, than any model has."""
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a user's models may be, as real paths, and the names by which these places are known."""

    real: tuple[Parts, ...]
    known_as: dict[Parts, Parts] = field(default_factory=dict)

    @classmethod
    def of(cls, user_id: str, root: Path) -> Places:
        """`root/hf` and the user's own folder. The operator may have moved any of them elsewhere by a link.

        A link must not make one user's folder another's, or all of them: such a place is none.
        """
        root = root.absolute()
        real_root = Path(os.path.realpath(root))
        known_as = {_parts(root): _parts(real_root)}
        real: list[Parts] = []
        kept_apart = {_parts(real_root), _parts(Path(os.path.realpath(root / "users")))}
        for named in (root / "hf", home_of(user_id, root)):
            place = _parts(Path(os.path.realpath(named)))
            natural = _parts(Path(os.path.realpath(named.parent)) / named.name)
            if place != natural and any(_overlap(place, other) for other in kept_apart):
                continue
            real.append(place)
            known_as[_parts(named)] = known_as[_parts(real_root / named.relative_to(root))] = place
        return cls(tuple(real), known_as)


def look(path: SourcePath, places: Places) -> Place:
    """What is at `path`, for the user of `places`. A folder with a link that leads out of them is forbidden itself."""
    return _Look(places).at(path)


@dataclass(slots=True)
class _Look:
    """One look; it counts what it opens."""

    places: Places
    opened: int = 0

    def at(self, path: SourcePath) -> Place:
        end = self._follow(path.parts, ())
        if isinstance(end, Place):
            return end
        at, descriptor = end
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                return self._inside(at, descriptor)
            return Place.THERE if stat.S_ISREG(mode) else Place.MISSING
        finally:
            os.close(descriptor)

    def _inside(self, at: Parts, descriptor: int) -> Place:
        """Whether a direct entry of a folder is a link that leads out."""
        links = _links(descriptor)
        if isinstance(links, Place):
            return links
        for name in links:
            end = self._follow((name,), at)
            if end is Place.FORBIDDEN or end is Place.CROWDED:
                return end
            if not isinstance(end, Place):
                os.close(end[1])
        return Place.THERE

    def _follow(self, steps: Parts, start: Parts) -> tuple[Parts, int] | Place:
        """Where `steps` from the real folder `start` lead, and a descriptor of what is there that the caller closes."""
        ahead, at, links = deque(steps), start, 0
        missing: Place | None = None
        while ahead:
            stepped = _step(at, ahead.popleft(), self.places)
            if isinstance(stepped, Place):
                return stepped
            at = stepped
            if missing or not _within(at, self.places):
                continue
            target = self._link_target(at)
            if target is Place.CROWDED or links > MOST_LINKS:
                return target if isinstance(target, Place) else Place.MISSING
            if isinstance(target, Place):
                # What is not there may still be the way to a forbidden place, which must not look any different.
                missing = target
            elif target is not None:
                links += 1
                ahead.extendleft(reversed([part for part in target.split("/") if part not in ("", ".")]))
                at = () if target.startswith("/") else at[:-1]
        return self._arrive(at, missing)

    def _arrive(self, at: Parts, missing: Place | None) -> tuple[Parts, int] | Place:
        if not _within(at, self.places):
            return Place.FORBIDDEN
        if missing:
            return missing
        try:
            return at, self._open(at)
        except OSError as problem:
            return _trouble(problem)

    def _link_target(self, at: Parts) -> str | Place | None:
        """Where the link at `at` leads; None when it is none."""
        if self.opened > MOST_OPENED:
            return Place.CROWDED
        try:
            descriptor = self._open(at)
        except OSError as problem:
            return _trouble(problem)
        try:
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                return os.readlink("", dir_fd=descriptor)
        except OSError as problem:
            return _trouble(problem)
        finally:
            os.close(descriptor)
        return None

    def _open(self, at: Parts) -> int:
        """A descriptor of what is at a real path inside a place; the last part may be a link, the others may not."""
        place = next(place for place in self.places.real if at[: len(place)] == place)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open("/" + "/".join(place), flags | os.O_DIRECTORY)
        for name in at[len(place) :]:
            parent = descriptor
            try:
                descriptor = os.open(name, flags, dir_fd=parent)
            finally:
                os.close(parent)
        self.opened += 1 + len(at) - len(place)
        return descriptor


def _links(descriptor: int) -> list[str] | Place:
    """The direct entries of a folder that are links."""
    try:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    except OSError:
        return Place.UNREADABLE
    links: list[str] = []
    try:
        with os.scandir(readable) as entries:
            for count, entry in enumerate(entries):
                if count >= MOST_ENTRIES:
                    return Place.CROWDED
                if entry.is_symlink():
                    links.append(entry.name)
    except OSError:
        return Place.UNREADABLE
    finally:
        os.close(readable)
    return links


def _step(at: Parts, name: str, places: Places) -> Parts | Place:
    """One step without looking; FORBIDDEN when it leaves the ways to the user's places."""
    if name == "..":
        real_way = _within(at, places) or any(place[: len(at)] == at for place in places.real)
        return at[:-1] if real_way else Place.FORBIDDEN
    there = (*at, name)
    if there in places.known_as:
        return places.known_as[there]
    on_the_way = any(way[: len(there)] == there for way in (*places.real, *places.known_as))
    return there if on_the_way or _within(there, places) else Place.FORBIDDEN


def _trouble(problem: OSError) -> Place:
    return Place.UNREADABLE if isinstance(problem, PermissionError) else Place.MISSING


def _within(at: Parts, places: Places) -> bool:
    return any(at[: len(place)] == place for place in places.real)


def _overlap(one: Parts, other: Parts) -> bool:
    """Whether one of two paths lies inside the other, or they are the same."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _parts(path: Path) -> Parts:
    return tuple(str(path).strip("/").split("/")) if str(path) != "/" else ()
