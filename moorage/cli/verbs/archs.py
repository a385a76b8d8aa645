"""moor archs"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output, table
from moorage.launch.plane import Plane

SUMMARY = "What can be launched, and what each takes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --json."""


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.catalog.image import resolve_image
    from moorage.catalog.sampling import fields_of

    catalog = plane.catalog
    rows = []
    for arch in catalog.archs:
        command, rules = catalog.service.container_commands[arch], catalog.request.network_arch_constraints[arch]
        image, sidecar = resolve_image(catalog, arch, plane.environ), catalog.sidecars.get(arch)
        rows.append(
            {
                "network_arch": arch,
                "image_key": image.key,
                "image": image.image,
                "family": command.family,
                "program": command.program,
                "model_path": sidecar.spec_params.inference.model_path if sidecar else None,
                "needs_model_key": command.needs_model_key_for_hf,
                "media": rules.media,
                "streams": command.streams,
                "fields": {name: field.model_dump() for name, field in fields_of(catalog, arch).items()},
            }
        )
    return {"archs": rows}


def show(data: dict[str, Any], out: Output) -> None:
    rows = [["ARCH", "MEDIA", "IMAGE", "FIELDS"]]
    rows += [[one["network_arch"], one["media"], one["image"], " ".join(one["fields"])] for one in data["archs"]]
    for row in table(rows):
        out.line(row)
