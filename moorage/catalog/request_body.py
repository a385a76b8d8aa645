"""Bodies of chat completions: building one, and checking one that a person wrote before it is sent.

What a server would refuse with an error that is hard to read is refused here with one that is not; what no arch's rules
speak of passes untouched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import urlsplit

from moorage.catalog.model_path import shown
from moorage.catalog.sampling import check_values, known_fields
from moorage.errors import UsageError

if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog
    from moorage.catalog.shapes import ArchRequestRules

MediaKind = Literal["image", "video"]

INLINE_MEDIA_BYTES = 512 * 1024 * 1024
"""What TAO's container servers take in one `data:` URI, by its encoded length times 3/4."""
SHORTEST_SECRET = 8
"""A shorter value would be found by chance."""

_MORE_ROLES = frozenset({"assistant", "tool", "developer", "function"})
"""Roles of the OpenAI chat API beside those of the reference: the engines read them, the TAO servers pass them over."""
_KINDS: dict[str, MediaKind] = {"image_url": "image", "video_url": "video"}
_DATA_SHAPE = "data:<mime>;base64,<data>"


@dataclass(frozen=True, slots=True)
class MediaItem:
    """An image or a video as the server gets it."""

    kind: MediaKind
    url: str
    """`http(s)://…` or `data:<mime>;base64,…`"""


@dataclass(frozen=True, slots=True)
class _Place:
    """A media item of a body: where it is, what it is."""

    message: int
    pointer: str
    kind: MediaKind
    url: str


def build_body(
    catalog: Catalog,
    arch: str,
    *,
    model: str | None,
    prompt: str | None,
    system: str | None,
    media: Sequence[MediaItem],
    values: Mapping[str, object],
) -> dict[str, Any]:
    """The body: media first and text last; plain text when there is no media. `cross_check` checks it.

    `model` is the served name, None when it is not known. A prompt of None with media sends the media alone. Raises
    UsageError `bad_text` for text that cannot be sent: undecodable bytes of a command line.
    """
    _check_text({"the prompt": prompt, "the system prompt": system, **values})
    rules = catalog.rules(arch)
    body: dict[str, Any] = {"model": model} if rules.sends_model and model is not None else {}
    messages: list[dict[str, Any]] = []
    if system is not None:
        messages.append({"role": "system", "content": system})
    items: list[dict[str, Any]] = [
        {"type": f"{item.kind}_url", f"{item.kind}_url": {"url": item.url}} for item in media
    ]
    if items and prompt is not None:
        items.append({"type": "text", "text": prompt})
    messages.append({"role": "user", "content": items or prompt or ""})
    return {**body, "messages": messages, **values}


def cross_check(catalog: Catalog, arch: str, body: Any) -> list[str]:
    """Warnings about the parsed body. Raises UsageError for what the arch's server could not answer.

    Codes: `bad_body` (shape), `unsupported_field` and `bad_value` (sampling), `bad_media`, `media_required`.
    """
    arch = catalog.require_arch(arch)
    rules = catalog.rules(arch)
    if not isinstance(body, dict):
        _bad_body("the body is not a JSON object")
    if not body:
        _bad_body("the body is an empty object")
    messages = _messages(catalog, arch, body)
    tao = catalog.command(arch).family == "tao"
    known = known_fields(catalog)
    given = {name: value for name, value in body.items() if name in known and (tao or value is not None)}
    check_values(catalog, arch, given)
    places = [place for index, message in enumerate(messages) for place in _media_of(index, message)]
    for place in places:
        _check_media(arch, rules, place, tao=tao)
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    _check_media_present(arch, rules, users, places)
    return _unread(catalog, arch, messages, places) if rules.first_user_message_only else []


