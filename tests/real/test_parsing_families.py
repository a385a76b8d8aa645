"""Every parser of the installed vLLM through the program: made, and where their makers' form is known, shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.parsing.feeding import Piece
from moorage.engines.parsing.names import REASONING_PARSERS, TOOL_PARSERS, WHOLE_ALONE
from moorage.engines.parsing.process import Asked, ParserProcess
from moorage.engines.parsing.told import Hidden, Told
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.tokenizer_files import load_tokenizer
from tests.real.parser_texts import TEXTS, folder_with

pytestmark = pytest.mark.vllm

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "times": {"type": "integer"}},
        },
    },
}
NOT_MADE = {
    "tool": {"cohere_command3", "cohere_command4", "hf"},
    "reasoning": {"cohere_command3", "cohere_command4", "hf", "k2_horizon", "minimax_m3", "olmo3"},
}
"""They ask for a package, or for tokens and metadata of their own model's tokenizer alone."""

Do = Callable[[Any], Any]


@pytest.fixture(scope="module")
def folder(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with(nano, tmp_path_factory.mktemp("families") / "tokenizer")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def process_and_do(folder: Path, vllm_python: Path) -> Iterator[tuple[ParserProcess, Do]]:
    with asyncio.Runner() as runner:
        process = ParserProcess(vllm_python, folder)
        yield process, runner.run
        runner.run(process.close())


def test_every_parser_is_made_or_says_why_not(process_and_do: tuple[ParserProcess, Do]) -> None:
    process, do = process_and_do
    for name in TOOL_PARSERS:
        do(process.check(name, None))
    for name in REASONING_PARSERS:
        do(process.check(None, name))
    assert {name for name in TOOL_PARSERS if process.fault("tool", name)} == NOT_MADE["tool"]
    assert {name for name in REASONING_PARSERS if process.fault("reasoning", name)} == NOT_MADE["reasoning"]


def pieces_of(tokenizer: Tokenizer, ids: list[int]) -> list[Piece]:
    """As an engine streams them: a piece a token, half characters wait."""
    pieces, said = [], ""
    for length in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:length], skip_special=False)
        if text.endswith("\ufffd"):
            text = said
        pieces.append(Piece(text[len(said) :], [ids[length - 1]]))
        said = text
    return pieces


@pytest.mark.parametrize("name", sorted(TEXTS))
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_family_is_read_whole_and_as_it_comes(
    process_and_do: tuple[ParserProcess, Do], tokenizer: Tokenizer, name: str, size: int
) -> None:
    process, do = process_and_do
    asked = Asked(tool_parser=name, tools=[LOOK])
    text = TEXTS[name]
    ids = tokenizer.encode_whole(text)
    assert tokenizer.decode(ids, skip_special=False) == text
    whole = do(process.parse(text, asked=asked, ids=ids))
    assert whole.error is None
    [call] = whole.tool_calls
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"])["place"].strip() == "Rome"
    if name in WHOLE_ALONE:
        return
    told = Told(Hidden(tokenizer.special_texts), new_id=lambda: "x")

    async def stream() -> list[dict[str, Any]]:
        found = process.stream(asked)
        pieces = pieces_of(tokenizer, ids)
        deltas = [told.add(one) for some in _batched(pieces, size) for one in await found.feed(some)]
        assert found.broken is None
        found.close()
        return [delta for delta in deltas if delta]

    deltas = do(stream())
    message = {"role": "assistant", "content": whole.content, "tool_calls": whole.tool_calls}
    settled, rest = told.settle(message, cut=False)
    parts = [part for delta in [*deltas, rest] for part in delta.get("tool_calls", ())]
    assert "".join(part["function"]["arguments"] for part in parts) == settled["tool_calls"][0]["function"]["arguments"]
    assert json.loads(settled["tool_calls"][0]["function"]["arguments"])["place"].strip() == "Rome"
    assert "".join(delta.get("content") or "" for delta in [*deltas, rest]) == (settled["content"] or "")


def _batched(pieces: list[Piece], size: int) -> list[list[Piece]]:
    return [pieces[start : start + size] for start in range(0, len(pieces), size)]
