"""Mounts: `SRC:DST[:ro]`, and whether a model path is behind one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moorage.catalog.model_path import ModelPath, encodable, shown
from moorage.errors import UsageError

READ_ONLY = ":ro"
_EXAMPLE = "write --mount SRC:DST or SRC:DST:ro, both absolute (as --mount /data/models:/models:ro)"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the machine that runs the service, put into its container."""

    source: str
    target: str
    read_only: bool

    @property
    def text(self) -> str:
        """`SRC:DST[:ro]`, as it was given."""
        return f"{self.source}:{self.target}{READ_ONLY if self.read_only else ''}"


def parse_mount(text: str) -> Mount:
    """The mount. Raises UsageError `bad_mount`.

    The source may hold colons, except one before a `/`; the target none, since no engine could tell it from an option.
    """
    if not encodable(text):
        raise _bad(text, "has a character that no path can hold")
    read_only = text.endswith(READ_ONLY)
    pair = text.removesuffix(READ_ONLY)
    source, colon, target = pair.partition(":/")
    if not colon or not source.startswith("/"):
        raise _bad(text, "does not have two absolute paths with a colon between")
    target = f"/{target}"
    if ":/" in target:
        raise _bad(text, "can be split in more than one place")
    if ":" in target:
        raise _bad(text, f"has the option {target.rpartition(':')[2]!r}, and 'ro' is the only one")
    for path in (source, target):
        if ".." in path.split("/"):
            raise _bad(text, f"has a '..' component in {shown(path)}")
    if not _components(target):
        raise _bad(text, "would cover the container's root folder")
    return Mount(source, target, read_only)


def unmounted_warning(model_path: ModelPath, mounts: Iterable[Mount], path_exists_on_host: bool) -> str | None:
    """What to say of a model that lies on this machine and that the container will not see; None when all is well.

    A path that this machine lacks is taken to be inside the image.
    """
    if model_path.form != "absolute" or not path_exists_on_host:
        return None
    wanted = _components(model_path.text)
    targets = (_components(mount.target) for mount in mounts)
    if any(wanted[: len(target)] == target for target in targets):
        return None
    path = shown(model_path.text)
    return (
        f"model path {path} is on this machine but under no --mount: the container sees it only if its image has it "
        "too; to mount it add --mount SRC:DST:ro"
    )


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _bad(text: str, reason: str) -> UsageError:
    return UsageError(f"mount {shown(text)} {reason}", code="bad_mount", hint=_EXAMPLE)
