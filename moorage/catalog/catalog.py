"""The catalog: the reference files as one typed, checked value.

`load_catalog` refuses files with faults, so that code which has a `Catalog` need not doubt what is in it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from moorage.catalog.crosschecks import cross_faults
from moorage.catalog.locations import Fault
from moorage.catalog.reading import Reading, read_references, read_templates
from moorage.catalog.shapes import (
    ArchRequestRules,
    CodeTemplates,
    ContainerCommand,
    RequestReference,
    SamplingField,
    ServiceReference,
    Sidecar,
    Versions,
)
from moorage.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What can be launched and asked. Names of archs given to its methods must be of `archs`."""

    root: Path
    """The bundle it was read from."""
    service: ServiceReference
    request: RequestReference
    sidecars: dict[str, Sidecar]
    """Arch → sidecar; an arch of TAO without one is not in it, and takes the fallback image key."""
    versions: Versions

    @property
    def archs(self) -> list[str]:
        """The valid names, sorted."""
        return sorted(self.service.valid_network_arch_config_basenames)

    @property
    def secret_names(self) -> list[str]:
        """Every variable whose value must never be seen, in a container or not."""
        secrets = self.service.secrets_handling
        return [*secrets.secret_env_vars, *secrets.host_secret_env_vars]

    def require_arch(self, name: str) -> str:
        """The arch of that name, whatever its case. Raises UsageError (`unknown_arch`) listing the valid ones."""
        lowered = name.lower()
        if lowered in self.archs:
            return lowered
        near = difflib.get_close_matches(lowered, self.archs, n=1, cutoff=0.4)
        raise UsageError(
            f"unknown network arch {name!r}: the archs are {', '.join(self.archs)}",
            code="unknown_arch",
            hint=f"did you mean {near[0]}?" if near else "vllm and sglang serve any model",
            next=["moor archs"],
        )

    def command(self, arch: str) -> ContainerCommand:
        """How the server of `arch` is started."""
        return self.service.container_commands[arch]

    def rules(self, arch: str) -> ArchRequestRules:
        """What the server of `arch` takes."""
        return self.request.network_arch_constraints[arch]

    def sampling_fields(self, arch: str) -> dict[str, SamplingField]:
        """Every sampling field that `arch` takes: the base fields, then its own; its own row wins."""
        rules = self.rules(arch)
        fields = self.request.chat_completions_request_body.fields | rules.fields
        return {name: field for name, field in fields.items() if name not in rules.unsupported_fields}


def load_catalog(root: Path) -> Catalog:
    """Read the reference files under `root`. Raises UsageError (`invalid_references`) with all their faults."""
    reading = read_references(root)
    service, request, versions = reading.service, reading.request, reading.versions
    faults = [*reading.faults, *cross_faults(reading), *_needed_sidecars(reading)]
    if faults or service is None or request is None or versions is None:
        raise invalid_references(root, faults)
    return Catalog(root=root, service=service, request=request, sidecars=reading.sidecars, versions=versions)


def load_templates(root: Path) -> CodeTemplates:
    """Read references/code-templates.yaml. Raises UsageError (`invalid_references`) with all its faults."""
    templates, faults = read_templates(root)
    if templates is None or faults:
        raise invalid_references(root, faults)
    return templates


def invalid_references(root: Path, faults: list[Fault]) -> UsageError:
    """The error that tells of `faults`, of which there is at least one."""
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return UsageError(
        f"{root / first.file}, line {first.line}: {first.message}{more}",
        code="invalid_references",
        hint=first.hint,
        next=[f"moor validate {root}"],
        data={"faults": [fault.as_dict() for fault in faults]},
    )


def _needed_sidecars(reading: Reading) -> list[Fault]:
    """Missing sidecars that nothing stands in for: those of archs that are not TAO's."""
    commands = reading.service.container_commands if reading.service else {}
    is_tao = {arch for arch, command in commands.items() if command.family == "tao"}
    return [fault for arch, fault in reading.missing_sidecars.items() if arch not in is_tao]
