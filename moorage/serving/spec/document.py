"""A body read strictly: bytes → one mapping of plain JSON values, or one clear fault.

What could expand, hide or run something is refused while it is being read: aliases, tags, duplicate keys, several
documents, deep nesting. YAML comes as a stream of events and is put together without recursion, so that no text of the
permitted size can exhaust memory or the stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from moorage.serving.spec.faults import SpecError
from moorage.serving.spec.scalars import float_of, int_of

__all__ = ["BODY_BYTES", "DEEPEST", "read_document"]

BODY_BYTES = 256 * 1024
DEEPEST = 32
"""Mappings and lists inside each other, the outermost one counted."""

YAML_TYPES = frozenset({"", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
JSON_TYPES = frozenset({"application/json"})
PATCH_TYPES = frozenset({"application/merge-patch+json"})
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


def read_document(body: bytes, content_type: str | None, *, patch: bool = False) -> dict[str, Any]:
    """The mapping in `body`: text, whole numbers, finite numbers, true, false, null, lists and mappings; and
    `scalars.Unclear` for what stands for no value (`check_spec` refuses it with its place).

    `content_type` is the header as it came; None or "" means YAML. `patch`: `application/merge-patch+json` is taken
    too. Raises SpecError with the status 400, 413 or 415, and nothing else.
    """
    kind = _media_type(content_type)
    is_json = kind in JSON_TYPES or (patch and kind in PATCH_TYPES)
    if not is_json and kind not in YAML_TYPES:
        raise SpecError(
            f"the content type {kind[:100]!r} is neither YAML nor JSON",
            code="unsupported_media_type",
            hint="send application/yaml or application/json",
            status=415,
        )
    if len(body) > BODY_BYTES:
        raise SpecError(
            f"the body has {len(body)} bytes, and {BODY_BYTES} is the most", code="body_too_large", status=413
        )
    text = _text(body)
    value = _read_json(text) if is_json else _read_yaml(text)
    if not isinstance(value, dict):
        raise SpecError(f"the document is {_kind(value)}, not a mapping of fields to values", code="not_a_mapping")
    _check_values(value)
    return value


def _media_type(content_type: str | None) -> str:
    kind, _, parameters = (content_type or "").partition(";")
    for parameter in parameters.split(";"):
        name, _, charset = parameter.partition("=")
        if name.strip().lower() == "charset" and charset.strip(' "').lower() not in CHARSETS:
            raise SpecError(
                f"the charset {charset.strip()[:40]!r} is not taken",
                code="unsupported_media_type",
                hint="send UTF-8",
                status=415,
            )
    return kind.strip().lower()


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise SpecError(f"the body is not UTF-8: {problem.reason} at byte {problem.start}", code="not_utf8") from None
    if not text.strip():
        raise SpecError("the body is empty", code="empty_document", hint="send a mapping of fields to values")
    return text


def _read_json(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=int_of, parse_float=float_of
        )
    except json.JSONDecodeError as problem:
        raise SpecError(
            f"the body is not JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}", code="invalid_json"
        ) from None
    except RecursionError:
        raise _too_deep() from None


def _read_yaml(text: str) -> Any:
    from moorage.serving.spec.yaml_events import read_yaml

    return read_yaml(text, DEEPEST)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise SpecError(f"the key {key[:80]!r} is there twice", code="duplicate_key")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise SpecError(f"{name} is not a number that JSON has", code="not_finite")


def _check_values(document: dict[str, Any]) -> None:
    """What neither language rules out by itself: depth, and text that is no Unicode."""
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        below: list[Any] = []
        for value in level:
            inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            for item in inside:
                if isinstance(item, (dict, list)):
                    below.append(item)
                else:
                    _check_text(item)
        if depth > DEEPEST:
            raise _too_deep()
        level = below


def _check_text(value: Any) -> None:
    if isinstance(value, str) and not _is_unicode(value):
        raise SpecError("a text in the body holds half a character (a lone surrogate)", code="not_unicode")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep() -> SpecError:
    return SpecError(f"the document is nested deeper than {DEEPEST} levels", code="too_deep")


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a single value"
