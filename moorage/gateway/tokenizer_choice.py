"""Which tokenizer a gateway uses: the folder that was named, else the model's own if it is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.engines.tokenizer_files import load_tokenizer
from moorage.errors import MoorageError, PreflightError

if TYPE_CHECKING:
    from moorage.engines.fleet.endpoint import Endpoint
    from moorage.engines.rendering.plan import Renderer

__all__ = ["find_tokenizer_folder", "load_renderer"]

FILES = ["tokenizer*.json", "chat_template.*", "generation_config.json"]


def load_renderer(folder: Path, *, named: bool) -> Renderer | None:
    """The renderer of a tokenizer's folder. One that cannot be used: PreflightError when it was `named`, else None."""
    from moorage.engines.rendering.plan import Renderer
    from moorage.engines.rendering.template import ChatTemplate

    try:
        tokenizer = load_tokenizer(folder)
        if tokenizer.template is None:
            hint = "use --mode passthrough without --tokenizer-path"
            raise PreflightError(f"{folder} has no chat template", code="template_missing", hint=hint)
        return Renderer(tokenizer, ChatTemplate(tokenizer.template, tokenizer.named))
    except MoorageError:
        if named:
            raise
        return None


def find_tokenizer_folder(named: Path | None, endpoints: Sequence[Endpoint], environ: Mapping[str, str]) -> Path | None:
    """The folder; a model's public name is looked up in the Hugging Face cache, then fetched (tokenizer files only)."""
    if named is not None:
        return named
    for name in _names(endpoints):
        if Path(name, "tokenizer.json").is_file():
            return Path(name)
        if name.count("/") == 1 and not name.startswith(("/", ".")):
            fetched = _fetched(name, environ)
            if fetched is not None:
                return fetched
    return None


def _names(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    for endpoint in endpoints:
        for name in (endpoint.tokenizer_name, endpoint.model_name):
            if name and name not in ("none", "default"):
                yield name


def _fetched(name: str, environ: Mapping[str, str]) -> Path | None:
    from huggingface_hub import snapshot_download

    for local in (True, False):
        if not local and environ.get("HF_HUB_OFFLINE"):
            return None
        try:
            return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=local))
        except Exception:  # noqa: S112 - whatever keeps it away, the next way is tried, then passthrough
            continue
    return None
