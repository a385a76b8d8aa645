"""`moor validate`: every fault of every reference file, skill and manifest, all at once.

Files are checked one by one against their shapes, then against each other; nothing stops at the first fault. With
`check`, what is generated (schemas, tables) must be fresh too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moorage.catalog import schemas, tables
from moorage.catalog.crosschecks import cross_faults
from moorage.catalog.locations import Document, Fault, Parts, read_document
from moorage.catalog.reading import REQUEST, TEMPLATES, Reading, read_all
from moorage.catalog.shapes import CodeExample, CodeTemplate
from moorage.catalog.skill_checks import (
    manifest_faults,
    manifest_files,
    project_version,
    skill_faults,
    skill_files,
)
from moorage.errors import UsageError

Block = CodeTemplate | CodeExample


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What was looked at and what is wrong with it."""

    files: int
    """How many files were read."""
    faults: tuple[Fault, ...]
    """By file, then line."""


def validate(root: Path, check: bool = False) -> ValidationReport:
    """Check the bundle or checkout at `root`. `check`: generated files must be fresh too. Raises nothing for faults."""
    reading = read_all(root)
    faults = [*reading.faults, *reading.missing_sidecars.values(), *cross_faults(reading), *_code_faults(reading)]
    files = set(reading.documents)
    for file in _other_files(root, files):
        document = read_document(root, file)
        files.add(file)
        faults += document.faults if document else ()
    for file in skill_files(root):
        files.add(file)
        faults += skill_faults(root, file)
    version, version_faults = project_version(root)
    faults += version_faults
    for file in manifest_files(root):
        files.add(file)
        faults += manifest_faults(root, file, version)
    if check:
        files |= {*schemas.schema_texts(), *tables.documents(root)}
        faults += [*schemas.drift(root), *_stale_tables(root)]
    unique = dict.fromkeys(faults)
    ordered = sorted(unique, key=lambda fault: (fault.file, fault.line, fault.pointer, fault.message))
    present = [file for file in files if (root / file).is_file()]
    return ValidationReport(files=len(present), faults=tuple(ordered))


def _other_files(root: Path, known: set[str]) -> list[str]:
    """YAML and JSON of the references that has no shape: it must be readable at least."""
    found = (path for pattern in ("*.yaml", "*.yml", "*.json") for path in (root / "references").rglob(pattern))
    return sorted({path.relative_to(root).as_posix() for path in found} - known)


def _stale_tables(root: Path) -> list[Fault]:
    try:
        return tables.stale_tables(root)
    except UsageError:
        return []  # the references have faults, which are told already


def _code_faults(reading: Reading) -> Iterator[Fault]:
    """Python in the references compiles; blocks in other languages are run by tests."""
    for file, places in ((TEMPLATES, _template_blocks(reading)), (REQUEST, _example_blocks(reading))):
        for place, block in places:
            if block.language == "python":
                yield from _compile_faults(reading.documents[file], place, block.code)


def _template_blocks(reading: Reading) -> Iterator[tuple[Parts, Block]]:
    for section in ("job_payload_builder", "registry_write", "stop", "request"):
        for name, block in (reading.section(TEMPLATES, section) or {}).items():
            yield (section, name), block
    readiness_check = reading.section(TEMPLATES, "readiness_check")
    if readiness_check is not None:
        yield ("readiness_check",), readiness_check


def _example_blocks(reading: Reading) -> Iterator[tuple[Parts, Block]]:
    for name, block in (reading.section(REQUEST, "code_examples") or {}).items():
        yield ("code_examples", name), block


def _compile_faults(document: Document, place: Parts, code: str) -> Iterator[Fault]:
    at = (*place, "code")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            compile(code, document.file, "exec", dont_inherit=True)
    except SyntaxError as problem:
        fault = document.fault(at, f"not Python: {problem.msg} (line {problem.lineno} of the block)")
        line = fault.line + (problem.lineno or 0)  # the text begins on the line below `code: |`
        yield Fault(file=fault.file, line=line, pointer=fault.pointer, message=fault.message, hint="")
    except (ValueError, MemoryError, RecursionError) as problem:  # a NUL, or nested deeper than the parser goes
        yield document.fault(at, f"not Python: {str(problem) or 'nested too deeply'}")
