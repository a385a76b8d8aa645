"""Checks of the skill files and manifests: front matter, length, links, versions.

The rules are those of the open Agent Skills specification, plus this project's: a skill stays under 5,000 tokens and
its relative links lead somewhere.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from moorage.catalog.locations import Document, Fault, parse_yaml, read_document, read_text
from moorage.catalog.shape_faults import nearest

SKILL_NAME = "moorage"
"""The bundle's own skill, whatever a checkout's folder is called."""
PLATFORM_SKILLS = "skills/platform/*/SKILL.md"
MANIFESTS = (".claude-plugin/plugin.json", ".claude-plugin/marketplace.json")
FRONT_MATTER_KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
LONGEST_NAME = 64
LONGEST_DESCRIPTION = 1024
LONGEST_COMPATIBILITY = 500
TOKEN_LIMIT = 5000
CHARACTERS_PER_TOKEN = 4  # of English prose; an estimate that needs no tokenizer

_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_INLINE_CODE = re.compile(r"(`+).*?\1")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'(][^)]*)?\)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_TOML_LINE = re.compile(r"line (\d+)")


def skill_files(root: Path) -> list[str]:
    """The bundle's skill and those of its platforms, relative to `root`; the first is required."""
    platforms = sorted(path.relative_to(root).as_posix() for path in root.glob(PLATFORM_SKILLS))
    return ["SKILL.md", *platforms]


