"""Markdown tables rendered from the catalog, and the places in the documents that hold them.

Between `<!-- generated:NAME -->` and `<!-- /generated -->` stands the table NAME; nobody edits it by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.locations import Fault, read_text
from moorage.catalog.shape_faults import nearest
from moorage.catalog.shapes import SamplingField

DOCUMENTS = ("SKILL.md", "README.md", "skills/platform/*/SKILL.md", "docs/*.md")
"""Where tables may stand, as globs."""
FIX = "run moor validate --write"

_MARK = re.compile(r"^<!-- (?:generated:(?P<name>[^ ]*)|(?P<end>/generated)) -->$", re.MULTILINE)


def render_tables(catalog: Catalog) -> dict[str, str]:
    """Name → Markdown of every table, without a newline at the end."""
    return {
        "archs": archs_table(catalog),
        "entry-fields": entry_fields_table(catalog),
        "images": images_table(catalog),
        "media": media_table(catalog),
        "model-paths": model_paths_table(catalog),
        "responses": responses_table(catalog),
        "sampling": sampling_table(catalog, catalog.archs),
        **{f"sampling-{arch}": sampling_table(catalog, [arch]) for arch in catalog.archs},
        "secrets": secrets_table(catalog),
    }


def archs_table(catalog: Catalog) -> str:
    """What each arch runs, takes and answers."""
    rows = []
    for arch in catalog.archs:
        command, rules = catalog.command(arch), catalog.rules(arch)
        paths = catalog.service.readiness.contracts[command.family].paths
        joined = " then ".join(map(_code, paths)) if command.family == "tao" else " and ".join(map(_code, paths))
        media = {"required": "required", "optional": "optional", "model": "as the model takes"}[rules.media]
        rows.append([_code(arch), _image(catalog, arch), _model_path(catalog, arch), media, rules.reply, joined])
    return _table(["Arch", "Image", "Model path", "Images and videos", "Reply", "Ready when 200 from"], rows)


def entry_fields_table(catalog: Catalog) -> str:
    """Fields of a registry entry that some platform writes, and which."""
    registry = catalog.service.service_registry
    written = registry.written_by_platform
    rows = []
    for name, meaning in registry.fields.items():
        platforms = [platform for platform, names in written.items() if name in names]
        if platforms:
            rows.append([_code(name), "all" if len(platforms) == len(written) else ", ".join(platforms), meaning])
    return _table(["Field", "Written by", "Meaning"], rows)


def images_table(catalog: Catalog) -> str:
    """Image keys: what overrides them and what they stand for."""
    defaults = catalog.service.docker_image_defaults
    rows = [
        [_code(key), _code(defaults.env_overrides[key]), _code(target), _code(_uri(catalog, target))]
        for key, target in defaults.mapping.items()
    ]
    return _table(["Image key", "Overridden by", "`versions.yaml`", "Image"], rows)


def media_table(catalog: Catalog) -> str:
    """Files that the archs take, with the media type that is sent."""
    rows = []
    for arch in catalog.archs:
        rules = catalog.rules(arch)
        types = [
            ", ".join(f"{_code(suffix)} {rules.mime_types[suffix]}" for suffix in suffixes)
            for suffixes in (rules.image_suffixes, rules.video_suffixes)
        ]
        rows.append([_code(arch), *types])
    return _table(["Arch", "Images", "Videos"], _merged(rows))


def model_paths_table(catalog: Catalog) -> str:
    """Forms of a model path, and why some are refused."""
    rows = [
        [_code(form.form), "yes" if form.accepted else "no", form.meaning, form.example]
        for form in catalog.service.model_path_protocols
    ]
    return _table(["Form", "Taken", "Meaning", "Example"], _merged(rows))


def responses_table(catalog: Catalog) -> str:
    """What the servers answer instead of a completion."""
    rows = [
        [str(row.status), ", ".join(map(_code, row.error_types)), row.meaning, row.action]
        for row in catalog.request.container_response_shapes.statuses
    ]
    return _table(["Status", "`error.type`", "Meaning", "What to do"], rows)


def sampling_table(catalog: Catalog, archs: Sequence[str]) -> str:
    """The sampling fields of some archs; with several, a column says which of them each row is for."""
    rows = []
    for arch in archs:
        for name, field in catalog.sampling_fields(arch).items():
            default = "none" if field.default is None else str(field.default)
            row = [_code(field.flag), field.type, default, _range(field), field.description]
            rows.append([_code(arch), _code(name), *row])
    head = ["Field", "Flag", "Type", "Default", "Range", "Meaning"]
    if len(archs) == 1:
        return _table(head, [row[1:] for row in rows])
    order = list(dict.fromkeys(row[1] for row in rows))
    rows.sort(key=lambda row: order.index(row[1]))
    return _table(["Archs", *head], _merged(rows))


def secrets_table(catalog: Catalog) -> str:
    """Secret variables, and how far they go."""
    secrets = catalog.service.secrets_handling
    rows = [[_code(name), "the service's environment, when its arch needs it"] for name in secrets.secret_env_vars]
    rows += [[_code(name), "this machine only"] for name in secrets.host_secret_env_vars]
    return _table(["Variables", "Go to"], _merged(rows))


def stale_tables(root: Path) -> list[Fault]:
    """A fault for every generated place that is not fresh or names no table.

    Raises UsageError when the catalog does not load.
    """
    tables = render_tables(load_catalog(root))
    return [fault for file, text in _documents(root) for fault in _replace(file, text, tables)[1]]


def write_tables(root: Path) -> list[str]:
    """Write every table anew; the files that changed. Raises UsageError when the catalog does not load."""
    tables = render_tables(load_catalog(root))
    changed = []
    for file, text in _documents(root):
        fresh = _replace(file, text, tables)[0]
        if fresh != text:
            (root / file).write_text(fresh, encoding="utf-8")
            changed.append(file)
    return changed


def documents(root: Path) -> list[str]:
    """The files that may hold tables, relative to `root`."""
    found = {path.relative_to(root).as_posix() for pattern in DOCUMENTS for path in root.glob(pattern)}
    return sorted(found)


def _documents(root: Path) -> Iterator[tuple[str, str]]:
    for file in documents(root):
        text = read_text(root, file)
        if isinstance(text, str):
            yield file, text


def _replace(file: str, text: str, tables: dict[str, str]) -> tuple[str, list[Fault]]:
    """The text with fresh tables, and a fault for each place that was not fresh or is no place."""
    faults: list[Fault] = []
    pieces: list[str] = []
    start = 0  # of what has not been copied yet
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if mark["end"] and opened:
            table, name = text[opened.end() : mark.start()], opened["name"]
            fresh = f"\n\n{tables[name]}\n\n" if name in tables else table
            if name not in tables:
                faults.append(_fault(file, text, opened, f"no table {name!r}", nearest(name, sorted(tables))))
            elif table != fresh:
                faults.append(_fault(file, text, opened, f"the table {name!r} is not fresh", FIX))
            pieces += [text[start : opened.end()], fresh]
            start, opened = mark.start(), None
        elif mark["end"]:
            faults.append(_fault(file, text, mark, "the end of a table that does not begin", "remove the line"))
        else:
            if opened:
                faults.append(_unclosed(file, text, opened))
            opened = mark
    if opened:
        faults.append(_unclosed(file, text, opened))
    return "".join([*pieces, text[start:]]), faults


def _unclosed(file: str, text: str, opened: re.Match[str]) -> Fault:
    message = f"the table {opened['name']!r} does not end"
    return _fault(file, text, opened, message, "add a line <!-- /generated -->")


def _fault(file: str, text: str, mark: re.Match[str], message: str, hint: str) -> Fault:
    line = text.count("\n", 0, mark.start()) + 1
    return Fault(file=file, line=line, pointer="", message=message, hint=hint)


def _merged(rows: list[list[str]]) -> list[list[str]]:
    """Rows that differ in the first cell alone as one row, which lists those cells."""
    firsts: dict[tuple[str, ...], list[str]] = {}
    for first, *rest in rows:
        firsts.setdefault(tuple(rest), []).append(first)
    return [[", ".join(cells), *rest] for rest, cells in firsts.items()]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _image(catalog: Catalog, arch: str) -> str:
    sidecar = catalog.sidecars.get(arch)
    key = sidecar.api_params.image if sidecar else ""
    return _code(_uri(catalog, key or catalog.service.network_config_files.fallback_image_key))


def _uri(catalog: Catalog, key: str) -> str:
    """The image without any variable: what a reader of the documents gets."""
    target = catalog.service.docker_image_defaults.mapping.get(key, key).removeprefix("images.")
    group, _, name = target.partition(".")
    return catalog.versions.images.get(group, {}).get(name, target)


def _model_path(catalog: Catalog, arch: str) -> str:
    sidecar, command = catalog.sidecars.get(arch), catalog.command(arch)
    kind = "folder" if sidecar is None or "folder" in sidecar.spec_params.inference.model_path else "model"
    hub = "`hf_model://` with `--model-key`" if command.needs_model_key_for_hf else "`hf_model://`"
    return f"{kind}, or {hub}"


def _range(field: SamplingField) -> str:
    if field.minimum is not None and field.maximum is not None:
        return f"{field.minimum:g} to {field.maximum:g}"
    bounds = (("≥", field.minimum), (">", field.exclusive_minimum), ("≤", field.maximum))
    return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None) or "any"
