"""Names of parsers are checked without vLLM."""

from __future__ import annotations

import pytest

from moorage.engines.parsing.names import REASONING_PARSERS, TOOL_PARSERS, check_parsers
from moorage.errors import UsageError


def test_known_names_and_none_pass():
    check_parsers(None, None)
    check_parsers("hermes", "qwen3")
    for name in TOOL_PARSERS:
        check_parsers(name, None)
    for name in REASONING_PARSERS:
        check_parsers(None, name)


@pytest.mark.parametrize(
    ("tool", "reasoning", "code"), [("hermse", None, "unknown_tool_parser"), (None, "", "unknown_reasoning_parser")]
)
def test_an_unknown_name_is_refused_with_the_list(tool, reasoning, code):
    with pytest.raises(UsageError) as caught:
        check_parsers(tool, reasoning)
    assert caught.value.code == code
    assert caught.value.http_status == 400
    assert "deepseek_v3" in caught.value.message
    assert caught.value.hint
