"""Chat templates that have names, as some models have them beside or instead of a single one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moorage.errors import PreflightError

__all__ = ["named_templates"]


def named_templates(folder: Path) -> dict[str, str]:
    """Name → source: the list in tokenizer_config.json, and the files of additional_chat_templates.

    Raises PreflightError `tokenizer_unreadable`. Empty: the model has one template, or none.
    """
    named: dict[str, str] = {}
    config = folder / "tokenizer_config.json"
    try:
        value: Any = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
        inside = value.get("chat_template") if isinstance(value, dict) else None
        for one in inside if isinstance(inside, list) else []:
            if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("template"), str):
                named[one["name"]] = one["template"]
        for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
            named[path.stem] = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as fault:
        raise PreflightError(
            f"the templates of {folder} cannot be read: {fault}",
            code="tokenizer_unreadable",
            hint="a file is damaged, or not yours to read",
        ) from None
    return named
