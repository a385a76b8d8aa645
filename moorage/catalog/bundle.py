"""The bundle: the folder that holds `references/`, `versions.yaml` and `SKILL.md`.

It is the checkout when the package runs from one, and a copy inside the package when it was installed from a wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moorage.catalog.locations import read_document
from moorage.errors import PreflightError, UsageError

BUNDLE_ENV = "MOORAGE_BUNDLE"
MARK = Path("references", "service.yaml")
"""What a folder must hold to be a bundle."""

PACKAGE = Path(__file__).resolve().parents[1]


def bundle_root(environ: Mapping[str, str], *, package: Path = PACKAGE) -> Path:
    """The bundle of `MOORAGE_BUNDLE`, else of the checkout around `package`, else of the wheel that holds it.

    Raises PreflightError when none is there, and for a MOORAGE_BUNDLE that is no bundle, which is never passed over.
    """
    chosen = environ.get(BUNDLE_ENV)
    if chosen:
        return _chosen_root(chosen)
    places = (package.parent, package / "bundle")
    for place in places:
        if (place / MARK).is_file():
            return place
    raise PreflightError(
        f"the reference files are not there: no {MARK} in {' or '.join(str(place) for place in places)}",
        code="bundle_missing",
        hint=f"install the package again, or set {BUNDLE_ENV} to a checkout of moorage",
    )


def read_yaml(path: Path) -> Any:
    """The values of one YAML file. Raises UsageError for a file that is missing, malformed or has a key twice."""
    document = read_document(path.parent, path.name)
    if document is None:
        raise UsageError(f"there is no file {path}", code="no_such_file")
    if document.faults:
        first = document.faults[0]
        raise UsageError(
            f"{path}, line {first.line}: {first.message}",
            code="invalid_yaml",
            hint=first.hint,
            data={"faults": [fault.as_dict() for fault in document.faults]},
        )
    return document.value


def _chosen_root(text: str) -> Path:
    root = Path(text).expanduser().absolute()
    if (root / MARK).is_file():
        return root
    raise PreflightError(
        f"{BUNDLE_ENV} is {text!r}, which holds no {MARK}",
        code="bundle_missing",
        hint=f"set {BUNDLE_ENV} to a checkout of moorage, or unset it to use the files that came with the package",
        next=[f"unset {BUNDLE_ENV}"],
    )
