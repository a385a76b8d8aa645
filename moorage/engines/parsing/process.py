"""Placeholder until the parser process is written (helper H2 replaces this file)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class ParserProcess:
    available = False

    def __init__(self, python: Path | None, tokenizer_folder: Path | None) -> None:
        del python, tokenizer_folder

    async def parse(self, text: str, **asked: Any) -> Any:
        del text, asked

    async def close(self) -> None:
        pass
