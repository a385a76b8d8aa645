"""Checks of references/request.yaml against itself: defaults, ranges, flags, media types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from moorage.catalog.locations import Document, Fault, Parts
from moorage.catalog.reading import REQUEST, Reading
from moorage.catalog.shape_faults import nearest
from moorage.catalog.shapes import ArchRequestRules, RequestBody, SamplingField

Finding = tuple[Parts, str, str]
"""Place, message, hint."""

_FLAG = re.compile(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*")
_KINDS = {"integer": (int,), "number": (int, float), "string": (str,)}


def request_faults(reading: Reading) -> Iterator[Fault]:
    """Every fault of the file that its shape cannot show."""
    document: Document | None = reading.documents.get(REQUEST)
    body: RequestBody | None = reading.section(REQUEST, "chat_completions_request_body")
    rules: Mapping[str, ArchRequestRules] = reading.section(REQUEST, "network_arch_constraints") or {}
    if document is None:
        return
    for place, message, hint in _findings(body, rules):
        yield document.fault(place, message, hint)


def _findings(body: RequestBody | None, rules: Mapping[str, ArchRequestRules]) -> Iterator[Finding]:
    fields: list[tuple[Parts, str, SamplingField]] = []
    if body is not None:
        place = ("chat_completions_request_body", "fields")
        fields += [((*place, name), name, field) for name, field in body.fields.items()]
    for arch, rule in rules.items():
        place = ("network_arch_constraints", arch)
        fields += [((*place, "fields", name), name, field) for name, field in rule.fields.items()]
        yield from _media_findings(place, rule)
        if body is not None:
            yield from _unsupported_findings(place, rule, body)
    for at, _, field in fields:
        yield from _field_findings(at, field)
    yield from _flag_findings(fields)


def _field_findings(place: Parts, field: SamplingField) -> Iterator[Finding]:
    """The range is one, and the default is of the type and in the range."""
    bounds = [bound for bound in (field.minimum, field.exclusive_minimum, field.maximum) if bound is not None]
    if field.type == "string" and bounds:
        yield place, "a text has no range", "remove minimum and maximum"
        return
    if field.minimum is not None and field.exclusive_minimum is not None:
        yield (*place, "exclusive_minimum"), "minimum is here too", "keep one of them"
    lowest = field.minimum if field.minimum is not None else field.exclusive_minimum
    if lowest is not None and field.maximum is not None and not lowest < field.maximum:
        yield (*place, "maximum"), f"the range from {lowest:g} to {field.maximum:g} is empty", ""
    default = field.default
    if default is None:
        return
    if isinstance(default, bool) or not isinstance(default, _KINDS[field.type]):
        yield (*place, "default"), f"the default {default!r} is not of type {field.type}", ""
    elif not isinstance(default, str) and not _within(field, default):
        yield (*place, "default"), f"the default {default!r} is out of range", "a default must be a value that is taken"


def _within(field: SamplingField, value: float) -> bool:
    return (
        (field.minimum is None or value >= field.minimum)
        and (field.exclusive_minimum is None or value > field.exclusive_minimum)
        and (field.maximum is None or value <= field.maximum)
        and value == value  # not a number is equal to nothing
    )


def _flag_findings(fields: list[tuple[Parts, str, SamplingField]]) -> Iterator[Finding]:
    """A flag means the same field for every arch."""
    field_of: dict[str, str] = {}
    flag_of: dict[str, str] = {}
    for place, name, field in fields:
        if not _FLAG.fullmatch(field.flag):
            yield (*place, "flag"), f"{field.flag!r} is no flag", f"write --{name.replace('_', '-')}"
        elif field_of.setdefault(field.flag, name) != name:
            yield (*place, "flag"), f"{field.flag} is the flag of {field_of[field.flag]} too", "a flag sets one field"
        elif flag_of.setdefault(name, field.flag) != field.flag:
            message = f"{name} has the flag {flag_of[name]} elsewhere"
            yield (*place, "flag"), message, "a field has the same flag for every arch"


def _media_findings(place: Parts, rules: ArchRequestRules) -> Iterator[Finding]:
    """Every suffix has a media type of its kind, and every media type a suffix."""
    for key, kind, suffixes in (
        ("image_suffixes", "image", rules.image_suffixes),
        ("video_suffixes", "video", rules.video_suffixes),
    ):
        for index, suffix in enumerate(suffixes):
            mime_type = rules.mime_types.get(suffix)
            if mime_type is None:
                yield (*place, key, index), f"{suffix} has no entry in mime_types", "add it"
            elif not mime_type.startswith(kind + "/"):
                yield (*place, "mime_types", suffix), f"{suffix} is in {key}, but {mime_type!r} is no {kind}", ""
    for suffix in rules.mime_types:
        if suffix not in (*rules.image_suffixes, *rules.video_suffixes):
            yield (*place, "mime_types", suffix), f"{suffix} is no suffix of this arch", "remove it"


def _unsupported_findings(place: Parts, rules: ArchRequestRules, body: RequestBody) -> Iterator[Finding]:
    for index, name in enumerate(rules.unsupported_fields):
        at = (*place, "unsupported_fields", index)
        if name not in body.fields:
            yield at, f"{name!r} is no base field", nearest(name, list(body.fields))
        if name in rules.fields:
            yield at, f"{name!r} is in this arch's fields too", "an arch takes a field or it does not"
