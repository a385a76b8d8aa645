"""What `model_source` may look like, and the path that its macros stand for. Pure: nothing is looked at."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from moorage.serving.spec.faults import Fault

__all__ = ["RepoId", "SourcePath", "home_of", "read_source"]

MOST_BYTES = 4095
"""Of an expanded path: Linux takes no longer one."""

_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Characters that show the text after them in another order than it has."""
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_MACRO = re.compile(r"\$HOME(/common/hf|/common/datasets)?(?=/|\Z)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:/")
_FORMS = "write an absolute path, a path that begins with $HOME, or a repo id `org/name`"


@dataclass(frozen=True, slots=True)
class RepoId:
    """`org/name` on a model hub: taken as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class SourcePath:
    """An absolute path with its macros replaced, without empty parts and dots; its symlinks are as they were."""

    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.text.split("/") if part)


def home_of(user_id: str, root: Path) -> Path:
    """A user's own folder: what `$HOME` stands for."""
    return root / "users" / user_id


def read_source(text: object, user_id: str, root: Path, pointer: str) -> RepoId | SourcePath | Fault:
    """What a source stands for, or why it stands for nothing (a fault with the status 400)."""
    if not isinstance(text, str):
        return Fault(pointer=pointer, detail=f"{_name(pointer)} is not text", code="wrong_type", hint=_FORMS)
    wrong = _wrong(text)
    if wrong:
        return Fault(pointer=pointer, detail=f"{_name(pointer)} {wrong}", code=f"invalid_{_name(pointer)}", hint=_FORMS)
    if _REPO_ID.fullmatch(text):
        return RepoId(text)
    path = "/" + "/".join(part for part in _expanded(text, user_id, root).split("/") if part not in ("", "."))
    if len(path.encode()) > MOST_BYTES:
        return Fault(
            pointer=pointer, detail=f"{_name(pointer)} is longer than a path may be", code=f"invalid_{_name(pointer)}"
        )
    return SourcePath(path)


def _wrong(text: str) -> str:
    """Why this is no source; "" when it is one."""
    if not text:
        return "is empty"
    if any(unicodedata.category(char) in _CONTROLS or unicodedata.bidirectional(char) in _TURNS for char in text):
        return "holds a control character"
    if ".." in text.split("/"):
        return "has `..` as a part of its path"
    if "~" in text:
        return "holds a ~, which stands for nothing here: write $HOME"
    if _URL.match(text):
        return "is a URL; models are served from folders and by repo id"
    macro = _MACRO.match(text)
    if "$" in text[macro.end() if macro else 0 :]:
        return "holds a $ that begins none of $HOME, $HOME/common/hf and $HOME/common/datasets"
    if macro or text.startswith("/") or _REPO_ID.fullmatch(text):
        return ""
    return "is neither an absolute path nor a repo id"


def _expanded(text: str, user_id: str, root: Path) -> str:
    macro = _MACRO.match(text)
    if macro is None:
        return text
    places = {"/common/hf": root / "hf", "/common/datasets": root / "datasets", None: home_of(user_id, root)}
    return f"{places[macro[1]]}{text[macro.end() :]}"


def _name(pointer: str) -> str:
    """`model_source`, or `source` of an adapter."""
    return pointer.rsplit("/", 1)[-1]
