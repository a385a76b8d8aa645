"""Media of requests and replies: files into `data:` URIs, and `data:` URIs into files."""

from __future__ import annotations

import base64
import binascii
import contextlib
import mimetypes
import os
import re
import secrets
import stat
from pathlib import Path

from moorage.catalog.model_path import encodable, shown
from moorage.catalog.request_body import INLINE_MEDIA_BYTES, MediaItem, MediaKind
from moorage.catalog.shapes import ArchRequestRules
from moorage.errors import FailedError, UsageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_REPLY = re.compile(r"data:([A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+)(?:;[^;,]*)*;base64,")
_PLAIN_SUBTYPE = re.compile(r"[a-z0-9]{1,12}")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NAMES_TRIED = 1000


def load_media(path_or_uri: str, kind: MediaKind, rules: ArchRequestRules) -> MediaItem:
    """The item to send: http(s) URLs and `data:` URIs as they are, a file as a `data:` URI.

    Raises UsageError `bad_media` for anything that the server could not read: a cloud URI, no such file, a folder, an
    empty or unreadable file, a suffix that the arch does not take, more than 512 MiB.
    """
    if path_or_uri.startswith("data:"):
        return MediaItem(kind, path_or_uri)
    scheme = _SCHEME.match(path_or_uri)
    if scheme and scheme.group(1).lower() in ("http", "https"):
        return MediaItem(kind, path_or_uri)
    taken = rules.image_suffixes if kind == "image" else rules.video_suffixes
    if scheme:
        cloud = scheme.group(1).lower() in rules.refused_uri_schemes
        reason = "is in cloud storage, which the server cannot read" if cloud else "has a scheme that nobody can read"
        raise _bad(kind, path_or_uri, reason, taken)
    content = _content_of(path_or_uri, kind, taken)
    suffix = Path(path_or_uri).suffix.lower()
    if suffix not in taken or suffix not in rules.mime_types:
        raise _bad(kind, path_or_uri, f"has the suffix {suffix!r}, which the server does not take", taken)
    if (len(content) + 2) // 3 * 3 > INLINE_MEDIA_BYTES:
        raise _too_large(kind, path_or_uri, taken)
    return MediaItem(kind, f"data:{rules.mime_types[suffix]};base64,{base64.b64encode(content).decode()}")


def is_media_reply(content: str) -> bool:
    """Whether the text of a reply is a media `data:` URI."""
    return _REPLY.match(content) is not None


def check_output_target(target: Path | None, cwd: Path) -> None:
    """Raises UsageError when a reply could not be saved there: worth asking before an expensive request is sent."""
    place = cwd if target is None else (cwd / target).parent
    hint = "give --output a file in a folder that exists and that you may write to"
    if target is not None and (cwd / target).is_dir():
        raise UsageError(f"--output {shown(str(target))} is a folder", code="bad_output", hint=hint)
    if not place.is_dir():
        raise UsageError(f"the folder of the output, {shown(str(place))}, does not exist", code="bad_output", hint=hint)
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"the folder of the output, {shown(str(place))}, is read-only", code="bad_output", hint=hint)


def save_media_reply(content: str, target: Path | None, cwd: Path, name_hint: str) -> Path:
    """Write a reply that is a `data:` URI to a file, whole or not at all, and tell its absolute path.

    `target` is replaced when it exists. None: `name_hint` with a fitting suffix in `cwd`, numbered rather than written
    over a file. Raises FailedError for a reply that is no proper media URI, or when the disk refuses it.
    """
    check_output_target(target, cwd)
    mime, payload = _decoded(content)
    try:
        final = _reserve(cwd, name_hint, _suffix_for(mime)) if target is None else cwd / target
        _write_whole(final, payload)
    except OSError as fault:
        raise FailedError(
            f"the reply could not be saved: {fault.strerror or fault}",
            code="output_not_written",
            hint="free some space or give --output another file, then ask again",
        ) from fault
    return Path(os.path.abspath(final))  # noqa: PTH100  Path.resolve would follow the user's symlinks


def _content_of(path: str, kind: MediaKind, taken: list[str]) -> bytes:
    if not path or not encodable(path):
        raise _bad(kind, path, "is no path", taken)
    try:
        # Not blocking, so that a named pipe without a writer is refused and not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                reason = "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
                raise _bad(kind, path, reason, taken)
            if status.st_size > INLINE_MEDIA_BYTES:
                raise _too_large(kind, path, taken)
            content = file.read(INLINE_MEDIA_BYTES + 1)
    except OSError as fault:
        raise _bad(kind, path, f"cannot be read: {fault.strerror or fault}", taken) from fault
    if not content:
        raise _bad(kind, path, "is empty", taken)
    return content


def _too_large(kind: MediaKind, path: str, taken: list[str]) -> UsageError:
    return _bad(kind, path, f"is larger than {INLINE_MEDIA_BYTES >> 20} MiB, which the server does not take", taken)


def _bad(kind: MediaKind, path_or_uri: str, reason: str, taken: list[str]) -> UsageError:
    files = f"a file ({', '.join(taken)})" if taken else "nothing: this arch takes none"
    return UsageError(
        f"{kind} {shown(path_or_uri)} {reason}",
        code="bad_media",
        hint=f"--{kind} takes {files}" + (", an http(s) URL or a data: URI" if taken else ""),
    )


def _decoded(content: str) -> tuple[str, bytes]:
    found = _REPLY.match(content)
    if found is None:
        raise _bad_reply("is no data: URI with base64 in it")
    try:
        payload = base64.b64decode(content[found.end() :], validate=True)
    except (binascii.Error, ValueError) as fault:
        raise _bad_reply(f"is not proper base64: {fault}") from fault
    if not payload:
        raise _bad_reply("is empty")
    return found.group(1).lower(), payload


def _bad_reply(reason: str) -> FailedError:
    return FailedError(f"the media in the reply {reason}", code="bad_media_reply", hint="read the service's logs")


def _suffix_for(mime: str) -> str:
    """The usual suffix of a type, the same on every machine; for an unknown one its own name, else `.bin`."""
    # An instance knows Python's own tables only, not the files of the system; older Pythons lack Matroska.
    table = mimetypes.MimeTypes()
    table.add_type("video/x-matroska", ".mkv")
    usual = table.guess_extension(mime, strict=False)
    if usual:
        return usual
    subtype = mime.partition("/")[2].removeprefix("x-")
    return f".{subtype}" if _PLAIN_SUBTYPE.fullmatch(subtype) else ".bin"


def _reserve(folder: Path, name: str, suffix: str) -> Path:
    """Make an empty file of a name that nobody has, for `_write_whole` to replace."""
    for number in range(_NAMES_TRIED):
        candidate = folder / f"{name}{f'-{number}' if number else ''}{suffix}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(candidate, _NEW_FILE, 0o666))
            return candidate
    raise FileExistsError(None, f"{name}{suffix} and {_NAMES_TRIED - 1} numbered ones exist", str(folder))


def _write_whole(final: Path, payload: bytes) -> None:
    temporary = final.with_name(f".{final.name[:100]}.{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, _NEW_FILE, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
