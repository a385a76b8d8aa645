"""A model's tokenizer from its folder: the only place where tokenizer files are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.errors import PreflightError

__all__ = ["load_tokenizer"]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json and, as far as they are there, tokenizer_config.json, special_tokens_map.json,
    generation_config.json and the chat template.

    Raises PreflightError: `tokenizer_missing` when there is no tokenizer.json, `tokenizer_unreadable` when a file
    cannot be read or used. `template` of the tokenizer is None when the model has no chat template.
    """
    path = folder / "tokenizer.json"
    try:
        spec = path.read_bytes()
    except FileNotFoundError:
        raise PreflightError(
            f"{folder} has no tokenizer.json",
            code="tokenizer_missing",
            hint="give the folder of a model with a fast tokenizer; others are converted by transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        ) from None
    except OSError as fault:
        raise _unreadable(path, fault) from None
    config = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
    generation = _read_json(folder / "generation_config.json") or _read_json(folder / "config.json")
    if generation.get("eos_token_id") is not None:
        config["eos_token_id"] = generation["eos_token_id"]
    return Tokenizer.from_json(spec, config, _template(folder, config))


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """The file chat_template.jinja before the one inside the configuration, as transformers has it."""
    path = folder / "chat_template.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as fault:
        raise _unreadable(path, fault) from None
    legacy = _read_json(folder / "chat_template.json").get("chat_template")
    inside = config.get("chat_template") if legacy is None else legacy
    if isinstance(inside, list):
        named = {one.get("name"): one.get("template") for one in inside if isinstance(one, dict)}
        inside = named.get("default") or named.get("tool_use")
    return inside if isinstance(inside, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    """Empty when the file is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise _unreadable(path, fault) from None
    return value if isinstance(value, dict) else {}


def _unreadable(path: Path, fault: Exception) -> PreflightError:
    return PreflightError(
        f"{path} cannot be read: {fault}", code="tokenizer_unreadable", hint="the file is damaged, or not yours to read"
    )
