"""Model paths: which forms `--model-path` takes, and what each of the others is refused for.

Two forms are taken: `hf_model://<org>/<model>`, and an absolute path as the server sees it (inside the container, or
on this machine for a local process). Nothing here looks at a disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from moorage.errors import UsageError

HF_PREFIX = "hf_model://"
LONGEST_PATH_BYTES = 4096
"""PATH_MAX of Linux: a longer path cannot be opened there."""
SHOWN_CHARACTERS = 120

_CLOUD_SCHEMES = frozenset({"s3", "gs", "az", "cs", "aws"})
_HF_MISSPELT = frozenset({"hf", "hf_model", "hf-model", "hfmodel", "huggingface"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]+):")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_FILE_SUFFIX = re.compile(r".\.[A-Za-z][A-Za-z0-9]{0,15}$", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_EXAMPLES = (
    "write hf_model://<org>/<model> (as hf_model://Qwen/Qwen2.5-0.5B-Instruct) or an absolute path (as /models/m)"
)
_MOUNT_EXAMPLE = "--mount /data/m:/models/m:ro --model-path /models/m"


@dataclass(frozen=True, slots=True)
class ModelPath:
    """A model path that was found good."""

    text: str
    """As given, byte for byte."""
    form: Literal["hf_model", "absolute"]
    name: str
    """What a server takes that does not know the prefix: `org/model`, or the path itself."""


def parse_model_path(text: str) -> ModelPath:
    """The path, with its form. Raises UsageError `bad_model_path` with the reason and an example.

    `.` and empty components of an absolute path are left as they are: they name the same file. `..` is refused, since
    it can leave the folder that was mounted.
    """
    if not text:
        _refuse("the model path is empty", _EXAMPLES)
    _check_characters(text)
    if text.startswith("/"):
        return _absolute(text)
    if text.startswith(HF_PREFIX):
        return _hugging_face(text)
    _refuse_scheme(text)
    return _refuse_relative(text)


def folder_warning(sidecar_model_path: str, model_path: ModelPath) -> str | None:
    """What looks wrong between the path and what the arch's sidecar says of it; None when nothing does.

    A Hugging Face repository is always a folder, whatever dots its name has. An ending counts as a file's suffix when
    it begins with a letter, so that `/models/Qwen2.5` is a folder.
    """
    if model_path.form == "hf_model":
        return None
    last = _components(model_path.text)[-1]
    has_suffix = _FILE_SUFFIX.search(last) is not None
    if "folder" in sidecar_model_path and has_suffix:
        return f"model path {shown(model_path.text)} looks like a file, but this arch takes a folder"
    if "folder" not in sidecar_model_path and not has_suffix:
        return f"model path {shown(model_path.text)} looks like a folder, but this arch takes a file"
    return None


def served_model_name(model_path: ModelPath) -> str:
    """The name that requests use for the model: `org/model`, or the last component of an absolute path.

    Control characters, a `:` (SGLang reads `model:adapter`) and a leading `-` (an option, to the server's command line)
    become `_`.
    """
    if model_path.form == "hf_model":
        return model_path.name
    name = _UNPRINTABLE.sub("_", _components(model_path.text)[-1]).replace(":", "_")
    return f"_{name[1:]}" if name.startswith("-") else name


def shown(text: str) -> str:
    """A path or URI for a message: quoted, escaped, cut short, and without the credentials that a URI may carry."""
    if "://" in text:
        scheme, _, rest = text.partition("://")
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
        authority, slash, path = rest.partition("/")
        text = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")


def encodable(text: str) -> bool:
    """Whether an operating system can take the text as an argument or a file name: no NUL, no lone surrogate."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _check_characters(text: str) -> None:
    if "\x00" in text:
        _refuse(f"model path {shown(text)} holds a NUL character, which no file name can", _EXAMPLES)
    if not encodable(text):
        _refuse(f"model path {shown(text)} is not valid Unicode text", f"rename the file; {_EXAMPLES}")
    if len(text.encode()) > LONGEST_PATH_BYTES:
        _refuse(f"the model path is longer than {LONGEST_PATH_BYTES} bytes", _EXAMPLES)


def _absolute(text: str) -> ModelPath:
    components = _components(text)
    if not components:
        _refuse(f"model path {shown(text)} is the root folder", _EXAMPLES)
    if ".." in components:
        _refuse(
            f"model path {shown(text)} has a '..' component, which can leave the folder that is mounted",
            "write the path that it stands for, as /models/m",
        )
    return ModelPath(text, "absolute", text)


def _components(text: str) -> list[str]:
    return [part for part in text.split("/") if part not in ("", ".")]


def _hugging_face(text: str) -> ModelPath:
    name = text.removeprefix(HF_PREFIX)
    if not _is_repo_id(name):
        _refuse(
            f"model path {shown(text)} does not name a Hugging Face model",
            f"write exactly {HF_PREFIX}<org>/<model>, each of letters, digits, '.', '_' and '-', at most 96 characters "
            "and with a letter, digit or '_' at both ends (as hf_model://Qwen/Qwen2.5-0.5B-Instruct)",
        )
    return ModelPath(text, "hf_model", name)


def _is_repo_id(name: str) -> bool:
    """The grammar of huggingface_hub, with the organisation required."""
    parts = name.split("/")
    if len(parts) != 2 or name.endswith(".git"):
        return False
    return all(_REPO_PART.fullmatch(part) and ".." not in part and "--" not in part for part in parts)


def _refuse_scheme(text: str) -> None:
    found = _SCHEME.match(text)
    if found is None:
        return
    scheme = found.group(1).lower()
    rest = text[found.end() :].lstrip("/")
    if scheme in _CLOUD_SCHEMES:
        _refuse(
            f"model path {shown(text)} is in cloud storage, which the server cannot read",
            f"download it and mount it ({_MOUNT_EXAMPLE}), or use hf_model://<org>/<model>",
        )
    if scheme in _HF_MISSPELT:
        repository = rest if _is_repo_id(rest) else "<org>/<model>"
        _refuse(f"model path {shown(text)} has the wrong prefix", f"write {HF_PREFIX}{repository}")
    if scheme == "file":
        _refuse(f"model path {shown(text)} is a URI, and the server takes a path", "write the path alone, as /models/m")
    if text[found.end() :].startswith("/"):
        _refuse(f"model path {shown(text)} has the prefix {scheme}://, which the server cannot read", _EXAMPLES)


def _refuse_relative(text: str) -> NoReturn:
    if _is_repo_id(text):
        _refuse(f"model path {text!r} has neither a prefix nor a leading /", f"did you mean {HF_PREFIX}{text}?")
    _refuse(f"model path {shown(text)} is relative, and the server runs in another folder", _EXAMPLES)


def _refuse(message: str, hint: str) -> NoReturn:
    raise UsageError(message, code="bad_model_path", hint=hint)