def skill_faults(root: Path, file: str) -> list[Fault]:
    """Every fault of one skill file."""
    text = read_text(root, file)
    if text is None:
        return [Fault(file=file, line=1, pointer="", message="the file is missing")]
    if isinstance(text, Fault):
        return [text]
    wanted = SKILL_NAME if file == "SKILL.md" else Path(file).parent.name
    faults = list(_front_matter_faults(file, text, wanted))
    tokens = -(-len(text) // CHARACTERS_PER_TOKEN)
    if tokens >= TOKEN_LIMIT:
        hint = "move details to a file of their own and link to it"
        faults.append(_at(file, 1, f"about {tokens} tokens, and a skill stays under {TOKEN_LIMIT}", hint))
    return faults + list(_link_faults(root, file, text))


def manifest_files(root: Path) -> list[str]:
    """The plugin manifests that are there; none is required."""
    return [file for file in MANIFESTS if (root / file).is_file()]


def manifest_faults(root: Path, file: str, version: str | None) -> list[Fault]:
    """Every fault of one manifest: its version is the project's, its skills exist. None: no version to compare with."""
    document = read_document(root, file)
    if document is None:
        return []
    if document.faults or not isinstance(document.value, dict):
        return list(document.faults) or [document.fault((), "the manifest is no object")]
    found = list(_version_faults(document, (), document.value, version)) + list(_path_faults(root, document, ()))
    for index, plugin in enumerate(_list(document.value.get("plugins"))):
        if isinstance(plugin, dict):
            found += _version_faults(document, ("plugins", index), plugin, version)
            found += _path_faults(root, document, ("plugins", index))
    return found


def project_version(root: Path) -> tuple[str | None, list[Fault]]:
    """The version in pyproject.toml; None where there is no such file, as in an installed bundle."""
    text = read_text(root, "pyproject.toml")
    if text is None:
        return None, []
    if isinstance(text, Fault):
        return None, [text]
    try:
        version = tomllib.loads(text).get("project", {}).get("version")
    except ValueError as problem:  # also of a number with thousands of digits
        line = _TOML_LINE.search(str(problem))
        return None, [_at("pyproject.toml", int(line[1]) if line else 1, f"not TOML: {problem}")]
    return (version, []) if isinstance(version, str) else (None, [_at("pyproject.toml", 1, "it has no version")])


def _front_matter_faults(file: str, text: str, wanted: str) -> Iterator[Fault]:
    found = _FRONT_MATTER.match(text)
    if found is None:
        yield _at(file, 1, "no front matter", "begin with a line ---, name and description, and a line ---")
        return
    document = parse_yaml(file, found["yaml"], first_line=2)
    yield from document.faults
    if isinstance(document.value, dict):
        yield from _key_faults(document, document.value, wanted)
    elif not document.faults:
        yield document.fault((), "the front matter is no mapping", "write name: and description:")
    if not text[found.end() :].strip():
        yield _at(file, text.count("\n") + 1, "no text after the front matter", "say what to do")


def _key_faults(document: Document, values: dict[Any, Any], wanted: str) -> Iterator[Fault]:
    for key in values:
        if key not in FRONT_MATTER_KEYS:
            message = f"unknown key {str(key)!r}"
            yield document.fault((str(key),), message, nearest(str(key), list(FRONT_MATTER_KEYS)))
    yield from _name_faults(document, values, wanted)
    yield from _text_faults(document, values)
    metadata = values.get("metadata", {})
    if not isinstance(metadata, dict):
        yield document.fault(("metadata",), "metadata is no mapping", "write key: text")
        return
    for key, value in metadata.items():
        if not isinstance(value, str):
            yield document.fault(("metadata", str(key)), f"metadata {str(key)!r} is no text", "quote it")


def _text_faults(document: Document, values: dict[Any, Any]) -> Iterator[Fault]:
    """`description` is there, and the others are texts when they are."""
    for key, longest in (("description", LONGEST_DESCRIPTION), ("compatibility", LONGEST_COMPATIBILITY)):
        value = values.get(key, "" if key == "description" else "not given")
        if not isinstance(value, str) or not value.strip():
            yield document.fault((key,), f"{key} is missing or no text", "say what the skill does and when to use it")
        elif len(value) > longest:
            yield document.fault((key,), f"{key} has {len(value)} characters, and may have {longest}", "shorten it")
    for key in ("license", "allowed-tools"):
        if not isinstance(values.get(key, ""), str):
            yield document.fault((key,), f"{key} is no text", "quote it")


def _name_faults(document: Document, values: dict[Any, Any], wanted: str) -> Iterator[Fault]:
    name = values.get("name")
    if not isinstance(name, str):
        yield document.fault(("name",), "name is missing or no text", f"write name: {wanted}")
    elif name != wanted:
        yield document.fault(("name",), f"the name is {name!r}, and must be {wanted!r}", f"write name: {wanted}")
    elif not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        hint = f"lower-case letters and digits, joined by single hyphens, at most {LONGEST_NAME} characters"
        yield document.fault(("name",), f"{name!r} is no name for a skill", hint)


def _link_faults(root: Path, file: str, text: str) -> Iterator[Fault]:
    """Relative links whose target is not there, or outside the bundle. Code is not looked at."""
    folder, prose = (root / file).parent, _prose(text)
    for link in _LINK.finditer(prose):
        target, line = link[1], prose.count("\n", 0, link.start(1)) + 1
        path = unquote(re.split(r"[#?]", target, maxsplit=1)[0])
        if not path or _SCHEME.match(target):
            continue
        place = (folder / path).resolve()
        if not place.is_relative_to(root.resolve()):
            yield _at(file, line, f"the link {target} leaves the bundle", "link inside the bundle, or write a URL")
        elif not place.exists():
            yield _at(file, line, f"the link {target} leads nowhere", "correct the path")


def _prose(text: str) -> str:
    """The text line by line, with fenced and inline code taken out."""
    lines: list[str] = []
    fence: str | None = None
    for line in text.split("\n"):
        found = _FENCE.match(line)
        lines.append("" if fence or found else _INLINE_CODE.sub("", line))
        if fence is None:
            fence = found[1] if found else None
        elif found and found[1].startswith(fence) and not line.strip(" `~\r"):
            fence = None
    return "\n".join(lines)


def _version_faults(
    document: Document, place: tuple[str | int, ...], values: dict[str, Any], version: str | None
) -> Iterator[Fault]:
    metadata = values.get("metadata")
    holders = [(place, values), ((*place, "metadata"), metadata if isinstance(metadata, dict) else {})]
    for at, holder in holders:
        if version is not None and "version" in holder and holder["version"] != version:
            message = f"the version is {holder['version']!r}, and pyproject.toml says {version!r}"
            yield document.fault((*at, "version"), message, f"write {version}")


def _path_faults(root: Path, document: Document, place: tuple[str | int, ...]) -> Iterator[Fault]:
    """Skills that a manifest lists, from the bundle's root, are folders that hold a skill."""
    holder: Any = document.value
    for part in place:
        holder = holder[part]
    skills = holder.get("skills")
    for index, path in enumerate(_list(skills)):
        at = (*place, "skills", index) if isinstance(skills, list) else (*place, "skills")
        if not isinstance(path, str):
            yield document.fault(at, "a skill is given by its path", "write a path from the bundle's root, as ./")
            continue
        folder = root / path
        if not (folder / "SKILL.md").is_file() and not any(folder.glob("*/SKILL.md")):
            yield document.fault(at, f"there is no skill in {path!r}", "give a folder that holds SKILL.md")


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _at(file: str, line: int, message: str, hint: str = "") -> Fault:
    return Fault(file=file, line=line, pointer="", message=message, hint=hint)
