"""Reading the reference files: every file as its shape, and every fault of each file by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from moorage.catalog.locations import Document, Fault, read_document
from moorage.catalog.shape_faults import check_shape, nearest, sound_sections
from moorage.catalog.shapes import CodeTemplates, RequestReference, ServiceReference, Shape, Sidecar, Versions

SERVICE = "references/service.yaml"
REQUEST = "references/request.yaml"
TEMPLATES = "references/code-templates.yaml"
VERSIONS = "versions.yaml"
SIDECAR_SUFFIX = ".config.json"

S = TypeVar("S", bound=Shape)


@dataclass(kw_only=True)
class Reading:
    """What could be read. A file with faults is None here, while its sound sections still count."""

    service: ServiceReference | None = None
    request: RequestReference | None = None
    versions: Versions | None = None
    templates: CodeTemplates | None = None
    """Read by `validate` alone."""
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    missing_sidecars: dict[str, Fault] = field(default_factory=dict)
    """Arch → the fault that its sidecar is not there; not in `faults`, since TAO's archs can do without."""
    documents: dict[str, Document] = field(default_factory=dict)
    """File → document, of every file that exists."""
    sections: dict[str, Any] = field(default_factory=dict)
    """`FILE:KEY` → value of every sound top-level key."""
    faults: list[Fault] = field(default_factory=list)

    def section(self, file: str, key: str) -> Any:
        """A sound top-level key of a file, as its shape says; None when it is not sound."""
        return self.sections.get(f"{file}:{key}")


def read_references(root: Path) -> Reading:
    """Read what `load_catalog` needs: everything but the code templates."""
    reading = Reading()
    reading.service = _read(reading, root, SERVICE, ServiceReference)
    reading.request = _read(reading, root, REQUEST, RequestReference)
    reading.versions = _read(reading, root, VERSIONS, Versions)
    for arch in reading.section(SERVICE, "valid_network_arch_config_basenames") or []:
        _read_sidecar(reading, root, arch)
    return reading


def read_templates(root: Path) -> tuple[CodeTemplates | None, list[Fault]]:
    """Read the code templates alone."""
    reading = Reading()
    return _read(reading, root, TEMPLATES, CodeTemplates), reading.faults


def read_all(root: Path) -> Reading:
    """Read every reference file, also sidecars that belong to no arch."""
    reading = read_references(root)
    reading.templates = _read(reading, root, TEMPLATES, CodeTemplates)
    archs = reading.section(SERVICE, "valid_network_arch_config_basenames")
    for path in sorted((root / "references").glob("*" + SIDECAR_SUFFIX)):
        arch = path.name.removesuffix(SIDECAR_SUFFIX)
        if sidecar_file(arch) in reading.documents:
            continue
        _read_sidecar(reading, root, arch)
        if archs is not None:
            message = f"{arch!r} is not in valid_network_arch_config_basenames"
            reading.faults.append(reading.documents[sidecar_file(arch)].fault((), message, nearest(arch, archs)))
    return reading


def sidecar_file(arch: str) -> str:
    """Where the sidecar of `arch` is."""
    return f"references/{arch}{SIDECAR_SUFFIX}"


def _read(reading: Reading, root: Path, file: str, shape: type[S]) -> S | None:
    document = read_document(root, file)
    if document is None:
        hint = "is this a checkout of moorage?" if file == SERVICE else ""
        reading.faults.append(Fault(file=file, line=1, pointer="", message="the file is missing", hint=hint))
        return None
    reading.documents[file] = document
    value, faults = check_shape(document, shape)
    reading.faults += [*document.faults, *faults]
    if value is not None:
        reading.sections |= {f"{file}:{key}": getattr(value, key) for key in shape.model_fields}
    else:
        reading.sections |= {f"{file}:{key}": section for key, section in sound_sections(document, shape).items()}
    return value


def _read_sidecar(reading: Reading, root: Path, arch: str) -> None:
    file = sidecar_file(arch)
    document = read_document(root, file)
    if document is None:
        hint = 'it needs {"api_params": {"image": KEY}, "spec_params": {"inference": {"model_path": …}}}'
        fault = Fault(file=file, line=1, pointer="", message=f"the sidecar of {arch!r} is missing", hint=hint)
        reading.missing_sidecars[arch] = fault
        return
    reading.documents[file] = document
    sidecar, faults = check_shape(document, Sidecar)
    reading.faults += [*document.faults, *faults]
    if sidecar is not None:
        reading.sidecars[arch] = sidecar
