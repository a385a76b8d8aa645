"""The tokenizer that a caller has, as the renderer that prompts are made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.errors import PreflightError

if TYPE_CHECKING:
    from moorage.engines.rendering.plan import Renderer

__all__ = ["folder_of", "renderer_of"]

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def folder_of(tokenizer: Any) -> str | None:
    """The folder or public name that it says it is from; None: none that one could read."""
    name = tokenizer if isinstance(tokenizer, str | Path) else getattr(tokenizer, "name_or_path", None)
    return str(name) if name else None


def renderer_of(tokenizer: Any) -> Renderer | None:
    """Of an object of transformers, as it is now: with the tokens that were added to it, and its template.

    None for a name or a folder, and for an object without a chat template. Raises PreflightError `tokenizer_unusable`
    for what is no fast tokenizer.
    """
    if isinstance(tokenizer, str | Path):
        return None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "to_str"):
        raise PreflightError(
            f"{type(tokenizer).__name__} is no fast tokenizer of transformers",
            code="tokenizer_unusable",
            hint="give AutoTokenizer.from_pretrained(…), a folder with tokenizer.json, or nothing",
        )
    template = _template(tokenizer)
    if template is None:
        return None
    from moorage.engines.rendering.plan import Renderer
    from moorage.engines.rendering.template import ChatTemplate
    from moorage.engines.rendering.tokenizer import Tokenizer

    spec = backend.to_str()
    config = {name: text for name in NAMED if isinstance(text := getattr(tokenizer, name, None), str)}
    eos = getattr(tokenizer, "eos_token_id", None)
    made = Tokenizer.from_json(_bytes(spec), {**config, "eos_token_id": eos}, template)
    return Renderer(made, ChatTemplate(template, made.named))


def _template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()), None)
    return template if isinstance(template, str) else None


def _bytes(spec: Any) -> bytes:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return text.encode()
