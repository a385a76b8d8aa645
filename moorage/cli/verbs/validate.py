"""moor validate"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moorage.cli.output import Output
from moorage.errors import UsageError
from moorage.launch.plane import Plane

SUMMARY = "Check every reference file, skill and manifest of a checkout; all faults at once."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", nargs="?", metavar="DIR", help="a checkout (default: this one)")
    parser.add_argument("--check", action="store_true", help="generated files must be fresh too")
    parser.add_argument("--write", action="store_true", help="write the generated files anew first")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.catalog.bundle import bundle_root
    from moorage.catalog.schemas import write as write_schemas
    from moorage.catalog.tables import write_tables
    from moorage.catalog.validate import validate
    from moorage.cli.help_text import HELP
    from moorage.cli.serving_tables import REASONS
    from moorage.serving.spec.kwargs_reference import bundle_faults, refresh

    root = Path(args.dir) if args.dir else bundle_root(plane.environ)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder", hint="give the folder of a checkout")
    if args.write:
        write_schemas(root)
        write_tables(root)
        for section in (HELP, REASONS):
            section.write(root)
        refresh(root, plane.environ)
    report = validate(root, check=args.check)
    stale = (*HELP.faults(root), *REASONS.faults(root)) if args.check else ()
    arguments = bundle_faults(root, plane.environ, check=args.check)
    faults = [asdict(fault) for fault in (*report.faults, *arguments, *stale)]
    if faults:
        raise UsageError(
            f"{len(faults)} faults in {report.files} files", code="invalid_references", data={"faults": faults}
        )
    return {"files": report.files, "faults": []}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"{data['files']} files, no faults")
