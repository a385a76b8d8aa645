"""moor template"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moorage.cli.output import Output
from moorage.errors import FailedError, MoorageError, NotFoundError, PreflightError, UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

SUMMARY = "What a model's chat template does to sessions, found by trying it before a run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"], help="check: try it, and say what a session will do")
    parser.add_argument("path", metavar="PATH", help="a folder with tokenizer.json and tokenizer_config.json")
    parser.add_argument("--kwargs", metavar="JSON", help="chat_template_kwargs of every request, a JSON object")
    parser.add_argument("--tools", metavar="FILE", help="OpenAI tools to try it with, a JSON list")
    parser.add_argument("--name", metavar="NAME", help="of several named templates: this one")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    del plane
    kwargs, tools = _kwargs(args.kwargs), _tools(args.tools)
    folder = _folder(args.path)
    try:
        return _checked(folder, args.name, kwargs, tools, out)
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "templates need the gateway's extra", "gateway") from fault


def show(data: dict[str, Any], out: Output) -> None:
    from moorage.cli.template_report import told

    for line in told(data):
        out.line(line)


def _checked(
    folder: Path, name: str | None, kwargs: dict[str, Any], tools: list[Any] | None, out: Output
) -> dict[str, Any]:
    from datetime import datetime

    import msgspec

    from moorage.cli.template_report import visible
    from moorage.engines.rendering.checking.check import check_template
    from moorage.engines.template_names import named_templates
    from moorage.engines.tokenizer_files import load_tokenizer

    tokenizer = load_tokenizer(folder)
    others = named_templates(folder)
    source = tokenizer.template if name is None else others.get(name)
    if source is None:
        raise _no_template(folder, name, sorted(others))
    out("checking", f"trying the chat template of {folder}")
    try:
        report = check_template(
            tokenizer, source, others=others, kwargs=kwargs, tools=tools, now=datetime.now().replace(microsecond=0)
        )
    except UsageError as fault:  # TemplateFault, or half a character in what it writes
        raise FailedError(
            f"the chat template of {folder} cannot be used: {visible(fault.message)}",
            code="template_failed",
            hint=fault.hint or "it fails on a single question of a user; sessions can be passthrough only",
        ) from None
    return {"path": str(folder), "name": name, **msgspec.to_builtins(report)}


def _folder(given: str) -> Path:
    folder = Path(given)
    try:
        is_folder, is_there = folder.is_dir(), folder.exists()
    except OSError as fault:  # a name that is too long, a folder above that is not ours to look into
        raise UsageError(f"{given} cannot be looked at: {fault.strerror}", code="bad_value") from None
    if is_folder:
        return folder
    if is_there:
        raise UsageError(f"{given} is no folder", code="bad_value", hint="give the folder that holds tokenizer.json")
    raise NotFoundError(f"there is no folder {given}", hint="give the folder of a model, or of its tokenizer alone")


def _no_template(folder: Path, name: str | None, others: list[str]) -> MoorageError:
    if name is not None:
        listed = ", ".join(others) or "none has a name"
        return UsageError(f"--name {name!r}: {folder} has no template of that name: {listed}", code="bad_value")
    hint = "it has no chat_template in tokenizer_config.json and no chat_template.jinja: sessions are passthrough"
    return PreflightError(f"{folder} has no chat template", code="template_missing", hint=hint)


def _kwargs(given: str | None) -> dict[str, Any]:
    import json

    try:
        value = {} if given is None else json.loads(given)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"--kwargs is no JSON: {fault}", code="bad_value") from None
    if not isinstance(value, dict):
        raise UsageError(f"--kwargs {given}: a JSON object", code="bad_value", hint='{"enable_thinking": false}')
    return value


def _tools(given: str | None) -> list[Any] | None:
    import json

    if given is None:
        return None
    try:
        value = json.loads(Path(given).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise UsageError(f"--tools {given} cannot be read: {fault}", code="bad_value") from None
    if not isinstance(value, list) or not value or not all(_is_tool(one) for one in value):
        hint = 'a list of {"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}'
        raise UsageError(f"--tools {given}: no list of OpenAI tools", code="bad_value", hint=hint)
    return value


def _is_tool(value: Any) -> bool:
    function = value.get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])