def find_secret(body: Any, secrets: Mapping[str, str]) -> str | None:
    """The name of the first variable whose value is in the body; None when none is.

    `body` is what will be sent (bytes or text) or its parsed form. Found in keys, values and numbers, and behind JSON's
    escapes; values shorter than 8 characters are not looked for, nor is what base64 hides.
    """
    wanted = {name: value.strip() for name, value in secrets.items() if len(value.strip()) >= SHORTEST_SECRET}
    if not wanted:
        return None
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if not isinstance(raw, bytes | bytearray):
        return _first_in(wanted, list(_texts(raw)))
    for name, value in wanted.items():
        if value.encode("utf-8", "surrogatepass") in raw:
            return name
    try:
        # Pairs and not a dict: of a key that is there twice, a dict keeps the last value alone.
        parsed = json.loads(raw, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    return _first_in(wanted, list(_texts(parsed)))


def _check_text(texts: Mapping[str, object]) -> None:
    for name, text in texts.items():
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(f"{name} is not valid Unicode text", code="bad_text", hint="write it in UTF-8")


def _first_in(wanted: Mapping[str, str], texts: list[str]) -> str | None:
    return next((name for name, value in wanted.items() if any(value in text for text in texts)), None)


def _texts(parsed: Any) -> Iterator[str]:
    """Every string and number of a parsed body, as text. No recursion: bodies may be nested deeply."""
    waiting = [parsed]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield json.dumps(value) if _short(value) else hex(int(value))


def _short(value: float) -> bool:
    """Whether the number can be written: Python refuses to spell out an integer of thousands of digits."""
    return isinstance(value, float) or value.bit_length() < 4096


def _messages(catalog: Catalog, arch: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _bad_body("the body has no list of messages with at least one in it")
    for index, message in enumerate(messages):
        _check_message(catalog, arch, f"messages[{index}]", message)
    return messages


def _check_message(catalog: Catalog, arch: str, pointer: str, message: Any) -> None:
    if not isinstance(message, dict):
        _bad_body(f"{pointer} is not an object")
    role, content = message.get("role"), message.get("content")
    roles = catalog.request.chat_completions_request_body.roles
    if not isinstance(role, str) or (role not in roles and role not in _MORE_ROLES):
        _bad_body(f"{pointer}.role is no role of a chat", f"one of: {', '.join([*roles, *sorted(_MORE_ROLES)])}")
    if isinstance(content, str) or (content is None and role in _MORE_ROLES):
        return
    if not isinstance(content, list) or not content:
        _bad_body(f"{pointer}.content is neither text nor a list of items with at least one in it")
    for number, item in enumerate(content):
        _check_item(catalog, arch, f"{pointer}.content[{number}]", item)


def _check_item(catalog: Catalog, arch: str, pointer: str, item: Any) -> None:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        _bad_body(f"{pointer} is not an object with a type")
    kind = item["type"]
    if kind == "text":
        if not isinstance(item.get("text"), str):
            _bad_body(f"{pointer}.text is not text", 'write {"type": "text", "text": "…"}')
        return
    if kind in _KINDS:
        holder = item.get(kind)
        if not isinstance(holder, dict) or not isinstance(holder.get("url"), str):
            _bad_body(f"{pointer}.{kind}.url is not text", f'write {{"type": "{kind}", "{kind}": {{"url": "…"}}}}')
        return
    known = [entry.type for entry in catalog.request.chat_completions_request_body.content_items]
    if catalog.command(arch).family == "tao":
        _bad_body(f"{pointer}.type is not one that arch {arch} reads", f"one of: {', '.join(known)}")


def _media_of(index: int, message: Mapping[str, Any]) -> Iterator[_Place]:
    content = message.get("content")
    for number, item in enumerate(content if isinstance(content, list) else []):
        if item["type"] in _KINDS:
            pointer = f"messages[{index}].content[{number}]"
            yield _Place(index, pointer, _KINDS[item["type"]], item[item["type"]]["url"])


def _check_media(arch: str, rules: ArchRequestRules, place: _Place, *, tao: bool) -> None:
    scheme = place.url.partition(":")[0].lower()
    if scheme == "data":
        _check_data_uri(arch, rules, place, tao=tao)
    elif scheme in rules.refused_uri_schemes:
        _bad_media(place, f"is in cloud storage ({shown(place.url)}), which the server cannot read")
    elif scheme not in ("http", "https") or not _has_host(place.url):
        _bad_media(place, f"is neither an http(s) URL nor a data: URI: {shown(place.url)}")


def _check_data_uri(arch: str, rules: ArchRequestRules, place: _Place, *, tao: bool) -> None:
    header, comma, payload = place.url.partition(",")
    mime, *parameters = header[len("data:") :].split(";")
    if not comma or not payload or not parameters or parameters[-1] != "base64":
        _bad_media(place, f"is not a base64 data: URI with something in it: write {_DATA_SHAPE}")
    if tao and (len(parameters) > 1 or not place.url.startswith("data:")):
        _bad_media(place, f"has parameters or capitals that the server does not read: write {_DATA_SHAPE}")
    taken = accepted_mime_types(rules, place.kind)
    if tao and mime not in taken:
        _bad_media(place, f"has the type {mime[:60]!r}; arch {arch} takes as {place.kind}: {', '.join(taken)}")
    if not mime.lower().startswith(f"{place.kind}/"):
        _bad_media(place, f"has the type {mime[:60]!r}, which is no {place.kind}")
    if tao and len(payload) * 3 // 4 > INLINE_MEDIA_BYTES:
        _bad_media(place, f"is larger than {INLINE_MEDIA_BYTES >> 20} MiB, which the server does not take inline")


def accepted_mime_types(rules: ArchRequestRules, kind: MediaKind) -> list[str]:
    """The types of `data:` URIs that the reference names for a kind of media. The engines read more than these."""
    suffixes = rules.image_suffixes if kind == "image" else rules.video_suffixes
    return list(dict.fromkeys(rules.mime_types[suffix] for suffix in suffixes if suffix in rules.mime_types))


def _check_media_present(arch: str, rules: ArchRequestRules, users: list[int], places: list[_Place]) -> None:
    if rules.first_user_message_only and not users:
        _bad_body("the body has no message of the role user", "add one: the server answers the first")
    if rules.media != "required":
        return
    read = users[:1] if rules.first_user_message_only else users
    if not any(place.message in read for place in places):
        raise UsageError(
            f"arch {arch} needs an image or a video in every request"
            + (", in the first user message" if rules.first_user_message_only else ""),
            code="media_required",
            hint="add --image FILE or --video FILE",
        )


def _unread(catalog: Catalog, arch: str, messages: list[dict[str, Any]], places: list[_Place]) -> list[str]:
    """What a server that reads the first user message alone will not read."""
    warnings = []
    roles = catalog.request.chat_completions_request_body.roles
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if len(users) > 1:
        warnings.append(f"the body has {len(users)} user messages, and arch {arch} answers the first alone")
    others = [f"messages[{index}]" for index, message in enumerate(messages) if message["role"] not in roles]
    if others:
        warnings.append(f"messages of a role that arch {arch} will not read: {', '.join(others)}")
    lost = [place.pointer for place in places if place.message != users[0]]
    if lost:
        warnings.append(f"media that arch {arch} will not read: {', '.join(lost)}")
    content = messages[users[0]]["content"]
    if isinstance(content, list) and sum(item["type"] == "text" for item in content) > 1:
        warnings.append(f"messages[{users[0]}] has several text items, and arch {arch} reads the last alone")
    return warnings


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _bad_body(message: str, hint: str = "see references/request.yaml for the shape of a body") -> NoReturn:
    raise UsageError(message, code="bad_body", hint=hint)


def _bad_media(place: _Place, reason: str) -> NoReturn:
    hint = "give a file with --image or --video, an http(s) URL, or a data: URI"
    raise UsageError(f"{place.kind} at {place.pointer} {reason}", code="bad_media", hint=hint)
